"""A small network of each family, task and output form, loaded on a device, finds what it finds on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from helpers.samples import sample
from helpers.task_answers import assert_same_result
from yoloship.detect.options import DetectOptions
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.graph.families import FAMILIES
from yoloship.models.loading import load
from yoloship.results.detections import Detections

if TYPE_CHECKING:
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
    if not isinstance(found, Detections) or not isinstance(expected, Detections):
        assert found.to_dict().keys() == expected.to_dict().keys()
        assert found.counts() == expected.counts()
        return
    assert abs(len(found) - len(expected)) <= 1 + len(expected) // 20
    if len(found) == len(expected) and (found.class_ids == expected.class_ids).all():
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=2e-3)
        same = np.abs(found.boxes_xyxy - expected.boxes_xyxy).max(axis=1) < 0.5
        assert np.count_nonzero(~same) <= 2 + len(same) // 10  # of two like scores either may come first


@pytest.mark.parametrize(("family", "task", "form"), FORMS)
def test_a_network_on_a_device_finds_what_it_finds_on_the_cpu(
    open_session: Open, device: Device, monkeypatch: pytest.MonkeyPatch, family: str, task: str, form: str
) -> None:
    network, config = sample(family, task), GraphConfig(HW, 1, output_form=form)
    data = graph_bytes(build_graph(network, config))

    def stand_in(*_: object) -> DeviceSession:
        return open_session(onnx.load_from_string(data), info=model_info(network, config))

    monkeypatch.setattr("yoloship.models.gpu_loading._open", stand_in)
    images = [np.random.default_rng(seed).integers(0, 256, (*HW, 3), np.uint8) for seed in range(2)]
    options = None if form == "nms" else OPTIONS
    with load(data, options=options) as cpu, load(data, device="cuda", options=options) as detector:
        assert detector.device == f"cuda:{device.ordinal}"
        for image in images:
            found, expected = detector(image), cpu(image)
            assert len(expected)
            if device.name.startswith("stand-in"):
                assert_same_result(found, expected)
            else:
                assert_alike(found, expected)
