"""Steps of the way of frames that can be switched on one by one while their gain is being measured: `Steps`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

VARIABLE: Final = "YOLOSHIP_GPU_STEPS"


@dataclass(frozen=True, slots=True)
class Steps:
    """Which steps are on.

    Attributes:
        abreast: How many batches compute at once, in the order of their launches; 0: all.
        ordered: Whether the uploads of one batch follow those of the last one.
    """

    abreast: int = 0
    ordered: bool = False

    @classmethod
    def chosen(cls) -> Steps:
        """What the environment variable names: ``abreast=2,ordered``."""
        named = dict(part.partition("=")[::2] for part in os.environ.get(VARIABLE, "").split(",") if part)
        return cls(int(named.get("abreast", 0)), "ordered" in named)
