"""Heads for oriented boxes: forms against the formula, the angle in each version, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.graphs import outputs_of
from helpers.modules import Anchorless, anchorless_checkpoint, apart, changed, tensor, with_children
from yoloship.checkpoint import Opaque
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.graph.passes.suppression import append_suppression
from yoloship.model import NmsConfig
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint, Module

HW = (64, 96)


def obb_head(*, two: bool = False, name: str = "OBB", inputs: int = 1, reg_max: int = 4, **changes: Any) -> Module:
    """A head for oriented boxes, with one level for each input of 8 channels."""
    make = Anchorless(7)
    strides = [8 * 2**level for level in range(inputs)]
    head = make.detect_head([8] * inputs, strides, reg_max=reg_max, name=name, two=two)
    branch = make.branch([8] * inputs, 1)
    further = {"cv4": branch, **({"one2one_cv4": branch} if two else {})}
    return changed(with_children(head, **further), ne=1, **changes)


def two_heads() -> Checkpoint:
    """Two levels and two equal heads whose boxes are too small to overlap."""
    make = Anchorless(7)
    layers: list[tuple[Module, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (make.conv(8, 8, 3, 2), -1),
        (apart(obb_head(two=True, inputs=2)), [0, 1]),
    ]
    return anchorless_checkpoint(layers, strides=(8, 16), task="obb")


SAMPLES = MappingProxyType({("ultralytics", "obb"): two_heads})
"""By family and task, for the suites in tests/contract."""


def network(head: Module) -> Checkpoint:
    stem = Anchorless(3).conv(3, 8, 8, 8, padding=(0, 0))
    return anchorless_checkpoint([(stem, -1), (head, [-1])], task="obb")


def refusal(made: Checkpoint) -> str:
    with pytest.raises(GraphError) as caught:
        build_graph(made, GraphConfig(HW))
    return str(caught.value)


@pytest.mark.parametrize("reg_max", [1, 4])
@pytest.mark.parametrize("input_hw", [HW, None], ids=["fixed", "dynamic"])
def test_boxes_are_turned_about_the_cell_that_their_distances_count_from(
    reg_max: int, input_hw: tuple[int, int] | None
) -> None:
    made = network(obb_head(reg_max=reg_max))
    boxes, logits, angles = outputs_of(made, GraphConfig(input_hw, 2, output_form="heads"))
    sides = boxes.astype(np.float64).reshape(2, 4, reg_max, -1)
    if reg_max > 1:
        share = np.exp(sides)
        sides = share / share.sum(2, keepdims=True) * np.arange(reg_max).reshape(1, 1, -1, 1)
    left, top, right, bottom = sides.sum(2).transpose(1, 0, 2)
    angle = angles.astype(np.float64).reshape(2, -1)
    y, x = (line.ravel() + 0.5 for line in np.mgrid[: logits.shape[2], : logits.shape[3]])
    fx, fy = (right - left) / 2, (bottom - top) / 2
    cx, cy = x + fx * np.cos(angle) - fy * np.sin(angle), y + fx * np.sin(angle) + fy * np.cos(angle)
    expected = np.stack([cx, cy, left + right, top + bottom], 1) * 8
    (raw,) = outputs_of(made, GraphConfig(input_hw, 2, output_form="raw"))
    assert raw.shape == (2, 4 + 3 + 1, 96)
    np.testing.assert_allclose(raw[:, :4], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(raw[:, 7], angle, atol=1e-5)
    unturned, _, _, extras = outputs_of(made, GraphConfig(input_hw, 2, output_form="compact"))
    corners = np.concatenate([expected[:, :2] - expected[:, 2:] / 2, expected[:, :2] + expected[:, 2:] / 2], 1)
    np.testing.assert_allclose(unturned, corners.transpose(0, 2, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(extras[:, :, 0], angle, atol=1e-5)


def test_the_angle_is_a_share_of_half_a_turn_until_yolo26() -> None:
    head = obb_head()
    later = replace(head, class_path="ultralytics.nn.modules.head.OBB26")
    *_, eight = outputs_of(network(head), GraphConfig(HW, 2, output_form="heads"))
    *_, free = outputs_of(network(later), GraphConfig(HW, 2, output_form="heads"))
    np.testing.assert_allclose(eight, (1 / (1 + np.exp(-free)) - 0.25) * np.pi, atol=1e-5)


def test_rows_of_a_one_to_one_head_have_centre_size_and_angle() -> None:
    made = two_heads()
    (raw,) = outputs_of(made, GraphConfig(HW, 2, output_form="raw", head="one2many"))
    (rows,) = outputs_of(made, GraphConfig(HW, 2, output_form="end2end"))
    assert rows.shape[2] == 7
    columns = [0, 1, 2, 3, 7]
    for image in range(2):
        cells = raw[image].T[:, columns]
        apart_px = np.abs(rows[image][:, None, [0, 1, 2, 3, 6]] - cells[None]).max(axis=2).min(axis=1)
        assert apart_px.max() < 1e-3


@pytest.mark.parametrize("batch", [1, None])
@pytest.mark.parametrize("input_hw", [HW, None], ids=["fixed", "dynamic"])
def test_suppression_inside_the_graph_or_behind_it_keeps_what_the_cpu_keeps(
    input_hw: tuple[int, int] | None, batch: int | None
) -> None:
    made = network(obb_head())
    nms = NmsConfig(0.3, 0.2, max_detections=50, candidates=96)
    options = DetectOptions(score_threshold=0.3, iou_threshold=0.2, max_detections=50)
    raw = build_graph(made, GraphConfig(input_hw, batch))
    inside = build_graph(made, GraphConfig(input_hw, batch, output_form="nms", nms=nms))
    behind = append_suppression(raw, model_info(made, GraphConfig(input_hw, batch)), nms)
    image = np.random.default_rng(6).integers(0, 256, (*HW, 3), np.uint8)
    found = []
    for model, given in ((raw, options), (inside, None), (behind, None)):
        with Detector(OnnxRuntimeSession.open(graph_bytes(model)), imgsz=HW, options=given) as detector:
            found.append(detector(image))
    assert 3 < len(found[0]) < 50
    for other in found[1:]:
        assert other.class_ids.tolist() == found[0].class_ids.tolist()
        np.testing.assert_allclose(other.boxes_xywhr, found[0].boxes_xywhr, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (changed(obb_head(), ne=2), "ne is not supported with this value: expected 1"),
        (changed(obb_head(), ne=True), "ne"),
        (changed(obb_head(), detect="os.system"), "its method 'detect' was replaced: expected Detect.forward"),
        (
            changed(obb_head(), detect=Opaque("__builtin__.getattr", ("ultralytics.nn.modules.head.Detect", "decode"))),
            "its method 'detect' was replaced",
        ),
        (with_children(obb_head(), cv4=Anchorless(1).branch([8, 8], 1)), "'cv4' has a different number of levels"),
        (with_children(obb_head(), cv4=Anchorless(1).branch([8], 2)), "map of level 0 has another shape"),
        (with_children(obb_head(), cv4=None), "cv4"),
        (with_children(obb_head(), cv6=Anchorless(1).branch([8], 1)), "child 'cv6'"),
    ],
)  # fmt: skip
def test_heads_that_contradict_themselves_are_refused(head: Module, words: str) -> None:
    assert words in refusal(network(head))


def test_what_a_run_leaves_behind_is_ignored_and_the_official_method_allowed() -> None:
    method = Opaque("__builtin__.getattr", ("ultralytics.nn.modules.head.Detect", "forward"))
    stale = changed(obb_head(), angle=tensor(np.zeros((1, 1, 5))), detect=method)
    (plain,), (raw,) = (outputs_of(network(head), GraphConfig(HW, 2)) for head in (obb_head(), stale))
    np.testing.assert_array_equal(raw, plain)
