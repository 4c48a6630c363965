from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import models
from helpers.scenes import MODEL
from yoloship.detect.detector import Detector
from yoloship.errors import InputError, SessionError
from yoloship.tasks.decode import heads_to_raw
from yoloship.validate.yolov5.network import Network, open_network


def network(form: str, script: object, **changes: object) -> Network:
    detector = Detector(models.image_session(models.info(form, **changes), script), imgsz=models.HW)
    return Network(detector, is_checkpoint=False, sha256="", name="m.onnx")


CANVAS = np.zeros((*models.HW, 3), np.uint8)


def test_decoded_rows_are_given_as_they_are() -> None:
    raw = models.empty_rows(models.HW)
    raw[0, 5] = (30, 20, 20, 10, 0.9, 0.5, 0.6, 0.7)
    rows = network("raw", lambda _feeds: [raw]).rows(CANVAS, 0.001)
    np.testing.assert_array_equal(rows, raw[0])


def test_of_undecoded_maps_the_rows_are_decoded_whose_objectness_can_pass() -> None:
    heads = models.random_heads(1, models.HW)
    rows = network("heads", lambda _feeds: heads).rows(CANVAS, 0.3)
    every = heads_to_raw(heads, models.STRIDES, models.ANCHORS)[0]
    expected = every[every[:, 4] > 0.3]
    np.testing.assert_allclose(rows[rows[:, 4] > 0.3], expected, rtol=1e-5)
    assert 0 < len(rows) < len(every)


def test_a_graph_of_a_fixed_batch_sees_the_image_in_each_place() -> None:
    raw = np.repeat(models.empty_rows(models.HW), 2, axis=0)
    session = models.image_session(models.info("raw", batch=2), lambda _feeds: [raw])
    found = Network(Detector(session, imgsz=models.HW), is_checkpoint=False, sha256="", name="m")
    assert found.rows(CANVAS, 0.001).shape == raw.shape[1:]
    assert session.calls[-1]["images"].shape == (2, *models.HW, 3)


@pytest.mark.parametrize("form", ["raw", "heads"])
def test_an_output_of_another_shape_is_refused(form: str) -> None:
    count = {"raw": 1, "heads": 3}[form]
    wrong = [np.zeros((1, 24, 3), np.float32)] * count
    with pytest.raises(SessionError, match="output is not as promised"):
        network(form, lambda _feeds: wrong).rows(CANVAS, 0.001)


def test_a_graph_that_keeps_only_the_best_class_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"m\.onnx: does not give .* every class score .* 'yoloship export --output raw'"
    ):
        network("compact", lambda _feeds: [])


def test_models_of_other_families_and_tasks_are_refused() -> None:
    detector = Detector(models.image_session(models.info("raw"), lambda _feeds: []), imgsz=models.HW)
    for change, problem in (
        ({"task": "segment"}, "is for the task 'segment'; YOLOv5's rules are here for detection only"),
        ({"family": "ultralytics", "anchors": ()}, "got ultralytics, output form raw; take COCO's rules"),
        ({"channels": 1}, "does not take colour images"),
    ):
        detector._model = type(detector._model)(models.info("raw", **change), models.HW, "square", "m")
        with pytest.raises(InputError, match=problem):
            Network(detector, is_checkpoint=False, sha256="", name="m")


def test_a_canvas_of_another_size_than_the_graphs_is_refused() -> None:
    found = network("raw", lambda _feeds: [])
    found.check_size(models.HW)
    with pytest.raises(InputError, match="the graph has a fixed size: expected 64×96, got 96×96"):
        found.check_size((96, 96))


def test_a_checkpoint_runs_at_any_size_and_is_closed_afterwards() -> None:
    with open_network(MODEL) as found:
        assert (found.is_checkpoint, len(found.sha256), found.name) == (True, 64, str(MODEL))
        for side in (64, 96):
            assert found.rows(np.full((64, side, 3), 114, np.uint8), 0.0).shape[1] == 8
    with pytest.raises(SessionError, match="closed"):
        found.rows(CANVAS, 0.001)


def test_a_detector_that_was_given_stays_open() -> None:
    raw = models.empty_rows(models.HW)
    with Detector(models.image_session(models.info("raw"), lambda _feeds: [raw]), imgsz=models.HW) as detector:
        with open_network(detector) as found:
            assert not found.is_checkpoint
        assert len(detector(np.zeros((10, 10, 3), np.uint8))) == 0


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"), open_network(tmp_path / "no.pt"):
        pass
