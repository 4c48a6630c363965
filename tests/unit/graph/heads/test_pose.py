"""Heads for keypoints: what the maps mean in each version, forms against the formula, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.graphs import outputs_of
from helpers.modules import Anchorless, anchorless_checkpoint, apart, changed, module, sequential, with_children
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, model_info
from yoloship.graph.onnx_file import read_metadata
from yoloship.model import METADATA_KEY, ModelInfo

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint, Module

HW = (64, 96)
SHAPE = (3, 3)
MODULE_LIST = "torch.nn.modules.container.ModuleList"


def levels_of(*parts: Module) -> Module:
    return module(MODULE_LIST, **{str(level): part for level, part in enumerate(parts)})


def pose_head(
    shape: tuple[int, int] = SHAPE, *, two: bool = False, name: str = "Pose", inputs: int = 1, **changes: Any
) -> Module:
    """A head for keypoints, with one level for each input of 8 channels."""
    make = Anchorless(7)
    strides = [8 * 2**level for level in range(inputs)]
    head = make.detect_head([8] * inputs, strides, reg_max=4, name=name, two=two)
    numbers = shape[0] * shape[1]
    branches = make.branch([8] * inputs, numbers)
    further = {"cv4": branches, **({"one2one_cv4": branches} if two else {})}
    return changed(with_children(head, **further), kpt_shape=list(shape), nk=numbers, **changes)


def two_heads() -> Checkpoint:
    """Two levels and two equal heads whose boxes are too small to overlap."""
    make = Anchorless(7)
    layers: list[tuple[Module, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (make.conv(8, 8, 3, 2), -1),
        (apart(pose_head(two=True, inputs=2)), [0, 1]),
    ]
    return anchorless_checkpoint(layers, strides=(8, 16), task="pose")


SAMPLES = MappingProxyType({("ultralytics", "pose"): two_heads})
"""By family and task, for the suites in tests/contract."""


def network(head: Module, **of_the_model: Any) -> Checkpoint:
    """One level, with these attributes of the whole model."""
    stem = Anchorless(3).conv(3, 8, 8, 8, padding=(0, 0))
    made = anchorless_checkpoint([(stem, -1), (head, [-1])], task="pose")
    return replace(made, module=changed(made.module, **of_the_model))


def as_26(head: Module) -> Module:
    """The same convolutions as a head of YOLO26, with the branches that only its loss reads."""
    make, children = Anchorless(9), {}
    for prefix in ("", "one2one_"):
        branch = head.children.get(f"{prefix}cv4")
        if branch is None:
            continue
        stages = [level.children for level in branch.children.values() if level is not None]
        children[f"{prefix}cv4"] = levels_of(*(stage["0"] for stage in stages))  # type: ignore[arg-type]
        children[f"{prefix}cv4_kpts"] = levels_of(*(stage["1"] for stage in stages))  # type: ignore[arg-type]
        children[f"{prefix}cv4_sigma"] = levels_of(make.conv2d(8, 6, bias=True))
    flow = module("ultralytics.nn.modules.block.RealNVP", {}, {"loc": np.zeros(2)})
    made = with_children(head, flow_model=flow, **children)
    return changed(replace(made, class_path="ultralytics.nn.modules.head.Pose26"), nk_sigma=6)


def refusal(made: Checkpoint) -> str:
    with pytest.raises(GraphError) as caught:
        build_graph(made, GraphConfig(HW))
    return str(caught.value)


@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (1, 3)])
@pytest.mark.parametrize("input_hw", [HW, None], ids=["fixed", "dynamic"])
def test_points_are_around_their_cell_and_visibilities_are_squashed(
    shape: tuple[int, int], input_hw: tuple[int, int] | None
) -> None:
    made = network(pose_head(shape))
    _, _, maps = outputs_of(made, GraphConfig(input_hw, 2, output_form="heads"))
    points = maps.astype(np.float64).reshape(2, *shape, -1)
    y, x = (line.ravel() + 0.5 for line in np.mgrid[: maps.shape[2], : maps.shape[3]])
    points[:, :, :2] = (points[:, :, :2] + np.stack([x, y])) * 8
    points[:, :, 2:] = 1 / (1 + np.exp(-points[:, :, 2:]))
    expected = points.reshape(2, shape[0] * shape[1], -1)
    (raw,) = outputs_of(made, GraphConfig(input_hw, 2, output_form="raw"))
    np.testing.assert_allclose(raw[:, 7:], expected, rtol=1e-4, atol=1e-4)
    *_, extras = outputs_of(made, GraphConfig(input_hw, 2, output_form="compact"))
    np.testing.assert_allclose(extras, expected.transpose(0, 2, 1), rtol=1e-4, atol=1e-4)


def test_maps_mean_the_same_in_every_version() -> None:
    """Of YOLOv8 x is (2·t + column)·stride, of YOLO26 (t + column + ½)·stride."""
    head = pose_head()
    _, _, eight = outputs_of(network(head), GraphConfig(HW, 2, output_form="heads"))
    _, _, later = outputs_of(network(as_26(head)), GraphConfig(HW, 2, output_form="heads"))
    eight, later = (maps.reshape(2, *SHAPE, -1) for maps in (eight, later))
    np.testing.assert_allclose(eight[:, :, :2], 2 * later[:, :, :2] - 0.5, atol=1e-5)
    np.testing.assert_allclose(eight[:, :, 2], later[:, :, 2], atol=1e-6)


def test_rows_of_a_one_to_one_head_have_the_points_of_their_cell() -> None:
    made = network(as_26(pose_head(two=True)))
    (raw,) = outputs_of(made, GraphConfig(HW, 2, output_form="raw", head="one2many"))
    (rows,) = outputs_of(made, GraphConfig(HW, 2, output_form="end2end"))
    assert rows.shape == (2, 96, 6 + 9)
    many = raw.transpose(0, 2, 1)
    for image in range(2):
        apart = np.abs(rows[image, :, None, 6:] - many[image, None, :, 7:]).max(axis=2).min(axis=1)
        assert apart.max() < 1e-3


def test_the_record_has_the_shape_and_the_names_of_the_points() -> None:
    names = ["nose", "left eye", "right eye"]
    made = network(pose_head(), kpt_shape=[3, 3], kpt_names={0: names, 1: names, 2: list(names)})
    graph = build_graph(made, GraphConfig(HW))
    info = ModelInfo.from_json(read_metadata(graph)[METADATA_KEY])
    assert info == model_info(made, GraphConfig(HW))
    assert (info.task, info.keypoint_shape, info.extra_columns) == ("pose", (3, 3), 9)
    assert info.keypoint_names == tuple(names)
    assert read_metadata(graph)["kpt_shape"] == "[3, 3]"
    plain = model_info(network(pose_head()), GraphConfig(HW))
    assert plain.keypoint_names == ()
    assert "keypoint_names" not in plain.to_json()


def test_names_that_differ_between_classes_are_left_out_and_one_list_is_for_all() -> None:
    first, second = ["a", "b", "c"], ["d", "e", "f"]
    assert model_info(network(pose_head(), kpt_names={0: first, 1: second}), GraphConfig(HW)).keypoint_names == ()
    assert model_info(network(pose_head(), kpt_names=first), GraphConfig(HW)).keypoint_names == ("a", "b", "c")
    assert model_info(network(pose_head(), kpt_names={}), GraphConfig(HW)).keypoint_names == ()


@pytest.mark.parametrize(
    "shape", [[17], [17, 3, 1], [0, 3], [17, 1], [17, 4], [-5, 2], [1001, 3], [10**12, 3], [True, 3], [17.0, 3], "17x3",
              17, None, [[17], 3], {0: 17, 1: 3}]
)  # fmt: skip
def test_impossible_keypoint_shapes_are_refused(shape: Any) -> None:
    assert "bad 'kpt_shape': expected [1 to 1000 points, 2 or 3 numbers]" in refusal(
        network(changed(pose_head(), kpt_shape=shape))
    )


def test_a_head_without_a_keypoint_shape_is_refused() -> None:
    head = pose_head()
    bare = replace(head, attributes=MappingProxyType({k: v for k, v in head.attributes.items() if k != "kpt_shape"}))
    assert "kpt_shape" in refusal(network(bare))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (changed(pose_head(), nk=10), "nk is not supported with this value: expected 9"),
        (
            changed(pose_head(), kpt_shape=[4, 3], nk=12),
            "channels than the keypoint shape says: expected 12 for 4 points of 3 numbers, got 9",
        ),
        (with_children(pose_head(), cv4=levels_of()), "'cv4' has a different number of levels: expected 1, got 0"),
        (with_children(pose_head(), cv4=levels_of(sequential())), "has a branch of points without layers"),
        (with_children(pose_head(), cv4=None), "cv4"),
        (with_children(pose_head(), cv4=levels_of(sequential(Anchorless(2).conv(8, 9)))), "Conv2d"),
        (with_children(pose_head(), cv5=levels_of(Anchorless(2).conv2d(8, 4))), "child 'cv5'"),
        (changed(pose_head(), detect="torch.load"), "its method 'detect' was replaced"),
        (with_children(as_26(pose_head()), cv4_kpts=levels_of()), "'cv4_kpts' has a different number of levels"),
        (with_children(as_26(pose_head()), cv4_kpts=None), "cv4_kpts"),
        (with_children(as_26(pose_head()), cv4=None), "cv4"),
    ],
)  # fmt: skip
def test_heads_that_contradict_themselves_are_refused(head: Module, words: str) -> None:
    assert words in refusal(network(head))


@pytest.mark.parametrize(
    ("of_the_model", "words"),
    [
        ({"kpt_shape": [5, 3]}, "its 'kpt_shape' contradicts that of the head: expected [3, 3], got [5, 3]"),
        ({"kpt_shape": "x"}, "bad 'kpt_shape'"),
        ({"kpt_names": {0: ["a", "b"]}}, "its 'kpt_names' contradict its 'kpt_shape': expected 3 names for each class"),
        ({"kpt_names": {0: ["a", "b", "c"], 1: ["a", "b", "c", "d"]}}, "its 'kpt_names' contradict"),
        ({"kpt_names": {0: ["a", "b", 7]}}, "its 'kpt_names' contradict"),
        ({"kpt_names": ["a", "b", "c" * 2000]}, "its 'kpt_names' contradict"),
        ({"kpt_names": ["a", "b", "\ud800"]}, "its 'kpt_names' contradict"),
        ({"kpt_names": "abc"}, "its 'kpt_names' contradict"),
        ({"kpt_names": {0: {0: "a"}}}, "its 'kpt_names' contradict"),
    ],
)
def test_a_model_that_contradicts_its_head_is_refused(of_the_model: dict[str, Any], words: str) -> None:
    assert words in refusal(network(pose_head(), **of_the_model))


def test_many_points_are_written() -> None:
    info = model_info(network(pose_head((1000, 3))), GraphConfig(HW))
    assert info.extra_columns == 3000
