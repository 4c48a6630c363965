"""What a build knows about exports of other projects: the whole record, whatever the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.other_exports import CELLS, HW, channel_rows, constant_export, detr_export, yolox_export
from yoloship.errors import SessionError
from yoloship.models.building import build_source

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from yoloship.model import ModelInfo

NAMES = ("cat", "dog", "cow")
ULTRALYTICS = {"task": "detect", "version": "8.3.63", "names": str(list(NAMES))}
RNG = np.random.default_rng(0)


def record(folder: Path, made: onnx.ModelProto, names: tuple[str, ...] | None = None) -> ModelInfo | None:
    path = folder / "x.onnx"
    path.write_bytes(made.SerializeToString())
    with build_source(path, class_names=names) as source:
        return source.info


def points() -> Any:
    """Two keypoints of three numbers near each cell."""
    found = np.empty((1, 2, 3, len(CELLS)))
    strides = np.repeat((8, 16, 32), [HW[0] * HW[1] // stride**2 for stride in (8, 16, 32)])
    found[:, :, :2] = (CELLS.T + RNG.normal(0.5, 0.4, (2, 2, len(CELLS)))) * strides
    found[:, :, 2] = RNG.uniform(0, 1, (2, len(CELLS)))
    return found.reshape(1, 6, -1)


def test_pixels_and_framing_of_yolox_are_kept(tmp_path: Path) -> None:
    info = record(tmp_path, yolox_export(), NAMES)
    assert info is not None
    assert (info.output_form, info.framing, info.pixels) == ("offsets", "top_left", "bgr255")


def test_a_detr_with_its_second_input_is_known(tmp_path: Path) -> None:
    info = record(tmp_path, detr_export(), NAMES)
    assert info is not None
    assert (info.output_form, info.framing, info.input_hw, info.batch) == ("set", "stretch", HW, 1)


def test_tasks_of_ultralytics_keep_their_columns(tmp_path: Path) -> None:
    prototypes = np.ones((1, 4, HW[0] // 4, HW[1] // 4), np.float32)
    coefficients = RNG.normal(0, 1, (1, 4, len(CELLS)))
    rows = {"output0": channel_rows(coefficients), "output1": prototypes}
    info = record(tmp_path, constant_export(rows, {**ULTRALYTICS, "task": "segment"}))
    assert info is not None
    assert (info.task, info.extra_columns, info.mask_rule) == ("segment", 4, "ultralytics-8.2.43")
    posed = constant_export({"output0": channel_rows(points())}, {**ULTRALYTICS, "task": "pose", "kpt_shape": "[2, 3]"})
    info = record(tmp_path, posed)
    assert info is not None
    assert (info.task, info.extra_columns, info.keypoint_shape) == ("pose", 6, (2, 3))


def test_a_classification_model_keeps_its_transform_and_the_kind_of_its_scores(tmp_path: Path) -> None:
    made = constant_export({"output0": np.array([[0.1, 0.7, 0.2]], np.float32)}, {**ULTRALYTICS, "task": "classify"})
    info = record(tmp_path, made)
    assert info is not None
    assert (info.class_scores, info.transform is not None, info.strides) == ("probabilities", True, ())
    info = record(tmp_path, constant_export({"output0": np.array([[1, 7, -2]], np.float32)}), NAMES)
    assert info is not None
    assert (info.class_scores, info.transform) == ("logits", None)


def test_code_that_changes_the_graph_is_given_the_class_names_too(tmp_path: Path) -> None:
    path, seen = tmp_path / "x.onnx", []

    def refine(model: onnx.ModelProto) -> onnx.ModelProto:
        seen.append({entry.key: entry.value for entry in model.metadata_props})
        return model

    for metadata in ({}, {"names": "['a', 'b', 'c']"}):
        path.write_bytes(constant_export({"output0": channel_rows()}, metadata).SerializeToString())
        with build_source(path, refine=refine, class_names=NAMES) as source:
            assert source.info is not None
            assert source.info.class_names == NAMES
    assert seen == [{"names": '["cat", "dog", "cow"]'}, {"names": "['a', 'b', 'c']"}]


def test_what_no_detector_knows_is_built_without_a_record_unless_names_are_given(tmp_path: Path) -> None:
    made = constant_export({"output0": channel_rows()[:, ::-1].copy()})
    assert record(tmp_path, made) is None
    with pytest.raises(SessionError):
        record(tmp_path, made, NAMES)
