"""The images with the most errors as figures: a small JPEG in the page, and what was found, missed and invented on it.

What is drawn lies over the image as SVG, so it stays sharp, its colours follow the page, and each kind can be hidden.
"""

from __future__ import annotations

from base64 import b64encode
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.text import counted
from yoloship.errors import YoloshipError
from yoloship.images import read_image
from yoloship.validate.report.markup import Markup, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.validate.record import Mark, WorstImage
    from yoloship.validate.report.markup import Content


MAX_BYTES: Final = 4 << 20
"""Of all JPEG files in a page together, before base64."""
SIDES_PX: Final = (720, 480, 320, 200)
"""The longer side of an image in the page: the first with which all of them fit."""
QUALITY: Final = 80
MAX_MARKS: Final = 300
"""Objects drawn on an image; what is found is left out first."""
MAX_LABELS: Final = 60
"""Names of errors of one kind on an image; if there are more, none is written."""
MANY: Final = 12
"""Errors from which their names are shown only on the large image."""
ORDER: Final = ("found", "invented", "missed")
KIND_NAMES: Final = MappingProxyType({"found": "correct", "invented": "false", "missed": "missed"})
"""What the reader sees for each kind of mark."""


def picture_figures(worst: Sequence[WorstImage], prefix: str, most_bytes: int = MAX_BYTES) -> list[Markup]:
    """A figure for each image.

    Args:
        worst: The images.
        prefix: Begins the id of each figure, and that of their section; unique in the page.
        most_bytes: Of their JPEG files together.
    """
    sizes = _jpegs(worst, most_bytes)
    return [_figure(one, jpeg, prefix, index) for index, (one, jpeg) in enumerate(zip(worst, sizes, strict=True))]


def _jpegs(worst: Sequence[WorstImage], most_bytes: int) -> list[tuple[bytes, tuple[int, int]] | None]:
    """The JPEG file of each image and the size of the original; None for an image that cannot be read any more."""
    for side in SIDES_PX:
        made = [_jpeg(one, side) for one in worst]
        if sum(len(one[0]) for one in made if one is not None) <= most_bytes:
            return made
    return [None] * len(worst)


def _jpeg(one: WorstImage, side: int) -> tuple[bytes, tuple[int, int]] | None:
    import cv2

    try:
        image = read_image(one.path)
    except YoloshipError:
        return None
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return (data.tobytes(), (height, width)) if done else None


def _figure(one: WorstImage, jpeg: tuple[bytes, tuple[int, int]] | None, prefix: str, index: int) -> Markup:
    name = f"{prefix}w{index}"
    counts = [f"{one.found} correct"] if one.found else []
    if not one.remark:
        counts += [f"{one.missed} missed", f"{one.invented} false"]
    caption = tag(
        "figcaption",
        tag("a", one.name, href=f"#{name}", title="enlarge"),
        tag("a", " ×", href=f"#{prefix}worst", class_="close", title="shrink"),
        tag("span", one.remark or ", ".join(counts), class_="hint"),
    )
    if jpeg is None:
        return tag(
            "figure", tag("p", "The image cannot be shown.", class_="hint"), caption, id=name, class_="card shot"
        )
    data, (height, width) = jpeg
    unit = max(width, height) / 100
    address = Markup(f"data:image/jpeg;base64,{b64encode(data).decode()}")
    drawn = tag(
        "svg",
        tag("image", href=address, width=width, height=height, preserveAspectRatio="none"),
        _marks(one.marks, width, unit),
        viewBox=f"0 0 {width} {height}", role="img",
        aria_label=f"{one.name}: {one.remark or counted(one.missed + one.invented, 'error')}",
        style=f"--unit:{unit:.3f}px",
    )  # fmt: skip
    crowded = " crowded" if one.missed + one.invented > MANY else ""
    return tag("figure", drawn, caption, id=name, class_=f"card shot{crowded}")


def _marks(marks: Sequence[Mark], width: int, unit: float) -> list[Content]:
    """The outlines, the errors on top; the labels of errors, as far as there is room."""
    ordered = sorted(marks, key=lambda mark: ORDER.index(mark.kind))[-MAX_MARKS:]
    drawn: list[Content] = []
    for kind in ORDER:
        own = [mark for mark in ordered if mark.kind == kind]
        parts: list[Content] = [
            tag(
                "polygon", tag("title", f"{KIND_NAMES[kind]}: {mark.label}"),
                points=" ".join(f"{x:.1f},{y:.1f}" for x, y in mark.outline_xy),
            )
            for mark in own
        ]  # fmt: skip
        if kind != "found" and len(own) <= MAX_LABELS:
            for mark in own:
                x, y = min(x for x, _ in mark.outline_xy), min(y for _, y in mark.outline_xy)
                high = y - unit if y > 4 * unit else y + 3.2 * unit
                right = x > 0.7 * width
                far = max(x for x, _ in mark.outline_xy) if right else max(x, 0.0)
                parts.append(
                    tag("text", mark.label, x=f"{far:.1f}", y=f"{high:.1f}", text_anchor="end" if right else None)
                )
        if parts:
            drawn.append(tag("g", *parts, class_=f"mark {kind}"))
    return drawn
