"""What a detector found in one picture: `Detections`."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from yoloship.errors import DependencyError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import supervision


_FLOAT32, _INT32 = np.dtype(np.float32), np.dtype(np.int32)
"""Made once: comparing with the types themselves would make them anew for every result."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One object.

    Attributes:
        box_xyxy: Left, top, right, bottom in source pixels.
        score: In [0, 1].
        class_id: Index into the model's class names.
        class_name: The name at that index, or the index as text where the model has no name for it.
    """

    box_xyxy: tuple[float, float, float, float]
    score: float
    class_id: int
    class_name: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "class_id": self.class_id,
            "class_name": self.class_name,
            "score": self.score,
            "box_xyxy": list(self.box_xyxy),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """All objects found in one picture, best first. The arrays are read-only.

    Attributes:
        boxes_xyxy: (n, 4) float32, source pixels, clipped to the picture.
        scores: (n,) float32 in [0, 1], descending.
        class_ids: (n,) int32.
        names: The model's class names, by class id.
        image_hw: (height, width) of the source picture in pixels.
        complete: False where boxes may be missing: suppression was inside the graph, more candidates passed its
            threshold than it looks at, and it kept fewer than it may give. See `yoloship.model.NmsConfig.candidates`.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]
    names: tuple[str, ...]
    image_hw: tuple[int, int]
    complete: bool = True

    def __post_init__(self) -> None:
        count = len(self.scores)
        for name, dtype, shape in (
            ("boxes_xyxy", _FLOAT32, (count, 4)),
            ("scores", _FLOAT32, (count,)),
            ("class_ids", _INT32, (count,)),
        ):
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                raise InputError(
                    "wrong array",
                    subject=f"Detections.{name}",
                    expected=f"{dtype}{shape}",
                    got=f"{array.dtype}{array.shape}",
                )
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @classmethod
    def _adopt(
        cls,
        boxes_xyxy: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        class_ids: npt.NDArray[np.int32],
        names: tuple[str, ...],
        image_hw: tuple[int, int],
    ) -> Detections:
        """Around arrays that the caller has just made right: takes them over, and checks nothing.

        It is for results that are made a thousand times a second and more; the constructor is for all others.

        Args:
            boxes_xyxy: As in the class; it becomes read-only.
            scores: As in the class; it becomes read-only.
            class_ids: As in the class; it becomes read-only.
            names: As in the class.
            image_hw: As in the class.
        """
        boxes_xyxy.setflags(write=False)
        scores.setflags(write=False)
        class_ids.setflags(write=False)
        made = object.__new__(cls)
        put = object.__setattr__
        put(made, "boxes_xyxy", boxes_xyxy)
        put(made, "scores", scores)
        put(made, "class_ids", class_ids)
        put(made, "names", names)
        put(made, "image_hw", image_hw)
        put(made, "complete", True)
        return made

    @classmethod
    def empty(cls, image_hw: tuple[int, int], names: tuple[str, ...] = ()) -> Detections:
        """Nothing found in a picture of this size."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32), names, image_hw)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        rows = zip(self.boxes_xyxy.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True)
        for (x1, y1, x2, y2), score, class_id in rows:
            yield Detection((x1, y1, x2, y2), score, class_id, self.class_name(class_id))

    @overload
    def __getitem__(self, index: int) -> Detection: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | Sequence[bool] | npt.NDArray[Any]) -> Detections: ...

    def __getitem__(self, index: Any) -> Detection | Detections:
        """One object by its place; or several, by a slice, a mask, or an array of places."""
        if not hasattr(index, "__index__") or np.ndim(index):
            return self._picked(index)
        x1, y1, x2, y2 = self.boxes_xyxy[index].tolist()
        class_id = int(self.class_ids[index])
        return Detection((x1, y1, x2, y2), float(self.scores[index]), class_id, self.class_name(class_id))

    def __reduce__(self) -> tuple[type[Detections], tuple[Any, ...]]:
        """Copies and unpickled results are made by the constructor, so that their arrays are read-only too."""
        fields = (self.boxes_xyxy, self.scores, self.class_ids, self.names, self.image_hw, self.complete)
        return type(self), fields

    def _picked(self, rows: Any) -> Detections:
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        if isinstance(rows, np.ndarray) and (rows.ndim != 1 or (rows.size and rows.dtype.kind not in "bui")):
            raise InputError(
                "cannot be indexed like that",
                subject="Detections",
                expected="a number, a slice, a mask of as many booleans as objects, or a list of numbers",
                got=f"{rows.dtype}{rows.shape}",
            )
        if isinstance(rows, np.ndarray) and not rows.size:
            rows = rows.astype(np.intp)
        return Detections(
            self.boxes_xyxy[rows], self.scores[rows], self.class_ids[rows], self.names, self.image_hw, self.complete
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return (
            self.image_hw == other.image_hw
            and self.complete == other.complete
            and self.names == other.names
            and np.array_equal(self.boxes_xyxy, other.boxes_xyxy)
            and np.array_equal(self.scores, other.scores)
            and np.array_equal(self.class_ids, other.class_ids)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash, so equality by value leaves none either

    def __repr__(self) -> str:
        height, width = self.image_hw
        found = ", ".join(f"{count} {name}" for name, count in self.counts().items()) or "nothing"
        return f"Detections({found} in {width}×{height}{'' if self.complete else ', incomplete'})"

    def class_name(self, class_id: int) -> str:
        """The name of a class, or its number as text where the model names fewer."""
        return self.names[class_id] if 0 <= class_id < len(self.names) else str(class_id)

    def counts(self) -> dict[str, int]:
        """Objects per class name, most frequent first."""
        ids, counts = np.unique(self.class_ids, return_counts=True)
        ranked = sorted(zip(counts.tolist(), ids.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
        return {self.class_name(class_id): count for count, class_id in ranked}

    def filter(
        self,
        *,
        classes: Iterable[int | str] | None = None,
        min_score: float = 0.0,
        min_area_px: float = 0.0,
    ) -> Detections:
        """Keep the objects that meet every condition, in the same order.

        Args:
            classes: Class ids or names; None keeps all.
            min_score: Keep scores at or above it.
            min_area_px: Keep boxes of at least this many square source pixels.

        Raises:
            InputError: a class name that the model does not have.
        """
        keep = self.scores >= min_score
        if classes is not None:
            keep &= np.isin(self.class_ids, class_ids_of(classes, self.names))
        if min_area_px > 0:
            size = self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]
            keep &= size[:, 0] * size[:, 1] >= min_area_px
        return self._picked(keep)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: ``width``, ``height``, ``detections``; ``complete`` where that is false."""
        height, width = self.image_hw
        said = {} if self.complete else {"complete": False}
        return {"width": width, "height": height, **said, "detections": [detection.to_dict() for detection in self]}

    def to_supervision(self) -> supervision.Detections:
        """The same as a `supervision.Detections`, which owns copies of the arrays.

        Raises:
            DependencyError: the package `supervision` is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise DependencyError(
                "is not installed", subject="supervision", hint="pip install 'yoloship[supervision]'"
            ) from error
        return supervision.Detections(
            xyxy=self.boxes_xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.astype(int),
            data={"class_name": np.array([self.class_name(i) for i in self.class_ids.tolist()], dtype=object)},
        )

    def draw(
        self,
        image: npt.NDArray[np.uint8],
        *,
        hide_labels: bool = False,
        hide_scores: bool = False,
        line_width_px: int | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Boxes and labels over a copy of the picture.

        Args:
            image: (height, width, 3) uint8 BGR or (height, width) grey, of the size in `image_hw`; not written to.
            hide_labels: Whether to draw the boxes alone.
            hide_scores: Whether labels show the class only.
            line_width_px: Of the boxes; None takes one that fits the image.

        Returns:
            (height, width, 3) uint8 BGR; the caller owns it.

        Raises:
            InputError: the image has another size or type, or the line width is out of range.
        """
        if image.shape[:2] != self.image_hw:
            raise InputError(
                "the detections are of an image of another size",
                subject="Detections.draw",
                expected=f"height and width {self.image_hw}",
                got=str(image.shape[:2]),
            )
        from yoloship.drawing import draw_boxes

        labels = [
            "" if hide_labels else item.class_name if hide_scores else f"{item.class_name} {item.score:.2f}"
            for item in self
        ]
        return draw_boxes(image, self.boxes_xyxy, self.class_ids, labels, line_width_px)


def class_ids_of(classes: Iterable[int | str], names: tuple[str, ...]) -> list[int]:
    """Class ids from a mixture of ids and names.

    Args:
        classes: Ids as integers, or names; a string of digits that is no name counts as an id.
        names: The model's class names.

    Raises:
        InputError: a name that the model does not have, or an id outside its classes.
    """
    ids: list[int] = []
    for wanted in classes:
        if isinstance(wanted, str) and wanted in names:
            ids.extend(i for i, name in enumerate(names) if name == wanted)
            continue
        text = str(wanted)
        if not _is_id(text) or (names and int(text) >= len(names)):
            raise _no_such_class(text, names)
        ids.append(int(text))
    return ids


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9


def _no_such_class(text: str, names: tuple[str, ...]) -> InputError:
    if not names:
        return InputError("no such class", subject=text, expected="a class id")
    ids = f"an id from 0 to {len(names) - 1}"
    if text.lstrip("-").isdecimal():
        return InputError("no such class", subject=text, expected=ids)
    sample = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    close = get_close_matches(text, names[:1000], n=1)
    hint = f"did you mean {close[0]!r}?" if close else None
    return InputError("no such class", subject=text, expected=f"one of {sample}, or {ids}", hint=hint)
