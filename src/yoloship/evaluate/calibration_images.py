"""What calibration images are worth: copies and images of one colour teach a quantizer nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.errors import InputError
from yoloship.pipeline.detector import as_picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from yoloship.graph.sensitivity import Told
    from yoloship.pipeline.detector import Source

FEW_IMAGES: Final = 50
"""Fewer distinct images than this leave ranges to chance. NVIDIA's guides name 500 for ImageNet classifiers; of the
demo model's scenes, 24 were enough (docs/precision.md)."""


@dataclass(frozen=True, slots=True)
class ImageSurvey:
    """What a look at all images showed.

    Attributes:
        images: How many there are.
        copies: How many have exactly the pixels of an earlier one.
        plain: How many have a single colour, such as black frames.
    """

    images: int
    copies: int
    plain: int

    def warnings(self) -> Iterator[str]:
        """Sentences for the user; none if all is well."""
        distinct = self.images - self.copies
        if distinct < FEW_IMAGES:
            count = "1 calibration image" if self.images == 1 else f"{self.images} calibration images"
            yield (
                f"only {count}: ranges found on so few may not hold in use; take {FEW_IMAGES} or more images like "
                "those in use"
                if not self.copies
                else f"only {distinct} distinct images among {count}: ranges found on so few may not hold in use"
            )
        elif self.copies:
            yield f"{self.copies} of {self.images} calibration images are copies of others"
        if self.plain:
            yield f"{self.plain} of {self.images} calibration images have a single colour and teach nothing"


def survey(sources: Sequence[Source], told: Told | None = None) -> ImageSurvey:
    """Look at all images once, before anything is calibrated.

    Args:
        sources: Images as `Detector.__call__` takes them; one at a time is held.
        told: Told of the progress.

    Raises:
        ImageError: an image cannot be read.
        InputError: every image has a single colour.
    """
    seen: set[bytes] = set()
    plain = 0
    for done, source in enumerate(sources):
        if told is not None:
            told("reading images", done, len(sources))
        image = as_picture(source)
        digest = hashlib.sha256(repr(image.shape).encode())
        digest.update(np.ascontiguousarray(image).data)
        seen.add(digest.digest())
        plain += bool((image == image[:1, :1]).all())
    if plain == len(sources):
        raise InputError(
            "every image has a single colour, so there is nothing to calibrate with",
            subject="calibration images",
            expected="images like those in use",
            got=f"{plain} such as black frames",
        )
    return ImageSurvey(len(sources), len(sources) - len(seen), plain)
