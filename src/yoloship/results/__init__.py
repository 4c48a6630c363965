"""Results of models for one image: `Result` is the base class, `Detections` the result of a detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from yoloship.model import Task


class Result(ABC):
    """Base class of a model's result for one image, whatever its task. Sinks and drawing use only these members.

    Attributes:
        task: The task of the model.
        image_hw: (height, width) of the source image in pixels.
    """

    __slots__ = ()

    task: ClassVar[Task]
    image_hw: tuple[int, int]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""

    @abstractmethod
    def draw(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Draw the result on a copy of the image.

        Args:
            image: (height, width, 3) uint8 BGR or (height, width) grey, of the size in `image_hw`; not written to.

        Returns:
            (height, width, 3) uint8 BGR; the caller owns it.

        Raises:
            InputError: the image has another size or type.
        """
