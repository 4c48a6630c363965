"""Detection: the output forms of its models, and the way from candidate boxes to `Detections` in source pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from yoloship.errors import InputError, SessionError
from yoloship.results.detections import Detections
from yoloship.tasks.decode import (
    END2END_COLUMNS,
    OBJECT_COLUMNS,
    Candidates,
    ObjectRows,
    above,
    anchor_free_error,
    as_float32,
    check_boxes,
    expect,
    heads_candidates,
    heads_rows,
    heads_to_raw,
    rows_of,
    wrong_output,
)
from yoloship.tasks.nms import nms
from yoloship.tasks.task import Form, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.extras import Extras
    from yoloship.cuda.postprocess import DecodeInput
    from yoloship.letterbox import Letterbox
    from yoloship.model import ModelInfo, TensorSpec
    from yoloship.runtime.session import DeviceTensor
    from yoloship.tasks.anchor_free import DecodeBoxes, DecodeExtras
    from yoloship.tasks.task import Cells, Limits, Upload

    Arrays = Sequence[npt.NDArray[np.generic]]

EXTRAS: Final = "extras"
"""Name of the output with what follows the class scores, of forms that part them."""
RAW: Final = "raw"
"""The form that the field's exports have."""
MAX_CANDIDATES: Final = 30_000
"""Of an image's candidates only this many, the best, meet in suppression; a limit that the field's tools share. At
640×640 a YOLOv5 has 25,200 in all, so it bites only on large canvases at thresholds near 0."""


class BoxForm(Form[Candidates]):
    """An output form with a fixed number of outputs.

    Attributes:
        count: How many outputs it has; None if it has one for each level of an anchor head.
        parts_extras: Whether what follows the class scores has an output of its own.
    """

    count: ClassVar[int | None]
    parts_extras: ClassVar[bool] = False

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse another number of outputs, and a record without anchors for each undecoded level of an anchor head."""
        if self.count is None and not info.anchors and not isinstance(rows_of(info, subject), ObjectRows):
            from yoloship.tasks.anchor_free import check_heads

            check_heads(outputs, info, subject)
            return
        if self.count is None and len(info.anchors) != len(info.strides):
            raise InputError(
                "model record: bad 'anchors'", subject=subject, expected=f"one set a level ({len(info.strides)})",
                got=f"{len(info.anchors)} sets",
            )  # fmt: skip
        count = len(info.strides) if self.count is None else self.count
        count += self.parts_extras and info.extra_columns > 0
        if len(outputs) != count:
            raise SessionError(
                f"the model's record says {self.name!r}", subject=subject, expected=f"{count} outputs",
                got=str(len(outputs)), hint="export it again with yoloship",
            )  # fmt: skip

    def device_columns(
        self, tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int], upload: Upload
    ) -> Extras:
        """Where the values behind the class scores lie on a GPU; the arguments are those of `device_output`.

        Asked only if `on_gpu` is true and the model has such values.
        """
        raise NotImplementedError


class RawForm(BoxForm):
    """Every cell decoded, in one output, laid out as the family's `Rows` say."""

    name = RAW
    description = "(B,N,5+C), the usual form"
    count = 1

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse an output of other columns than the family's, and a name that no output bears."""
        if info.decoded_output is None:
            super().check(outputs, info, subject)
        elif info.decoded_output not in {spec.name for spec in outputs}:
            raise SessionError(
                "the model's record names an output that it does not have", subject=subject,
                expected=info.decoded_output[:60], got=", ".join(spec.name for spec in outputs)[:120],
            )  # fmt: skip
        rows, classes, columns = rows_of(info, subject), len(info.class_names), _columns(info)
        (place,) = self.places(outputs, info)
        spec = outputs[place]
        if len(spec.shape) == 3 and spec.shape[1] == OBJECT_COLUMNS - 1 + classes and isinstance(rows, ObjectRows):
            raise anchor_free_error(subject, spec.shape_text)
        if not rows.fits(spec.shape, columns):
            raise SessionError(
                "the model's metadata contradicts its output",
                subject=subject,
                expected=f"{rows.shape_text(columns)} for {classes} classes",
                got=str(spec),
                hint="export it again with yoloship",
            )

    def places(self, outputs: Sequence[TensorSpec], info: ModelInfo) -> tuple[int, ...]:
        """The decoded output alone: many exports give the undecoded maps beside it."""
        return (next((place for place, spec in enumerate(outputs) if spec.name == info.decoded_output), 0),)

    def decode(
        self,
        outputs: Arrays,
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        score_threshold: float,
    ) -> list[Candidates]:
        """The candidates of every image."""
        rows, classes = rows_of(info, "model"), len(info.class_names)
        return [rows.candidates(image, classes, score_threshold) for image in self._images(outputs, info)]

    def has_object_rows(self, info: ModelInfo) -> bool:
        """Whether the family's rows have an objectness."""
        return isinstance(rows_of(info, "model"), ObjectRows)

    def object_rows(
        self,
        outputs: Arrays,
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        score_threshold: float,  # noqa: ARG002
    ) -> npt.NDArray[np.float32]:
        """The rows as they are."""
        rows: npt.NDArray[np.float32] = self._images(outputs, info)[0]
        return rows

    def _images(self, outputs: Arrays, info: ModelInfo) -> npt.NDArray[np.float32]:
        """The rows of all images, in float32."""
        rows, columns = rows_of(info, "model"), _columns(info)
        (raw,) = expect(outputs, 1)
        if not rows.fits(raw.shape, columns):
            raise wrong_output("output", rows.shape_text(columns), raw)
        return as_float32(raw, "output")

    def on_gpu(self, info: ModelInfo) -> bool:
        """Whether a kernel reads the family's rows, and what is behind their class scores."""
        from yoloship.tasks.kernels import fits_rows

        return rows_of(info, "model").on_gpu and fits_rows(info)

    def device_output(
        self,
        tensors: Sequence[DeviceTensor],
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        upload: Upload,
    ) -> DecodeInput:
        """The rows as they lie there."""
        return rows_of(info, "model").device_output(tensors[0], info, upload)

    def device_columns(
        self,
        tensors: Sequence[DeviceTensor],
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        upload: Upload,
    ) -> Extras:
        """The last columns of the rows."""
        return rows_of(info, "model").device_extras(tensors[0], info, upload)

    def cells(self, outputs: Arrays, info: ModelInfo) -> Cells:
        """Box and score of every row."""
        return rows_of(info, "model").cells(np.asarray(outputs[0][0], np.float32), len(info.class_names))


class HeadsForm(BoxForm):
    """The undecoded maps of each level, finest first.

    Of an anchor head, one map (B, A·(5+C), h, w) for each level. Of a head without anchors, two: see
    `yoloship.graph.heads.anchor_free`.
    """

    name = "heads"
    description = "undecoded maps, fastest"
    count = None

    def on_gpu(self, info: ModelInfo) -> bool:
        """Whether the kernels' tables have room for the model's levels and anchors."""
        from yoloship.tasks.kernels import fits_maps

        return fits_maps(info)

    def decoders(self, info: ModelInfo) -> tuple[DecodeExtras, DecodeBoxes]:  # noqa: ARG002 - for derived forms
        """How further columns and boxes of a head without anchors are decoded; see `yoloship.tasks.anchor_free`."""
        from yoloship.tasks.anchor_free import unchanged, upright

        return unchanged, upright

    def decode(
        self, outputs: Arrays, info: ModelInfo, input_hw: tuple[int, int], score_threshold: float
    ) -> list[Candidates]:
        """The candidates of every image; only cells whose objectness or best class can pass are decoded."""
        if not info.anchors:
            from yoloship.tasks.anchor_free import decode_heads

            return decode_heads(outputs, info, input_hw, score_threshold, self.decoders(info))
        heads = self._anchor_heads(outputs, info, input_hw)
        return [
            heads_candidates(
                [head[row] for head in heads], info.strides, info.anchors, score_threshold, info.extra_columns
            )
            for row in range(len(heads[0]))
        ]

    def has_object_rows(self, info: ModelInfo) -> bool:
        """Whether the head has anchors, and so an objectness."""
        return bool(info.anchors)

    def object_rows(
        self, outputs: Arrays, info: ModelInfo, input_hw: tuple[int, int], score_threshold: float
    ) -> npt.NDArray[np.float32]:
        """Those of the cells whose objectness can pass."""
        heads = [head[0] for head in self._anchor_heads(outputs, info, input_hw)]
        return heads_rows(heads, info.strides, info.anchors, score_threshold, info.extra_columns)

    def _anchor_heads(
        self, outputs: Arrays, info: ModelInfo, input_hw: tuple[int, int]
    ) -> list[npt.NDArray[np.generic]]:
        """The maps of each level, if they have the right shapes."""
        columns, heads = OBJECT_COLUMNS + len(info.class_names) + info.extra_columns, []
        levels = zip(expect(outputs, len(info.strides)), info.strides, info.anchors, strict=True)
        for level, (head, stride, anchors) in enumerate(levels):
            shape = (len(anchors) * columns, input_hw[0] // stride, input_hw[1] // stride)
            if head.shape[1:] != shape or len(head) != len(outputs[0]):
                raise wrong_output(f"head{level}", f"(B, {', '.join(map(str, shape))})", head)
            heads.append(head)
        return heads

    def device_output(
        self,
        tensors: Sequence[DeviceTensor],
        info: ModelInfo,
        input_hw: tuple[int, int],
        upload: Upload,
    ) -> DecodeInput:
        """The maps, and a table of where each lies."""
        from yoloship.tasks.kernels import anchor_maps, free_maps

        return (anchor_maps if info.anchors else free_maps)(tensors, info, input_hw, upload)

    def device_columns(
        self, tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int], upload: Upload
    ) -> Extras:
        """The further channels of the maps, or the further maps."""
        from yoloship.tasks.kernels import anchor_map_extras, free_map_extras

        return (anchor_map_extras if info.anchors else free_map_extras)(tensors, info, input_hw, upload)

    def cells(self, outputs: Arrays, info: ModelInfo) -> Cells:
        """Box and score of every cell."""
        if not info.anchors:
            from yoloship.tasks.anchor_free import heads_cells, images_of, level_maps

            return heads_cells(next(images_of(level_maps(outputs, info, None))), *self.decoders(info))
        heads = [np.asarray(head, np.float32)[:1] for head in outputs]
        raw = heads_to_raw(heads, info.strides, info.anchors, info.extra_columns)[0]
        return ObjectRows().cells(raw, len(info.class_names))


class CompactForm(BoxForm):
    """Of every cell the box, (B, N, 4) xyxy in model pixels, and the score and id of its best class, both (B, N)."""

    name = "compact"
    description = "boxes, scores, ids"
    count: ClassVar[int] = 3
    parts_extras = True

    def decode(
        self,
        outputs: Arrays,
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        score_threshold: float,
    ) -> list[Candidates]:
        """The candidates of every image."""
        boxes, scores, class_ids, *others = expect(outputs, self.count + (info.extra_columns > 0))
        check_boxes(boxes, scores, class_ids, "N")
        extras = _extras(others, scores, info)
        if class_ids.dtype.kind not in "iu":
            raise wrong_output("class_ids", "integers", class_ids)
        rows = zip(as_float32(boxes, "boxes_xyxy"), as_float32(scores, "scores"), class_ids, extras, strict=True)
        classes = len(info.class_names)
        return [above(Candidates(b, s, c.astype(np.int32), extras=e), classes, score_threshold) for b, s, c, e in rows]

    def cells(self, outputs: Arrays, info: ModelInfo) -> Cells:  # noqa: ARG002 - one signature
        """Box and score of every cell."""
        return np.array(outputs[0][0], np.float32), np.array(outputs[1][0], np.float32)


class SuppressedForm(BoxForm):
    """Final detections, best first, padded to a fixed number of rows, with their count."""

    name = "nms"
    description = "final detections"
    suppresses = True
    count: ClassVar[int] = 5
    parts_extras = True

    def decode(
        self,
        outputs: Arrays,
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        score_threshold: float,
    ) -> list[Candidates]:
        """The boxes that the graph has kept: the first `count` rows.

        Candidates that it has not looked at score no more than those it kept, so they are missed only if all of these
        are above the threshold.
        """
        boxes, scores, class_ids, counts, exact, *others = expect(outputs, self.count + (info.extra_columns > 0))
        check_boxes(boxes, scores, class_ids, "M")
        extras = _extras(others, scores, info)
        for name, array in (("class_ids", class_ids), ("count", counts), ("exact", exact)):
            if array.dtype.kind not in "iu":
                raise wrong_output(name, "integers", array)
        if counts.shape != scores.shape[:1] or not all(0 <= count <= scores.shape[1] for count in counts.tolist()):
            raise wrong_output("count", f"({len(scores)},), each at most {scores.shape[1]}", counts)
        if exact.shape != counts.shape:
            raise wrong_output("exact", f"({len(scores)},)", exact)
        limit = np.float32(score_threshold)
        rows = zip(
            as_float32(boxes, "boxes_xyxy"), as_float32(scores, "scores"), class_ids, counts.tolist(), exact.tolist(),
            extras, strict=True,
        )  # fmt: skip
        return [
            above(
                Candidates(
                    b[:n], s[:n], c[:n].astype(np.int32), state >= 0 or bool((s[:n] <= limit).any()),
                    None if e is None else e[:n],
                ),
                len(info.class_names),
                score_threshold,
            )
            for b, s, c, n, state, e in rows
        ]  # fmt: skip


def _columns(info: ModelInfo) -> int:
    """How many columns follow the box, or the box and the objectness, in a decoded row."""
    return len(info.class_names) + info.extra_columns


def _extras(
    outputs: Arrays, scores: npt.NDArray[np.generic], info: ModelInfo
) -> Sequence[npt.NDArray[np.float32] | None]:
    """For each image the further columns of its rows, (n, E) float32; None if the model has none."""
    if not info.extra_columns:
        return [None] * len(scores)
    shape = (*scores.shape, info.extra_columns)
    if outputs[0].shape != shape:
        raise wrong_output(EXTRAS, str(shape), outputs[0])
    return as_float32(outputs[0], EXTRAS)  # type: ignore[return-value]  # an array of arrays


class End2EndForm(BoxForm):
    """The rows of a one-to-one head, (B, k, 6): x1, y1, x2, y2, score, class id; final, best first."""

    name = "end2end"
    description = "final rows of NMS-free models"
    count = 1

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse other columns, and the record of a head that needs suppression."""
        super().check(outputs, info, subject)
        shape = outputs[0].shape
        columns = END2END_COLUMNS + info.extra_columns
        if len(shape) != 3 or (isinstance(shape[2], int) and shape[2] != columns) or info.head != "one2one":
            raise SessionError(
                "the model's metadata contradicts its output", subject=subject,
                expected=f"(B, k, {columns}) of the head 'one2one'", got=f"{outputs[0]} of {info.head!r}",
            )  # fmt: skip

    def decode(
        self,
        outputs: Arrays,
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        score_threshold: float,
    ) -> list[Candidates]:
        """The rows above the threshold."""
        (rows,) = expect(outputs, 1)
        columns = END2END_COLUMNS + info.extra_columns
        if rows.ndim != 3 or rows.shape[2] != columns:
            raise wrong_output("output", f"(B, k, {columns})", rows)
        from yoloship.tasks.anchor_free import end2end_candidates

        classes = len(info.class_names)
        return [end2end_candidates(image, classes, score_threshold) for image in as_float32(rows, "output")]

    def on_gpu(self, info: ModelInfo) -> bool:
        """Whether there are kernels for what is behind the class ids."""
        from yoloship.tasks.kernels import fits_rows

        return fits_rows(info)

    def device_output(
        self,
        tensors: Sequence[DeviceTensor],
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        upload: Upload,  # noqa: ARG002
    ) -> DecodeInput:
        """The rows as they lie there."""
        from yoloship.tasks.kernels import chosen_rows

        return chosen_rows(tensors[0], info)

    def device_columns(
        self,
        tensors: Sequence[DeviceTensor],
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        upload: Upload,
    ) -> Extras:
        """The last columns of the rows."""
        from yoloship.tasks.kernels import chosen_row_extras

        return chosen_row_extras(tensors[0], info, upload)


class Detect(Task[Candidates, Detections]):
    """Boxes around objects, each with a class and a score."""

    name = "detect"
    title = "detection model"
    noun = ("detection", "detections")
    measure = "mAP50-95"
    forms: ClassVar[tuple[Form[Candidates], ...]] = (
        RawForm(),
        HeadsForm(),
        CompactForm(),
        SuppressedForm(),
        End2EndForm(),
    )

    def foreign_forms(self) -> Mapping[str, Form[Candidates]]:
        """Those of YOLOX, DETRs, YOLOv7 and TensorRT's plugin."""
        from yoloship.tasks.foreign import FOREIGN_FORMS

        return FOREIGN_FORMS

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse a record without classes or strides, and thresholds without suppression."""
        form = self.form(info.output_form, subject)
        if not info.class_names or not info.strides:
            raise SessionError("the model's record names no classes or no strides", subject=subject)
        if info.task == Detect.name and info.extra_columns:
            raise InputError(
                "model record: bad 'extra_columns'", subject=subject, expected="0 for a detection model",
                got=str(info.extra_columns),
            )  # fmt: skip
        if form.suppresses != (info.nms is not None):
            raise InputError(
                "model record: bad 'nms'", subject=subject, got="none" if info.nms is None else "thresholds",
                expected=f"thresholds if suppression is inside the graph, and only then; its form is {form.name!r}",
            )  # fmt: skip
        form.check(outputs, info, subject)

    def suppress(self, answer: Candidates, limits: Limits, class_ids: npt.NDArray[np.int32] | None) -> Candidates:
        """The boxes to keep, best first.

        If the graph has suppressed already this changes nothing, or completes it: a graph that ran out of iterations
        gives boxes too many, and suppressing them once more gives the exact result.
        """
        if not len(answer):
            return answer
        if class_ids is not None:
            answer = answer.take(np.isin(answer.class_ids, class_ids))
        if answer.final:
            usable = np.flatnonzero(self.usable(answer))
            best_first = usable[np.argsort(-answer.scores[usable], kind="stable")]
            return answer.take(best_first[: limits.max_detections])
        if len(answer) > MAX_CANDIDATES:
            best = np.sort(np.argsort(-answer.scores, kind="stable")[:MAX_CANDIDATES])
            answer = answer.take(best)
        groups = np.zeros_like(answer.class_ids) if limits.class_agnostic else answer.class_ids
        return answer.take(self.choose(answer, groups, limits))

    def usable(self, answer: Candidates) -> npt.NDArray[np.bool_]:
        """Which candidates may be kept, (n,) bool: those whose box and score are finite."""
        usable: npt.NDArray[np.bool_] = np.isfinite(answer.boxes_xyxy).all(axis=1) & np.isfinite(answer.scores)
        return usable

    def choose(self, answer: Candidates, groups: npt.NDArray[np.int32], limits: Limits) -> npt.NDArray[np.int64]:
        """Which candidates are kept: (k,) int64 indices, best first.

        Args:
            answer: Those of the wanted classes.
            groups: (n,) int32: boxes suppress each other only within a group.
            limits: What to keep.
        """
        return nms(
            answer.boxes_xyxy,
            answer.scores,
            groups,
            iou_threshold=limits.iou_threshold,
            max_detections=limits.max_detections,
        )

    def to_result(self, answer: Candidates, letterbox: Letterbox, class_names: tuple[str, ...]) -> Detections:
        """Boxes in source pixels, clipped to the image."""
        height, width = letterbox.image_hw
        boxes = letterbox.to_image(answer.boxes_xyxy.astype(np.float64))  # float32 could overflow before it is clipped
        clipped = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
        return Detections(clipped, answer.scores, answer.class_ids, class_names, letterbox.image_hw, answer.complete)
