"""How the versions of the official tools make masks from mask coefficients and prototypes: `MASK_RULES`.

The edges of their masks differ by a pixel or two. The first and the last rule equal reference masks of YOLOv5 7.0 and
of Ultralytics 8.4.190 to the pixel. When a step changed is in the project's public history: pull requests 13939 (logits
in place of probabilities, June 2024, which is about 8.2.43), 19537 (objects without a mask are dropped, 8.3.84) and
24463 (cut after upsampling, after 8.4.60).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NEWEST_RULE: Final = "ultralytics-8.4.61"
_VERSION: Final = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})")


@dataclass(frozen=True, slots=True)
class MaskRule:
    """How a version of the official tools makes masks.

    Attributes:
        squashes: Whether the logits become σ(logits) before they are upsampled, and 0.5 is the limit in place of 0.
        crops_first: Whether the mask is cut to the box at the resolution of the prototypes, before it is upsampled, so
            that its edges spread beyond the box. Otherwise it is cut afterwards, at the box itself.
        drops_empty: Whether objects without a single pixel of mask are dropped.
    """

    squashes: bool
    crops_first: bool
    drops_empty: bool

    @property
    def limit(self) -> float:
        """The value that a pixel of the mask must exceed."""
        return 0.5 if self.squashes else 0.0


MASK_RULES: Final[Mapping[str, MaskRule]] = MappingProxyType(
    {
        "yolov5": MaskRule(squashes=True, crops_first=True, drops_empty=False),
        "ultralytics-8.2.43": MaskRule(squashes=False, crops_first=True, drops_empty=False),
        "ultralytics-8.3.84": MaskRule(squashes=False, crops_first=True, drops_empty=True),
        NEWEST_RULE: MaskRule(squashes=False, crops_first=False, drops_empty=True),
    }
)
"""By the version with which each began. Ultralytics before 8.2.43 has YOLOv5's."""


def rule_of(version: object) -> str:
    """The name of the rule that a version of Ultralytics has: ``8.3.63`` has ``ultralytics-8.2.43``.

    Args:
        version: As in a checkpoint or the metadata of a graph. Anything that is not a version gets the newest rule.
    """
    numbers = version_of(version)
    if numbers is None:
        return NEWEST_RULE
    began = [name for name in MASK_RULES if (first := version_of(name)) is None or first <= numbers]
    return began[-1]


def version_of(text: object) -> tuple[int, ...] | None:
    """The three numbers of a version of Ultralytics, ``8.3.63``; None if there are none in the text."""
    match = _VERSION.search(text) if isinstance(text, str) else None
    return None if match is None else tuple(map(int, match.groups()))
