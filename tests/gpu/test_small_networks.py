"""A small network of each family, task and output form, loaded on a device, finds what it finds on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from helpers.device_sessions import QUICK, is_stand_in, require_onnxruntime, stand_in_opener
from helpers.samples import sample
from helpers.task_answers import assert_same_result
from yoloship.detect.options import DetectOptions
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.graph.families import FAMILIES
from yoloship.models.loading import load
from yoloship.results.classification import Classification
from yoloship.results.detections import Detections
from yoloship.runtime.onnxruntime.cuda import OnnxRuntimeCudaSession

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.device_sessions import Open
    from yoloship.cuda.device import Device
    from yoloship.results import Result
    from yoloship.runtime.session import DeviceSession

FORMS = [
    (name, task, form)
    for name in FAMILIES.own
    for task in sorted(set(FAMILIES.load(name)().tasks().values()))
    if (head := FAMILIES.load(name)().head_for(task)) is not None
    for form in head.forms
]
HW = (64, 96)
OPTIONS = DetectOptions(score_threshold=0.3, iou_threshold=0.5)


def assert_alike(found: Result, expected: Result) -> None:
    """Equal but for the arithmetic of another runtime: objects whose scores are near the threshold may be missing."""
    if isinstance(found, Classification) and isinstance(expected, Classification):
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-3)
        return
    assert isinstance(found, Detections)
    assert isinstance(expected, Detections)
    assert abs(len(found) - len(expected)) <= 1 + len(expected) // 20
    if len(found) == len(expected) and (found.class_ids == expected.class_ids).all():
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=2e-3)
        same = np.abs(found.boxes_xyxy - expected.boxes_xyxy).max(axis=1) < 0.5
        assert np.count_nonzero(~same) <= 2 + len(same) // 10  # of two like scores either may come first


@pytest.fixture
def open_network(device: Device, tmp_path: Path) -> Open:
    """Opens a model with ONNX Runtime, or on a stand-in for the driver with what computes there."""
    if is_stand_in(device):
        return stand_in_opener(device, tmp_path)
    require_onnxruntime(device)
    return lambda model, **_: OnnxRuntimeCudaSession.open(model.SerializeToString(), device, QUICK)


@pytest.mark.parametrize(("family", "task", "form"), FORMS)
def test_a_network_on_a_device_finds_what_it_finds_on_the_cpu(
    open_network: Open, device: Device, monkeypatch: pytest.MonkeyPatch, family: str, task: str, form: str
) -> None:
    network, config = sample(family, task), GraphConfig(HW, 1, output_form=form)
    data = graph_bytes(build_graph(network, config))

    def stand_in(*_: object) -> DeviceSession:
        return open_network(onnx.load_from_string(data), info=model_info(network, config))

    monkeypatch.setattr("yoloship.models.gpu_loading._open", stand_in)
    images = [np.random.default_rng(seed).integers(0, 256, (*HW, 3), np.uint8) for seed in range(2)]
    options = None if form == "nms" or task == "classify" else OPTIONS
    with load(data, options=options) as cpu, load(data, device="cuda", options=options) as detector:
        assert detector.device == f"cuda:{device.ordinal}"
        for image in images:
            found, expected = detector(image), cpu(image)
            assert len(expected)
            if is_stand_in(device) and isinstance(found, Detections) and isinstance(expected, Detections):
                assert_same_result(found, expected)
            else:
                assert_alike(found, expected)
