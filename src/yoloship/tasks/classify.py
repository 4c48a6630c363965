"""Classification: the output form of its models, and the way from their scores to a `Classification`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from yoloship.errors import SessionError
from yoloship.results.classification import Classification
from yoloship.tasks.decode import as_float32, expect, wrong_output
from yoloship.tasks.task import Form, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.model import ModelInfo, TensorSpec
    from yoloship.tasks.task import Limits

    Floats = npt.NDArray[np.float32]


def softmax(logits: Floats) -> Floats:
    """Probabilities from logits, along the last axis, computed in float64.

    Args:
        logits: (…, C) float32; read only.

    Returns:
        (…, C) float32; the caller owns it.
    """
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    probabilities: Floats = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities


class ScoresForm(Form["Floats"]):
    """A score for each class, (B, C): logits or probabilities, as the model's record says."""

    name = "raw"
    description = "a score for each class"

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse another number of outputs or classes."""
        classes = len(info.class_names)
        spec = outputs[0] if len(outputs) == 1 else None
        if spec is None or len(spec.shape) != 2 or (isinstance(spec.shape[1], int) and spec.shape[1] != classes):
            raise SessionError(
                "the model's metadata contradicts its output", subject=subject,
                expected=f"one output (B, {classes})", got=", ".join(map(str, outputs))[:120],
                hint="export it again with yoloship",
            )  # fmt: skip

    def decode(
        self,
        outputs: Sequence[npt.NDArray[np.generic]],
        info: ModelInfo,
        input_hw: tuple[int, int],  # noqa: ARG002 - one signature
        score_threshold: float,  # noqa: ARG002 - every class has its probability
    ) -> list[Floats]:
        """The probabilities of every image, (C,) each."""
        (scores,) = expect(outputs, 1)
        if scores.ndim != 2 or scores.shape[1] != len(info.class_names):
            raise wrong_output("output", f"(B, {len(info.class_names)})", scores)
        values = as_float32(scores, "output")
        if not np.isfinite(values).all():
            raise SessionError(
                "the model's output is not finite", subject="output", expected="numbers", got="NaN or infinity",
                hint="the image holds values that the precision of the network cannot take, or its weights are damaged",
            )  # fmt: skip
        return list(softmax(values) if info.class_scores == "logits" else np.array(values))


class Classify(Task["Floats", Classification]):
    """One class for a whole image, with the probability of every class."""

    name = "classify"
    title = "classification model"
    noun = ("class", "classes")
    measure = "top-1 accuracy"
    has_boxes = False
    stages = ("crop", "probabilities", "result")
    forms: ClassVar[tuple[Form[Any], ...]] = (ScoresForm(),)
    options: ClassVar[frozenset[str]] = frozenset()

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse a record without classes, or one that does not say what the scores are."""
        form = self.form(info.output_form, subject)
        if not info.class_names or info.class_scores is None:
            raise SessionError(
                "the model's record names no classes, or does not say whether it gives logits or probabilities",
                subject=subject, hint="export it again with yoloship",
            )  # fmt: skip
        if info.nms is not None or info.strides:
            raise SessionError(
                "the model's record is not that of a classification model", subject=subject,
                expected="no strides and no thresholds", hint="export it again with yoloship",
            )  # fmt: skip
        form.check(outputs, info, subject)

    def suppress(self, answer: Floats, limits: Limits, class_ids: npt.NDArray[np.int32] | None) -> Floats:  # noqa: ARG002
        """The same probabilities: there is nothing to suppress."""
        return answer

    def to_result(self, answer: Floats, letterbox: Any, class_names: tuple[str, ...]) -> Classification:
        """The probabilities with the names of the classes."""
        return Classification(answer, class_names, letterbox.image_hw)
