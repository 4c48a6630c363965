"""The objects that a model found in one image: `Detections`.

This file is long because the class has all that users do with objects, each with its documentation. Drawing, masks and
run lengths are modules of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from yoloship.errors import DependencyError, InputError
from yoloship.results import Result
from yoloship.results.class_ids import class_ids_of
from yoloship.results.detection import Detection, size_of
from yoloship.results.masks import Masks
from yoloship.results.oriented import corners_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import supervision

    from yoloship.model import Task


_FLOAT32, _INT32 = np.dtype(np.float32), np.dtype(np.int32)
"""Created once, because comparing with the NumPy types would create them again for every result."""


_EXTRAS = ("masks", "keypoints", "boxes_xywhr", "track_ids")
"""Fields of `Detections` that only some results have, in the order of its constructor."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections(Result):
    """All objects found in one image, best first. The arrays are read-only.

    Attributes:
        boxes_xyxy: (n, 4) float32, source pixels, clipped to the image.
        scores: (n,) float32 in [0, 1], descending.
        class_ids: (n,) int32.
        class_names: The model's class names, by class id.
        image_hw: (height, width) of the source image in pixels.
        complete: False if boxes may be missing: NMS was inside the graph, more candidates passed the threshold than the
            graph looks at (`yoloship.model.NmsConfig.candidates`), and it kept fewer boxes than its limit.
        masks: The mask of each object; None unless it is a segmentation model.
        keypoints: (n, K, 3) float32: x and y in source pixels, clipped to the image, and visibility in [0, 1]; or (n,
            K, 2) without visibility. None unless it is a pose model.
        boxes_xywhr: (n, 5) float32: the centre, width and height of each oriented box in source pixels, not clipped,
            and the angle in radians, clockwise, from the x axis to the side of that width. They are the decoded output
                of the model: the width is not always the longer side, and with heads without DFL the angle can be any
                number. `boxes_xyxy` is then the smallest upright box around each. None unless the model gives oriented
                boxes.
        track_ids: (n,) int32: the same number for the same object in all frames of its video or camera, from 1; -1
            while the tracker is not sure of an object. None unless the objects are tracked.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]
    class_names: tuple[str, ...]
    image_hw: tuple[int, int]
    complete: bool = True
    masks: Masks | None = None
    keypoints: npt.NDArray[np.float32] | None = None
    boxes_xywhr: npt.NDArray[np.float32] | None = None
    track_ids: npt.NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        object.__setattr__(self, "class_names", tuple(self.class_names))
        height, width = self.image_hw
        object.__setattr__(self, "image_hw", (int(height), int(width)))
        for name, dtype, shape in (
            ("boxes_xyxy", _FLOAT32, (count, 4)),
            ("scores", _FLOAT32, (count,)),
            ("class_ids", _INT32, (count,)),
        ):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
                got = f"{array.dtype}{array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise InputError("wrong array", subject=f"Detections.{name}", expected=f"{dtype}{shape}", got=got)
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)
        has_shape = self.masks is not None or self.keypoints is not None or self.boxes_xywhr is not None
        if has_shape or self.track_ids is not None:
            self._check_extras()

    def _check_extras(self) -> None:
        count = len(self.scores)
        masks, keypoints, rotated = self.masks, self.keypoints, self.boxes_xywhr
        if masks is not None and (len(masks) != count or masks.image_hw != self.image_hw):
            raise InputError(
                "wrong masks", subject="Detections.masks", expected=f"{count} of {self.image_hw}",
                got=f"{len(masks)} of {masks.image_hw}",
            )  # fmt: skip
        for name, array, dtype, axes, ends in (
            ("keypoints", keypoints, _FLOAT32, 3, (2, 3)),
            ("boxes_xywhr", rotated, _FLOAT32, 2, (5,)),
            ("track_ids", self.track_ids, _INT32, 1, (count,)),
        ):
            if array is None:
                continue
            right = isinstance(array, np.ndarray) and array.dtype == dtype and array.ndim == axes
            if not right or len(array) != count or array.shape[-1] not in ends:
                shape = {1: f"({count},)", 2: f"({count}, 5)", 3: f"({count}, K, 2 or 3)"}[axes]
                got = f"{array.dtype}{array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise InputError("wrong array", subject=f"Detections.{name}", expected=f"{dtype}{shape}", got=got)
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @property
    def task(self) -> Task:
        """The task of the model: ``detect`` has only boxes; ``segment``, ``pose`` and ``obb`` have more."""
        if self.masks is not None:
            return "segment"
        if self.keypoints is not None:
            return "pose"
        return "detect" if self.boxes_xywhr is None else "obb"

    @classmethod
    def _trusted(  # noqa: PLR0913 - what a result has
        cls,
        boxes_xyxy: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        class_ids: npt.NDArray[np.int32],
        class_names: tuple[str, ...],
        image_hw: tuple[int, int],
        *,
        masks: Masks | None = None,
        keypoints: npt.NDArray[np.float32] | None = None,
    ) -> Detections:
        """Make a result of arrays that are known to be correct, without checks or copies. They become read-only.

        It is for code that makes thousands of results per second; all other code uses the constructor.

        Args:
            boxes_xyxy: (n, 4) float32, source pixels, clipped to the image; the result owns it.
            scores: (n,) float32 in [0, 1], descending; the result owns it.
            class_ids: (n,) int32; the result owns it.
            class_names: The model's class names, by class id.
            image_hw: (height, width) of the source image in pixels.
            masks: Of the same objects and image.
            keypoints: (n, K, 2 or 3) float32, as the attribute; the result owns it.
        """
        boxes_xyxy.setflags(write=False)
        scores.setflags(write=False)
        class_ids.setflags(write=False)
        made = object.__new__(cls)
        put = object.__setattr__
        put(made, "boxes_xyxy", boxes_xyxy)
        put(made, "scores", scores)
        put(made, "class_ids", class_ids)
        put(made, "class_names", class_names)
        put(made, "image_hw", image_hw)
        put(made, "complete", True)
        if keypoints is not None:
            keypoints.setflags(write=False)
        put(made, "masks", masks)
        put(made, "keypoints", keypoints)
        put(made, "boxes_xywhr", None)
        put(made, "track_ids", None)
        return made

    @classmethod
    def empty(cls, image_hw: tuple[int, int], class_names: tuple[str, ...] = ()) -> Detections:
        """A result without objects, for an image of this size."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32), class_names, image_hw)

    @classmethod
    def merge(cls, parts: Iterable[Detections]) -> Detections:
        """Join results of one image, such as those of several crops or models, best first.

        NMS is not applied: an object that is in two results appears twice in the merged result.

        Args:
            parts: At least one; all with the same image size and the same class names.

        Returns:
            All objects by descending score; objects with equal scores are in the order of the results. The merged
            result is complete if all results are.

        Raises:
            InputError: there are no results, their image sizes or class names differ, only some have masks, keypoints,
                oriented boxes or track ids, or two have the same track id.
        """
        results = list(parts)
        if not results:
            raise InputError(
                "nothing to merge", subject="Detections.merge", expected="at least one", hint="or use Detections.empty"
            )
        first = results[0]
        has = {tuple(getattr(part, name, None) is not None for name in _EXTRAS) for part in results}
        if len(has) > 1:
            raise InputError(
                "the results are of different tasks, or only some of them are tracked", subject="Detections.merge"
            )
        for part in results:
            if not isinstance(part, Detections):
                raise InputError(
                    "wrong type", subject="Detections.merge", expected="several Detections", got=type(part).__name__
                )
            if part.image_hw != first.image_hw:
                raise InputError(
                    "the results are of images of different sizes",
                    subject="Detections.merge",
                    expected=f"height and width {first.image_hw}",
                    got=str(part.image_hw),
                )
            if part.class_names != first.class_names:
                raise InputError(
                    "the results have different class names",
                    subject="Detections.merge",
                    hint="give all parts the same class_names first",
                )
        _refuse_one_id_twice(results)
        scores = np.concatenate([part.scores for part in results])
        order = np.argsort(-scores, kind="stable")
        return cls(
            np.concatenate([part.boxes_xyxy for part in results])[order],
            scores[order],
            np.concatenate([part.class_ids for part in results])[order],
            first.class_names,
            first.image_hw,
            all(part.complete for part in results),
            None
            if first.masks is None
            else Masks.concatenate([part.masks for part in results if part.masks is not None])[order],
            *(
                None
                if getattr(first, name) is None
                else np.concatenate([getattr(part, name) for part in results])[order]
                for name in _EXTRAS[1:]
            ),
        )

    @property
    def corners_xy(self) -> npt.NDArray[np.float32] | None:
        """(n, 4, 2) float32: the corners of each oriented box in source pixels, not clipped; the caller owns it.

        The order is the usual one, see `yoloship.results.oriented.corners_of`. None unless the model gives oriented
        boxes.
        """
        return None if self.boxes_xywhr is None else corners_of(self.boxes_xywhr)

    @property
    def area_px(self) -> npt.NDArray[np.float32]:
        """(n,) float32: the area of each box in square source pixels; the caller owns it."""
        size = self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]
        area: npt.NDArray[np.float32] = size[:, 0] * size[:, 1]
        return area

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        rows = zip(
            self.boxes_xyxy.tolist(),
            self.scores.tolist(),
            self.class_ids.tolist(),
            repeat(None) if self.keypoints is None else self.keypoints.tolist(),
            repeat(None) if self.boxes_xywhr is None else map(tuple, self.boxes_xywhr.tolist()),
            repeat(None) if self.masks is None else self.masks.one_by_one(),
            repeat(None) if self.track_ids is None else self.track_ids.tolist(),
            strict=False,  # four may be endless
        )
        for (x1, y1, x2, y2), score, class_id, points, oriented, masks, track_id in rows:
            keypoints = None if points is None else tuple(map(tuple, points))
            name = self.class_name(class_id)
            yield Detection((x1, y1, x2, y2), score, class_id, name, keypoints, oriented, masks, track_id)

    @overload
    def __getitem__(self, index: int) -> Detection: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | Sequence[bool] | npt.NDArray[Any]) -> Detections: ...

    def __getitem__(self, index: Any) -> Detection | Detections:
        """Select objects: an integer gives a `Detection`; a slice, a mask or a list of integers gives `Detections`."""
        if not hasattr(index, "__index__") or np.ndim(index) or np.asarray(index).dtype == bool:
            return self._picked(index)
        place = range(len(self))[index]
        return next(iter(self._picked(slice(place, place + 1))))

    def __reduce__(self) -> tuple[type[Detections], tuple[Any, ...]]:
        """Make copies and unpickled results with the constructor, so that their arrays are read-only too."""
        fields = (self.boxes_xyxy, self.scores, self.class_ids, self.class_names, self.image_hw, self.complete)
        return type(self), (*fields, *(getattr(self, name) for name in _EXTRAS))

    def _picked(self, rows: Any) -> Detections:
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if not rows.size and rows.dtype == float:  # an empty list
                rows = rows.astype(np.intp)
            if rows.ndim != 1 or rows.dtype.kind not in "bui" or (rows.dtype == bool and len(rows) != len(self)):
                raise InputError(
                    "cannot be indexed like that",
                    subject="Detections",
                    expected="a number, a slice, a mask of as many booleans as objects, or a list of numbers",
                    got=f"{rows.dtype}{rows.shape}",
                )
        return Detections(
            self.boxes_xyxy[rows],
            self.scores[rows],
            self.class_ids[rows],
            self.class_names,
            self.image_hw,
            self.complete,
            *(None if extra is None else extra[rows] for extra in (getattr(self, name) for name in _EXTRAS)),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return (
            self.image_hw == other.image_hw
            and self.complete == other.complete
            and self.class_names == other.class_names
            and np.array_equal(self.boxes_xyxy, other.boxes_xyxy)
            and np.array_equal(self.scores, other.scores)
            and np.array_equal(self.class_ids, other.class_ids)
            and self.masks == other.masks
            and _same(self.keypoints, other.keypoints)
            and _same(self.boxes_xywhr, other.boxes_xywhr)
            and _same(self.track_ids, other.track_ids)
        )

    __hash__ = None  # type: ignore[assignment]  # equality is by value, and arrays have no hash

    def __repr__(self) -> str:
        height, width = self.image_hw
        found = ", ".join(f"{count} {name}" for name, count in self.counts().items()) or "nothing"
        return f"Detections({found} in {width}×{height}{'' if self.complete else ', incomplete'})"

    def class_name(self, class_id: int) -> str:
        """The name of a class, or its number as text if the model has no name for it."""
        return self.class_names[class_id] if 0 <= class_id < len(self.class_names) else str(class_id)

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
            keep &= np.isin(self.class_ids, class_ids_of(classes, self.class_names))
        if min_area_px > 0:
            keep &= self.area_px >= min_area_px
        return self._picked(keep)

    def answers(self) -> Iterator[Detection]:
        """Each object, best first."""
        return iter(self)

    def table(self, limit: int | None = None) -> list[tuple[str, ...]]:
        """The result as text for a terminal: a heading, then class, score and box of each object, best first.

        A box is shown by its corners, an oriented box by its centre, width, height and angle in degrees. For tracked
        objects, the id comes last.

        Args:
            limit: Maximum number of rows after the heading; None gives all.
        """
        heading = ("x1", "y1", "x2", "y2") if self.boxes_xywhr is None else ("cx", "cy", "w", "h", "angle")
        ids = () if self.track_ids is None else ("id",)
        rows: list[tuple[str, ...]] = [("class", "score", *heading, *ids)]
        for detection in self[:limit]:
            box = [f"{value:.1f}" for value in (detection.box_xywhr or detection.box_xyxy)[:4]]
            if detection.box_xywhr is not None:
                box.append(f"{math.degrees(detection.box_xywhr[4]):.1f}°")
            if detection.track_id is not None:
                box.append(f"#{detection.track_id}" if detection.track_id >= 0 else "–")
            rows.append((detection.class_name, f"{detection.score:.3f}", *box))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: ``width``, ``height``, ``detections``; and ``complete`` if that is false."""
        height, width = self.image_hw
        incomplete = {} if self.complete else {"complete": False}
        return {
            "width": width,
            "height": height,
            **incomplete,
            "detections": [detection.to_dict() for detection in self],
        }

    def to_supervision(self) -> supervision.Detections:
        """Convert to a `supervision.Detections`, which owns copies of the arrays.

        Masks are whole masks in source pixels. The corners of oriented boxes are in `data["xyxyxyxy"]`, where
        supervision's annotators look for them, and the keypoints are in `data["keypoints"]`. The track ids are the
        `tracker_id`.

        Raises:
            DependencyError: the package `supervision` is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise DependencyError(
                "is not installed", subject="supervision", hint="pip install 'yoloship[supervision]'"
            ) from error
        names = [self.class_name(class_id) for class_id in self.class_ids.tolist()]
        data: dict[str, npt.NDArray[Any]] = {"class_name": np.array(names, dtype=object)}
        if (corners := self.corners_xy) is not None:
            data["xyxyxyxy"] = corners
        if self.keypoints is not None:
            data["keypoints"] = self.keypoints.copy()
        return supervision.Detections(
            xyxy=self.boxes_xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.astype(int),
            mask=None if self.masks is None else self.masks.array,
            tracker_id=None if self.track_ids is None else self.track_ids.astype(int),
            data=data,
        )

    def draw(
        self,
        image: npt.NDArray[np.uint8],
        *,
        hide_labels: bool = False,
        hide_scores: bool = False,
        line_width_px: int | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Draw masks, keypoints, boxes and labels on a copy of the image.

        The label of a tracked object has its id, and its colour depends on the id; grey means that the tracker is not
        sure yet.

        Args:
            image: (height, width, 3) uint8 BGR or (height, width) grey, of the size in `image_hw`; not written to.
            hide_labels: Whether to leave the labels out.
            hide_scores: Whether to leave the scores out of the labels.
            line_width_px: Line width of boxes, limbs and outlines; None chooses one that fits the image.

        Returns:
            (height, width, 3) uint8 BGR; the caller owns it.

        Raises:
            InputError: the image has another size or type, or the line width is out of range.
        """
        from yoloship.results.drawing import as_canvas, draw_boxes
        from yoloship.results.overlay import draw_masks
        from yoloship.results.skeleton import draw_keypoints

        canvas = as_canvas(image, "Detections.draw", self.image_hw, line_width_px)
        labels, color_ids = [""] * len(self), self.class_ids
        if not hide_labels:
            labels = [self.class_name(class_id) for class_id in self.class_ids.tolist()]
        if self.track_ids is not None:
            color_ids = self.track_ids
            if not hide_labels:
                ids = self.track_ids.tolist()
                labels = [f"{name} #{i}" if i >= 0 else name for name, i in zip(labels, ids, strict=True)]
        if not hide_labels and not hide_scores:
            labels = [f"{name} {score:.2f}" for name, score in zip(labels, self.scores.tolist(), strict=True)]
        if self.masks is not None:
            draw_masks(canvas, self.masks, color_ids, line_width_px)
        if self.keypoints is not None:
            draw_keypoints(canvas, self.keypoints, line_width_px)
        corners = None if self.boxes_xywhr is None else self.corners_xy
        return draw_boxes(canvas, self.boxes_xyxy, color_ids, labels, line_width_px, corners)

    def crops(self, image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Crop every object from the image, in the order of the objects.

        Args:
            image: (height, width) or (height, width, channels), any dtype, of the size in `image_hw`; only read.

        Returns:
            One copy for each object, which the caller owns.

        Raises:
            InputError: the image has another size, or a box is not finite.
        """
        size_of(image, "Detections.crops", self.image_hw)
        return [detection.crop(image) for detection in self]


def _refuse_one_id_twice(results: list[Detections]) -> None:
    """Refuse results that have an id in common: ids of two trackers, or the same object twice."""
    if results[0].track_ids is None:
        return
    ids = np.concatenate([np.unique(part.track_ids) for part in results if part.track_ids is not None])
    found, counts = np.unique(ids[ids >= 0], return_counts=True)
    if (counts > 1).any():
        raise InputError(
            "several results have an object of the same id", subject="Detections.merge",
            got=f"id {int(found[counts > 1][0])}", hint="merge first, then track",
        )  # fmt: skip


def _same(first: npt.NDArray[Any] | None, second: npt.NDArray[Any] | None) -> bool:
    return first is second if first is None or second is None else np.array_equal(first, second)
