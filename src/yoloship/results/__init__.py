"""Results of models for one image: `Result` is the base class. Each kind of answer has its own module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import TypeVar as TypeVarWithDefault

    from yoloship.model import Task

    ResultT = TypeVarWithDefault("ResultT", bound="Result", default=Any)
else:
    ResultT = TypeVar("ResultT")  # before Python 3.13 a type variable has no default


class Result(ABC):
    """Base class of a model's result for one image, whatever its task. Sinks and drawing use only these members.

    Attributes:
        image_hw: (height, width) of the source image in pixels.
        class_names: The model's class names, by class id.
        complete: False if objects may be missing, because a graph with suppression inside did not look at all of them.
        noun: What a table calls its answers: one, and several.
    """

    __slots__ = ()

    noun: ClassVar[tuple[str, str]] = ("object", "objects")

    image_hw: tuple[int, int]
    class_names: tuple[str, ...]
    complete: bool

    @property
    @abstractmethod
    def task(self) -> Task:
        """The task of the model: a name in `yoloship.tasks.TASKS`."""

    @abstractmethod
    def __len__(self) -> int:
        """How many objects, or answers of another kind, the result has."""

    @abstractmethod
    def answers(self) -> Iterable[Any]:
        """Each answer on its own, best first, as lists such as CSV have it.

        Every one has `class_id`, `class_name` and `score`, and an object in the image has its `box_xyxy` too.
        """

    @abstractmethod
    def table(self, limit: int | None = None) -> list[tuple[str, ...]]:
        """The result as text for a terminal: a heading, then a row for each answer, best first.

        Args:
            limit: Most rows after the heading; None gives all.
        """

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """How often each class was found, by class name, most frequent first."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""

    @abstractmethod
    def draw(
        self,
        image: npt.NDArray[np.uint8],
        *,
        hide_labels: bool = False,
        hide_scores: bool = False,
        line_width_px: int | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Draw the result on a copy of the image.

        Args:
            image: (height, width, 3) uint8 BGR or (height, width) grey, of the size in `image_hw`; not written to.
            hide_labels: Whether to leave the labels out.
            hide_scores: Whether labels show the class only.
            line_width_px: Width of lines; None chooses one that fits the image.

        Returns:
            (height, width, 3) uint8 BGR; the caller owns it.

        Raises:
            InputError: the image has another size or type, or the line width is out of range.
        """
