"""What a classification model says about one image: `Classification`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from yoloship.errors import InputError
from yoloship.results import Result

if TYPE_CHECKING:
    from yoloship.model import Task

TOP: Final = 5
"""How many classes tables, JSON and CSV show: the field's usual number."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """A class with its probability.

    Attributes:
        class_id: Index into the model's class names.
        class_name: Its name.
        score: Its probability in [0, 1].
    """

    class_id: int
    class_name: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"class_id": self.class_id, "class_name": self.class_name, "score": self.score}


@dataclass(frozen=True, slots=True, eq=False)
class Classification(Result):
    """The probability of every class for one image. The array is read-only.

    Attributes:
        probabilities: (C,) float32 in [0, 1], by class id; they add up to 1.
        class_names: The model's class names, by class id.
        image_hw: (height, width) of the source image in pixels.
        complete: Always true.
    """

    noun: ClassVar[tuple[str, str]] = ("class", "classes")

    probabilities: npt.NDArray[np.float32]
    class_names: tuple[str, ...]
    image_hw: tuple[int, int]
    complete: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        height, width = self.image_hw
        object.__setattr__(self, "image_hw", (int(height), int(width)))
        array, count = self.probabilities, len(self.class_names)
        if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.shape != (count,) or not count:
            got = f"{array.dtype}{array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            expected = f"float32({max(count, 1)},), one for each class name"
            raise InputError("wrong array", subject="Classification.probabilities", expected=expected, got=got)
        view = array.view()
        view.flags.writeable = False
        object.__setattr__(self, "probabilities", view)

    @property
    def task(self) -> Task:
        """The task of the model: ``classify``."""
        return "classify"

    @property
    def class_id(self) -> int:
        """The id of the most probable class; if several are equally probable, the lowest."""
        return int(self.probabilities.argmax())

    @property
    def class_name(self) -> str:
        """The name of the most probable class."""
        return self.class_names[self.class_id]

    @property
    def score(self) -> float:
        """The probability of the most probable class, in [0, 1]."""
        return float(self.probabilities.max())

    def top(self, k: int = TOP) -> list[ClassScore]:
        """The k most probable classes, best first; equally probable ones are in the order of their ids.

        Args:
            k: How many; you get fewer if the model has fewer classes.

        Raises:
            InputError: k is below 1.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError("out of range", subject="k", expected="1 or more", got=repr(k)[:60])
        best = np.argsort(-self.probabilities, kind="stable")[:k].tolist()
        return [ClassScore(index, self.class_names[index], float(self.probabilities[index])) for index in best]

    def __len__(self) -> int:
        """One answer for an image."""
        return 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Classification):
            return NotImplemented
        return (
            self.image_hw == other.image_hw
            and self.class_names == other.class_names
            and np.array_equal(self.probabilities, other.probabilities)
        )

    __hash__ = None  # type: ignore[assignment]  # equality is by value, and arrays have no hash

    def __reduce__(self) -> tuple[type[Classification], tuple[Any, ...]]:
        """Make copies and unpickled results with the constructor, so that their arrays are read-only too."""
        return type(self), (self.probabilities, self.class_names, self.image_hw, self.complete)

    def __repr__(self) -> str:
        return f"Classification({self.class_name} {self.score:.3f} of {len(self.class_names)} classes)"

    def answers(self) -> list[ClassScore]:
        """The five most probable classes."""
        return self.top()

    def table(self, limit: int | None = None) -> list[tuple[str, ...]]:
        """The result as text for a terminal: a heading, then class and probability of the best five.

        Args:
            limit: Maximum number of rows after the heading; None gives five.
        """
        rows: list[tuple[str, ...]] = [("class", "score")]
        best = self.top(min(TOP, TOP if limit is None else max(limit, 1)))
        return rows + [(one.class_name, f"{one.score:.3f}") for one in best]

    def counts(self) -> dict[str, int]:
        """The name of the most probable class, with the count 1."""
        return {self.class_name: 1}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: ``width``, ``height``, and ``classes``, the five most probable."""
        height, width = self.image_hw
        return {"width": width, "height": height, "classes": [one.to_dict() for one in self.top()]}

    def draw(
        self,
        image: npt.NDArray[np.uint8],
        *,
        hide_labels: bool = False,
        hide_scores: bool = False,
        line_width_px: int | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Draw the name of the most probable class in the upper left corner of a copy of the image.

        Args:
            image: (height, width, 3) uint8 BGR or (height, width) grey, of the size in `image_hw`; not written to.
            hide_labels: Whether to draw nothing.
            hide_scores: Whether the label shows the class only.
            line_width_px: Has no effect, because there are no lines.

        Returns:
            (height, width, 3) uint8 BGR; the caller owns it.

        Raises:
            InputError: the image has another size or type, or the line width is out of range.
        """
        from yoloship.results.drawing import as_canvas, draw_tag

        canvas = as_canvas(image, "Classification.draw", self.image_hw, line_width_px)
        label = self.class_name if hide_scores else f"{self.class_name} {self.score:.2f}"
        return canvas if hide_labels else draw_tag(canvas, self.class_id, label)
