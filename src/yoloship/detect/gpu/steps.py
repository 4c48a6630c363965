"""Steps of the way of one frame that can be switched on one by one while their gain is being measured: `Steps`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from yoloship.cuda.postprocess import Start

VARIABLE: Final = "YOLOSHIP_GPU_STEPS"


@dataclass(frozen=True, slots=True)
class Steps:
    """Which steps are on.

    Attributes:
        direct: A lone frame is letterboxed while it is fetched from pinned memory.
        ahead: That kernel is launched by itself, ahead of the graph.
        pieces: In how many pieces a lone frame of ordinary memory is copied while the kernel follows; 0: before.
        start: When suppression begins, against decoding.
        band: Rows of the canvas for a block of that kernel.
        abreast: How many batches compute at once, in the order of their launches; 0: all.
        chase: In how many pieces a lone pinned frame goes up while the kernel follows; 0: not.
        ordered: Whether the uploads of one batch follow those of the last one.
    """

    direct: bool = False
    ahead: bool = False
    pieces: int = 0
    start: Start = "behind"
    band: int = 8
    abreast: int = 0
    ordered: bool = False
    chase: int = 0

    @classmethod
    def chosen(cls) -> Steps:
        """What the environment variable names: ``direct,ahead,early,pieces=2,band=4``."""
        named = dict(part.partition("=")[::2] for part in os.environ.get(VARIABLE, "").split(",") if part)
        start: Start = "rehearsing" if "rehearse" in named else "early" if "early" in named else "behind"
        return cls(
            "direct" in named, "ahead" in named, int(named.get("pieces", 0)), start,
            int(named.get("band", 8)), int(named.get("abreast", 0)), "ordered" in named,
            int(named.get("chase", 0)),
        )  # fmt: skip
