"""What a validation by YOLOv5's rules can be told: `Yolov5Options`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from yoloship._util.fields import is_int, is_number
from yoloship.errors import InputError

Shapes: TypeAlias = Literal["auto", "rectangles", "squares"]
"""``rectangles``: the images of a batch share a canvas of their aspect ratio. ``squares``: each image has a square one.
``auto`` does what YOLOv5 does: rectangles for checkpoints, squares for files of other kinds."""

_MAX_SIDE = 8192
_MAX_BATCH = 65_536


@dataclass(frozen=True, slots=True)
class Yolov5Options:
    """How a model is validated. The defaults are those of YOLOv5's ``val.py``.

    Attributes:
        imgsz: The longer side of an image in model pixels; the next multiple of the model's stride is taken.
        batch: Images that share a canvas, if they are rectangles. It says nothing about how many run at once.
        shapes: The shape of the canvases.
        score_threshold: In [0, 1]; detections at or below it do not count.
        iou_threshold: In [0, 1]; a box is dropped if its IoU with a better box of its class is above it.
        max_detections: Most detections of an image.
        single_class: Whether all classes are taken for one.
        runtime: The library that runs the network, as for `yoloship.load`; None takes the default.

    Raises:
        InputError: a value is outside its range.
    """

    imgsz: int = 640
    batch: int = 32
    shapes: Shapes = "auto"
    score_threshold: float = 0.001
    iou_threshold: float = 0.6
    max_detections: int = 300
    single_class: bool = False
    runtime: str | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("imgsz", 1, _MAX_SIDE), ("batch", 1, _MAX_BATCH), ("max_detections", 1, 30_000)):
            if not is_int(getattr(self, name), low, high):
                raise self._wrong(name, f"{low} to {high}")
        for name in ("score_threshold", "iou_threshold"):
            if not is_number(getattr(self, name), 0, 1):
                raise self._wrong(name, "a number from 0 to 1")
        if self.shapes not in get_args(Shapes):
            raise self._wrong("shapes", " or ".join(get_args(Shapes)))

    def _wrong(self, name: str, expected: str) -> InputError:
        return InputError("out of range", subject=name, expected=expected, got=repr(getattr(self, name))[:60])
