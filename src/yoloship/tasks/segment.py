"""Segmentation: boxes as in detection, and from each kept box's mask coefficients and the prototypes its mask.

Its output forms are those of detection, with the coefficients behind each box and one more output, the prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from yoloship.errors import InputError, SessionError
from yoloship.results.detections import Detections
from yoloship.results.mask_rules import MASK_RULES, NEWEST_RULE
from yoloship.tasks.decode import as_float32, wrong_output
from yoloship.tasks.detect import BoxForm, CompactForm, Detect, End2EndForm, HeadsForm, RawForm, SuppressedForm
from yoloship.tasks.prototypes import check_prototypes, masks_on_canvas, masks_on_image
from yoloship.tasks.task import Form, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.cuda.masks import Prototypes
    from yoloship.cuda.postprocess import DecodeInput
    from yoloship.letterbox import Letterbox
    from yoloship.model import ModelInfo, TensorSpec
    from yoloship.results.mask_rules import MaskRule
    from yoloship.runtime.session import DeviceTensor
    from yoloship.tasks.decode import Candidates
    from yoloship.tasks.task import Cells, Limits, Upload

    Arrays = Sequence[npt.NDArray[np.generic]]

PROTOTYPES: Final = "prototypes"
_BOXES: Final = Detect()


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """The candidates of one image, and what their masks are made of.

    Attributes:
        candidates: Boxes with mask coefficients as their extras.
        prototypes: (P, h, w) float32, cells of the canvas; read only.
        rule: How masks are made.
        on_image: Whether masks are made at the resolution of the source image, not of the canvas.
    """

    candidates: Candidates
    prototypes: npt.NDArray[np.float32]
    rule: MaskRule
    on_image: bool = False


class SegmentForm(Form[Segments]):
    """An output form of detection with prototypes as one more output, the last of four axes.

    Attributes:
        boxes: The form of detection that the other outputs have.
    """

    boxes: ClassVar[BoxForm]

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse a graph without prototypes, or with another number of them than mask coefficients."""
        place = _prototypes_place(outputs)
        if place is None:
            raise SessionError(
                "has no prototypes, which masks are made of", subject=subject,
                expected=f"one more output (B, {info.extra_columns}, h, w)", got=", ".join(map(str, outputs))[:200],
                hint="export it again with yoloship, or with its prototypes",
            )  # fmt: skip
        channels = outputs[place].shape[1]
        if isinstance(channels, int) and channels != info.extra_columns:
            raise SessionError(
                "has a different number of prototypes than mask coefficients", subject=subject,
                expected=str(info.extra_columns), got=str(outputs[place]),
            )  # fmt: skip
        _BOXES.check(_without(outputs, place), info, subject)

    def places(self, outputs: Sequence[TensorSpec], info: ModelInfo) -> tuple[int, ...]:
        """The outputs of the boxes in their order, then the prototypes."""
        place = _prototypes_place(outputs)
        if place is None:
            return tuple(range(len(outputs)))
        others = [index for index in range(len(outputs)) if index != place]
        return (*(others[index] for index in self.boxes.places(_without(outputs, place), info)), place)

    def decode(
        self, outputs: Arrays, info: ModelInfo, input_hw: tuple[int, int], score_threshold: float
    ) -> list[Segments]:
        """The candidates and the prototypes of every image."""
        *others, last = outputs
        if last.ndim != 4:
            raise wrong_output(PROTOTYPES, f"(B, {info.extra_columns}, h, w)", last)
        check_prototypes(last.shape[1:], input_hw, info.extra_columns, PROTOTYPES)
        found = self.boxes.decode(others, info, input_hw, score_threshold)
        if len(found) != len(last):
            raise wrong_output(PROTOTYPES, f"({len(found)}, {info.extra_columns}, h, w)", last)
        rule = MASK_RULES[info.mask_rule or NEWEST_RULE]
        prototypes = as_float32(last, PROTOTYPES)
        return [Segments(boxes, masks, rule) for boxes, masks in zip(found, prototypes, strict=True)]

    def on_gpu(self, info: ModelInfo) -> bool:
        """Whether there are kernels for the boxes, and for so many mask coefficients."""
        return self.boxes.on_gpu(info)

    def device_output(
        self, tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int], upload: Upload
    ) -> DecodeInput:
        """What the decoding kernels read of the boxes."""
        return self.boxes.device_output(tensors[:-1], info, input_hw, upload)

    def device_extras(
        self, tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int], upload: Upload
    ) -> Prototypes:
        """The prototypes, and where the mask coefficients lie."""
        from yoloship.tasks.kernels import mask_prototypes

        coefficients = self.boxes.device_columns(tensors[:-1], info, input_hw, upload)
        return mask_prototypes(tensors[-1], coefficients, info, input_hw)

    def cells(self, outputs: Arrays, info: ModelInfo) -> Cells | None:
        """Box and score of every cell."""
        return self.boxes.cells(outputs[:-1], info)


class RawSegments(SegmentForm):
    """Every cell decoded, in one output, with the mask coefficients behind its class scores."""

    boxes = RawForm()
    name = boxes.name
    description = "(B,N,5+C+32) and prototypes, the usual form"


class HeadsSegments(SegmentForm):
    """The undecoded maps of each level, with the mask coefficients behind the class scores."""

    boxes = HeadsForm()
    name = boxes.name
    description = boxes.description


class CompactSegments(SegmentForm):
    """Of every cell the box, the score and id of its best class, and the mask coefficients."""

    boxes = CompactForm()
    name = boxes.name
    description = boxes.description


class SuppressedSegments(SegmentForm):
    """Final detections with their mask coefficients, best first."""

    boxes = SuppressedForm()
    name = boxes.name
    description = boxes.description
    suppresses = True


class End2EndSegments(SegmentForm):
    """The rows of a one-to-one head, with the mask coefficients behind the class id; final, best first."""

    boxes = End2EndForm()
    name = boxes.name
    description = boxes.description


class Segment(Task[Segments, Detections]):
    """Boxes around objects, each with a class, a score and a mask."""

    name = "segment"
    title = "segmentation model"
    noun = ("segmented object", "segmented objects")
    measure = "mask mAP50-95"
    stages = ("letterbox", "decode", "suppress and masks")
    options = Task.options | {"retina_masks", "mask_rule"}
    forms: ClassVar[tuple[Form[Segments], ...]] = (
        RawSegments(),
        HeadsSegments(),
        CompactSegments(),
        SuppressedSegments(),
        End2EndSegments(),
    )

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse a record without mask coefficients, an unknown rule, and what a detection model may not be."""
        form = self.form(info.output_form, subject)
        if not info.extra_columns:
            raise InputError(
                "model record: bad 'extra_columns'", subject=subject, expected="the number of mask coefficients",
                got="0",
            )  # fmt: skip
        if info.mask_rule is not None and info.mask_rule not in MASK_RULES:
            raise InputError(
                "model record: bad 'mask_rule'", subject=subject, expected=", ".join(MASK_RULES),
                got=info.mask_rule[:60], hint="install a newer yoloship",
            )  # fmt: skip
        form.check(outputs, info, subject)

    def suppress(self, answer: Segments, limits: Limits, class_ids: npt.NDArray[np.int32] | None) -> Segments:
        """The boxes to keep, best first, as in detection."""
        kept = _BOXES.suppress(answer.candidates, limits, class_ids)
        rule = answer.rule if limits.mask_rule is None else MASK_RULES[limits.mask_rule]
        return replace(answer, candidates=kept, rule=rule, on_image=limits.retina_masks)

    def to_result(self, answer: Segments, letterbox: Letterbox, class_names: tuple[str, ...]) -> Detections:
        """Boxes in source pixels with their masks. Objects without a pixel of mask are dropped if the rule does so."""
        kept, rule = answer.candidates, answer.rule
        found = _BOXES.to_result(kept, letterbox, class_names)
        coefficients = np.empty((0, len(answer.prototypes)), np.float32) if kept.extras is None else kept.extras
        if answer.on_image:
            masks = masks_on_image(found.boxes_xyxy, coefficients, answer.prototypes, letterbox, rule)
        else:
            masks = masks_on_canvas(kept.boxes_xyxy, coefficients, answer.prototypes, letterbox, rule)
        whole = np.array([not window.is_empty for window in masks.windows], bool)
        rows = slice(None) if whole.all() or not rule.drops_empty else whole
        return Detections(
            found.boxes_xyxy[rows], found.scores[rows], found.class_ids[rows], class_names, letterbox.image_hw,
            found.complete, masks[rows],
        )  # fmt: skip


def _prototypes_place(outputs: Sequence[TensorSpec]) -> int | None:
    """Which output has the prototypes: the last one of four axes, behind the maps of levels."""
    return next((place for place in reversed(range(len(outputs))) if len(outputs[place].shape) == 4), None)


def _without(outputs: Sequence[TensorSpec], place: int) -> tuple[TensorSpec, ...]:
    return (*outputs[:place], *outputs[place + 1 :])
