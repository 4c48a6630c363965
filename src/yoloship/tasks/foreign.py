"""Output forms of other projects' exports, which no graph of ours has: offsets within cells, and final detections.

`OffsetsForm` is YOLOX's. Final detections come in three forms: as three tensors (RT-DETR, D-FINE), as one list of all
images' rows (YOLOv7 with suppression for ONNX Runtime), or as four padded tensors (YOLOv7 with TensorRT's NMS plugin).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from yoloship.errors import SessionError
from yoloship.tasks.decode import (
    OBJECT_COLUMNS,
    Candidates,
    ObjectRows,
    above,
    as_float32,
    check_boxes,
    expect,
    raw_candidates,
    wrong_output,
)
from yoloship.tasks.task import Form

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.model import ModelInfo, TensorSpec
    from yoloship.tasks.task import Cells

    Arrays = Sequence[npt.NDArray[np.generic]]
    Floats = npt.NDArray[np.float32]

LIST_COLUMNS: Final = 7
"""Of a row of `ListForm`: the image's place in the batch, four corners, the class id, the score."""
SET_NAMES: Final = ("labels", "boxes", "scores")
PADDED_NAMES: Final = ("num_dets", "det_boxes", "det_scores", "det_classes")


class ForeignForm(Form[Candidates]):
    """A form of other projects' exports.

    Attributes:
        count: How many outputs it has.
    """

    count: ClassVar[int]

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:  # noqa: ARG002
        """Refuse another number of outputs."""
        if len(outputs) != self.count:
            raise SessionError(
                f"the model's record says {self.name!r}", subject=subject, expected=f"{self.count} outputs",
                got=str(len(outputs)),
            )  # fmt: skip


class OffsetsForm(ForeignForm):
    """(B, N, 5 + C) of a head without anchors: offsets in cells, logarithms of sizes in cells, objectness, classes.

    With the cell at (column, row): xy = (t + cell)·stride, wh = eᵗ·stride. The scores are decoded already. Levels are
    in order, finest first, and the cells of a level row by row.

    Source: YOLOX (Ge et al., 2021, arXiv:2107.08430), whose export leaves the decoding out by default.
    """

    name = "offsets"
    description = "offsets within cells, of YOLOX exports"
    count = 1

    def decode(
        self, outputs: Arrays, info: ModelInfo, input_hw: tuple[int, int], score_threshold: float
    ) -> list[Candidates]:
        """The candidates of every image."""
        (rows,) = expect(outputs, 1)
        decoded = self.decoded(as_float32(rows, "output"), info, input_hw)
        return [raw_candidates(image, score_threshold) for image in decoded]

    def decoded(self, rows: Floats, info: ModelInfo, input_hw: tuple[int, int]) -> Floats:
        """The rows as the standard form of YOLOv5 has them; a new array.

        Args:
            rows: (B, N, 5 + C) float32; read only.
            info: The model, which has the strides.
            input_hw: (height, width) of the canvas in model pixels.

        Raises:
            SessionError: there are other rows than the levels have cells, or of another width.
        """
        cells, strides = cells_of(info.strides, input_hw)
        if rows.ndim != 3 or rows.shape[1:] != (len(cells), OBJECT_COLUMNS + len(info.class_names)):
            raise wrong_output("output", f"(B, {len(cells)}, {OBJECT_COLUMNS + len(info.class_names)})", rows)
        decoded: Floats = rows.copy()
        with np.errstate(over="ignore"):
            decoded[..., :2] = (rows[..., :2] + cells) * strides
            decoded[..., 2:4] = np.exp(rows[..., 2:4]) * strides
        return decoded

    def cells(self, outputs: Arrays, info: ModelInfo) -> Cells | None:
        """Box and score of every row, for a model of a fixed size."""
        height, width = info.input_hw
        if height is None or width is None:
            return None
        rows = np.asarray(outputs[0][:1], np.float32)
        return ObjectRows().cells(self.decoded(rows, info, (height, width))[0], len(info.class_names))


def cells_of(strides: Sequence[int], input_hw: tuple[int, int]) -> tuple[Floats, Floats]:
    """Every cell of every level, in the order level, row, column.

    Args:
        strides: Model pixels per cell of each level, in the order of the rows.
        input_hw: (height, width) of the canvas in model pixels.

    Returns:
        (N, 2) float32 with column and row of each cell, and (N, 1) float32 with its stride; the caller owns them.
    """
    grids, scales = [], []
    for stride in strides:
        rows, columns = np.indices((input_hw[0] // stride, input_hw[1] // stride))
        grids.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        scales.append(np.full((rows.size, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(scales).astype(np.float32)


class SetForm(ForeignForm):
    """Final detections in three outputs: ids (B, k), boxes (B, k, 4) xyxy in the unit that was asked for, scores.

    Such a graph takes the size to which its boxes are to be scaled as a second input. It gets the canvas size, so that
    the boxes are in model pixels.
    """

    name = "set"
    description = "labels, boxes, scores, of DETR exports"
    count = 3
    takes_size = True

    def places(self, outputs: Sequence[TensorSpec], info: ModelInfo) -> tuple[int, ...]:  # noqa: ARG002 - one signature
        """Labels, boxes and scores, found by their names."""
        return places_by_name(outputs, SET_NAMES)

    def decode(
        self,
        outputs: Arrays,
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        score_threshold: float,
    ) -> list[Candidates]:
        """The boxes of every image."""
        labels, boxes, scores = expect(outputs, 3)
        check_boxes(boxes, scores, labels, "k", ("boxes", "labels"))
        rows = zip(as_float32(boxes, "boxes"), as_float32(scores, "scores"), _ids(labels, "labels"), strict=True)
        return [_final(box, score, ids, info, score_threshold) for box, score, ids in rows]


def target_sizes(batch: int, size_hw: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The second input of a DETR: (B, 2) int64, the width and height to which its boxes are scaled."""
    return np.array([[size_hw[1], size_hw[0]]] * batch, np.int64)


class PaddedForm(ForeignForm):
    """Final detections in four outputs: counts (B, 1), boxes (B, k, 4) xyxy in model pixels, scores, class ids (B, k).

    Source: TensorRT's plugin EfficientNMS_TRT, whose outputs these are.
    """

    name = "padded"
    description = "count, boxes, scores, classes, of TensorRT's NMS plugin"
    count = 4

    def places(self, outputs: Sequence[TensorSpec], info: ModelInfo) -> tuple[int, ...]:  # noqa: ARG002 - one signature
        """The four outputs, found by their names."""
        return places_by_name(outputs, PADDED_NAMES)

    def decode(
        self,
        outputs: Arrays,
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        score_threshold: float,
    ) -> list[Candidates]:
        """The first `count` boxes of every image."""
        _, boxes, scores, classes = expect(outputs, 4)
        each = self.check_shapes(outputs)
        rows = zip(
            as_float32(boxes, "det_boxes"), as_float32(scores, "det_scores"), _ids(classes, "det_classes"),
            each.tolist(), strict=True,
        )  # fmt: skip
        return [_final(box[:n], score[:n], ids[:n], info, score_threshold) for box, score, ids, n in rows]

    def check_shapes(self, outputs: Arrays) -> npt.NDArray[np.int32]:
        """The counts, (B,), if the four outputs belong together.

        Raises:
            SessionError: they do not, or a count is larger than the number of rows.
        """
        counts, boxes, scores, classes = outputs
        check_boxes(boxes, scores, classes, "k", ("det_boxes", "det_classes"))
        each = _ids(counts, "num_dets").ravel()
        if len(each) != len(scores) or not ((each >= 0) & (each <= scores.shape[1])).all():
            raise wrong_output("num_dets", f"({len(scores)}, 1), each at most {scores.shape[1]}", counts)
        return each


class ListForm(ForeignForm):
    """Final detections of a whole batch in one list (n, 7).

    A row is the image's place in the batch, x1, y1, x2, y2 in model pixels, the class id, the score.
    """

    name = "list"
    description = "rows of all images, of YOLOv7 exports with NMS"
    count = 1

    def decode(
        self,
        outputs: Arrays,
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        score_threshold: float,
    ) -> list[Candidates]:
        """The boxes of every image. The list does not say how many images there were, so the batch must be fixed."""
        (rows,) = expect(outputs, 1)
        if rows.ndim != 2 or rows.shape[1] != LIST_COLUMNS:
            raise wrong_output("output", f"(n, {LIST_COLUMNS})", rows)
        values = as_float32(rows, "output")
        images, batch = values[:, 0], info.batch or 1
        if not ((images == np.floor(images)) & (images >= 0) & (images < batch)).all():
            raise wrong_output("output", f"rows of the images 0 to {batch - 1}", rows)
        order = np.argsort(-values[:, 6], kind="stable")
        values = values[order]
        of_image = (values[values[:, 0] == image] for image in range(batch))
        return [_final(one[:, 1:5], one[:, 6], _whole(one[:, 5], "output"), info, score_threshold) for one in of_image]


def places_by_name(outputs: Sequence[TensorSpec], names: Sequence[str]) -> tuple[int, ...]:
    """Where the outputs of these names are.

    Raises:
        SessionError: one is missing.
    """
    given = [spec.name for spec in outputs]
    missing = [name for name in names if name not in given]
    if missing:
        raise SessionError(f"has no output {missing[0]!r}", expected=", ".join(names), got=", ".join(given)[:120])
    return tuple(given.index(name) for name in names)


def _ids(array: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.int32]:
    """Whole numbers of an output; some exporters write them as floats."""
    if array.dtype.kind in "iu":
        return array.astype(np.int32)
    return _whole(as_float32(array, name), name)


def _whole(array: Floats, name: str) -> npt.NDArray[np.int32]:
    if not (np.abs(array) < 2**24).all() or (array != np.floor(array)).any():
        raise wrong_output(name, "whole numbers", array)
    return array.astype(np.int32)


def _final(
    boxes: Floats, scores: Floats, class_ids: npt.NDArray[np.int32], info: ModelInfo, score_threshold: float
) -> Candidates:
    return above(Candidates(boxes, scores, class_ids, final=True), len(info.class_names), score_threshold)


FOREIGN_FORMS: Final[Mapping[str, Form[Candidates]]] = MappingProxyType(
    {form.name: form for form in (OffsetsForm(), SetForm(), PaddedForm(), ListForm())}
)
"""By name. They are detection's, beside the forms that our own graphs have."""
