"""Exports that give final detections: what `test_exports.py` does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from yoloship.errors import SessionError
from yoloship.model import TensorSpec
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks.recognise import recognise_foreign

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Arrays = list[npt.NDArray[Any]]

HW = (64, 96)
NAMES = {"names": "['cat', 'dog']"}
PADDED: Mapping[str, npt.NDArray[Any]] = {
    "num_dets": np.array([[1]], np.int32), "det_boxes": np.array([[[10, 20, 30, 40], [0, 0, 0, 0]]], np.float32),
    "det_scores": np.array([[0.7, 0]], np.float32), "det_classes": np.array([[1, 0]], np.int32),
}  # fmt: skip


def padded(**changes: npt.NDArray[Any]) -> ScriptedSession:
    arrays = {**PADDED, **changes}
    return ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW))],
        [TensorSpec(name, "float32", array.shape) for name, array in arrays.items()],
        lambda _: list(arrays.values()), metadata=NAMES,
    )  # fmt: skip


def refused(model: ScriptedSession) -> str:
    with pytest.raises(SessionError) as caught:
        recognise_foreign(model, "x.onnx", None, None)
    return str(caught.value)


def test_the_outputs_of_the_plugin_must_be_what_their_names_say() -> None:
    assert recognise_foreign(padded(), "x.onnx", None, None).output_form == "padded"
    boxes = PADDED["det_boxes"]
    assert "normalised" in refused(padded(det_boxes=boxes / 96))
    assert "not corners" in refused(padded(det_boxes=boxes[..., [2, 3, 0, 1]]))
    assert "other numbers" in refused(padded(det_scores=np.array([[7, 0]], np.float32)))
    assert "class ids up to 2 beside 2 class names" in refused(padded(det_classes=np.array([[2, 0]])))
    assert "det_boxes" in refused(padded(det_boxes=boxes[:, :1]))
    assert "num_dets" in refused(padded(num_dets=np.array([[3]])))


def test_a_plugin_that_finds_nothing_even_in_noise_is_refused() -> None:
    model = padded(num_dets=np.array([[0]]))
    assert "stays empty" in refused(model)
    assert len(model.calls) == 5


def test_a_list_of_a_fixed_batch_is_looked_at_with_whole_batches() -> None:
    def answer(feeds: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        loud = np.abs(feeds["images"]).max() > 5
        rows = [(place, 10, 20, 30, 40, 1, 0.5) for place in range(len(feeds["images"]))] if loud else []
        return [np.array(rows, np.float32).reshape(-1, 7)]

    model = ScriptedSession(
        [TensorSpec("images", "float32", (2, 3, *HW))], [TensorSpec("output", "float32", ("n", 7))], answer,
        metadata=NAMES,
    )  # fmt: skip
    info = recognise_foreign(model, "x.onnx", None, None)
    assert (info.output_form, info.batch) == ("list", 2)


def test_labels_that_are_not_class_ids_are_refused() -> None:
    def answer(feeds: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        width, height = feeds["orig_target_sizes"][0]
        boxes = np.array([[[0.25, 0.5, 0.5, 1.0]]]) * [width, height, width, height]
        return [np.array([[0.5]]), boxes.astype(np.float32), np.array([[0.9]], np.float32)]

    model = ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW)), TensorSpec("orig_target_sizes", "int64", (1, 2))],
        [TensorSpec(name, "float32", (1, 1)) for name in ("labels", "boxes", "scores")], answer, metadata=NAMES,
    )  # fmt: skip
    assert "labels that are not class ids" in refused(model)
