"""What detectors have in common, wherever they run: what they tell of themselves, and that `with` closes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.closing import Closing
from yoloship.pipeline.letterbox import Letterbox

if TYPE_CHECKING:
    from yoloship.model import ModelInfo
    from yoloship.pipeline.detector import ShapeMode
    from yoloship.pipeline.options import DetectOptions


class DetectorFace(Closing):
    """Base of detectors.

    Args:
        info: What the model is.
        options: What is kept unless a call says otherwise.
        shape_mode: How a picture meets the canvas.
        limit_hw: (height, width) of the canvas in model pixels; in `rect` mode its limit.
        subject: The model's name, for messages.
    """

    def __init__(
        self, info: ModelInfo, options: DetectOptions, shape_mode: ShapeMode, limit_hw: tuple[int, int], subject: str
    ) -> None:
        self._info = info
        self._options = options
        self._shape_mode: ShapeMode = shape_mode
        self._limit_hw = limit_hw
        self._subject = subject

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._info

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by class id."""
        return self._info.class_names

    @property
    def options(self) -> DetectOptions:
        """What is kept unless a call says otherwise."""
        return self._options

    @property
    def shape_mode(self) -> ShapeMode:
        """How a picture meets the canvas."""
        return self._shape_mode

    @property
    def input_hw(self) -> tuple[int, int]:
        """(height, width) of the canvas in model pixels; in `rect` mode its limit."""
        return self._limit_hw

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """Where a picture of this size lies on the model's canvas."""
        if self._shape_mode == "rect":
            return Letterbox.rect(image_hw, self._limit_hw, self._info.size_multiple)
        return Letterbox.fixed(image_hw, self._limit_hw)
