"""Heads with masks: every output form holds the same coefficients, and prototypes that do not fit are refused."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.modules import (
    Anchorless,
    Maker,
    anchorless_checkpoint,
    apart,
    changed,
    checkpoint,
    module,
    tensor,
    with_children,
)
from yoloship.checkpoint.records import Opaque
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.results.mask_rules import NEWEST_RULE
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.tasks import form_of

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint, Module
    from yoloship.tasks.segment import Segments

HW = (64, 96)


def anchors(head: Module | None = None) -> Checkpoint:
    """Three levels, each one convolution after the one before, and YOLOv5's head with four prototypes."""
    make = Maker(7)
    layers: list[tuple[Module, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (make.conv(8, 8, 3, 2), -1),
        (make.conv(8, 8, 3, 2), -1),
        (make.segment([8, 8, 8], [8, 16, 32]) if head is None else head, [0, 1, 2]),
    ]
    return checkpoint(layers, strides=(8, 16, 32), task="segment")


def newest() -> Module:
    """YOLO26's head over two levels."""
    return Anchorless(7).segment_head([8, 8], [8, 16], name="Segment26", two=True)


def two_heads(head: Module | None = None) -> Checkpoint:
    """Two levels, and YOLO26's two heads over prototypes of both; both alike, and with boxes that do not overlap."""
    make = Anchorless(7)
    layers: list[tuple[Module, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (make.conv(8, 8, 3, 2), -1),
        (apart(newest(), reg_max=1) if head is None else head, [0, 1]),
    ]
    return anchorless_checkpoint(layers, strides=(8, 16), task="segment")


def one_head() -> Checkpoint:
    """The same with the head of YOLOv8 and 11."""
    return two_heads(Anchorless(9).segment_head([8, 8], [8, 16]))


SAMPLES = MappingProxyType({("yolov5", "segment"): anchors, ("ultralytics", "segment"): two_heads})
"""By family and task, for the suites in tests/contract."""

KINDS = {"yolov5": anchors, "one-head": one_head, "two-heads": two_heads}
each_sample = pytest.mark.parametrize("sample", KINDS.values(), ids=KINDS.keys())


def run(sample: Checkpoint, form: str, input_hw: tuple[int, int] | None = HW) -> tuple[list[Any], list[Segments]]:
    config = GraphConfig(input_hw, 2, output_form=form)
    info = model_info(sample, config)
    with OnnxRuntimeSession.open(graph_bytes(build_graph(sample, config))) as session:
        outputs = list(session.run({"images": np.random.default_rng(5).random((2, 3, *HW), np.float32)}))
        chosen = [outputs[place] for place in form_of(info, "m").places(session.outputs, info)]
        return outputs, form_of(info, "m").decode(chosen, info, HW, 0.3)


@each_sample
@pytest.mark.parametrize("input_hw", [HW, None])
def test_all_forms_have_the_candidates_coefficients_and_prototypes_of_the_standard_form(
    sample: Any, input_hw: tuple[int, int] | None
) -> None:
    network = sample()
    _, reference = run(network, "raw")
    for form in ("raw", "heads", "compact"):
        for found, want in zip(run(network, form, input_hw)[1], reference, strict=True):
            assert len(want.candidates) > 5
            np.testing.assert_allclose(found.prototypes, want.prototypes, atol=1e-5)
            assert found.candidates.class_ids.tolist() == want.candidates.class_ids.tolist()
            for name in ("boxes_xyxy", "scores", "extras"):
                have, expected = getattr(found.candidates, name), getattr(want.candidates, name)
                np.testing.assert_allclose(have, expected, atol=1e-3, rtol=1e-4)


@each_sample
@pytest.mark.parametrize("input_hw", [HW, None])
def test_what_a_graph_keeps_has_its_own_coefficients(sample: Any, input_hw: tuple[int, int] | None) -> None:
    network = sample()
    for kept, found in zip(run(network, "nms", input_hw)[1], run(network, "raw")[1], strict=True):
        assert 0 < len(kept.candidates) <= len(found.candidates)
        assert kept.candidates.extras is not None
        assert found.candidates.extras is not None
        for box, extras in zip(kept.candidates.boxes_xyxy, kept.candidates.extras, strict=True):
            row = np.abs(found.candidates.boxes_xyxy - box).max(axis=1).argmin()
            np.testing.assert_allclose(extras, found.candidates.extras[row], atol=1e-3)


@each_sample
def test_the_standard_form_has_the_names_of_the_fields_exports(sample: Any) -> None:
    model = build_graph(sample(), GraphConfig(None, None))
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.output
    }
    assert list(shapes) == ["output0", "output1"]
    assert shapes["output1"] == ["batch", 4, "height/4", "width/4"]


@each_sample
def test_the_record_says_how_many_coefficients_there_are_and_how_masks_are_made(sample: Any) -> None:
    info = model_info(sample(), GraphConfig(HW))
    rule = "yolov5" if info.family == "yolov5" else NEWEST_RULE
    assert (info.task, info.extra_columns, info.mask_rule) == ("segment", 4, rule)


@pytest.mark.parametrize(("version", "rule"), [("8.0.43", "yolov5"), ("8.3.63", "ultralytics-8.2.43"), (None, None)])
def test_masks_are_made_as_the_version_does_that_wrote_the_file(version: str | None, rule: str | None) -> None:
    network = replace(one_head(), metadata=MappingProxyType({"version": version}))
    assert model_info(network, GraphConfig(HW)).mask_rule == (rule or NEWEST_RULE)


def refusal(head: Module) -> str:
    with pytest.raises(GraphError) as caught:
        build_graph(anchors(head), GraphConfig(HW))
    return str(caught.value)


def head() -> Module:
    return Maker(7).segment([8, 8, 8], [8, 16, 32])


def proto(**children: Module) -> Module:
    given = head()
    old: Any = given.children["proto"]
    return with_children(given, proto=with_children(old, **children))


def test_another_number_of_prototypes_is_refused() -> None:
    assert "has a different number of prototypes: expected 4, got 5" in refusal(proto(cv3=Maker().conv(6, 5)))


def test_prototypes_that_are_not_cells_of_the_canvas_are_refused() -> None:
    shrinking = Maker().conv(6, 6, 2, padding=(0, 0))
    assert "its prototypes are not whole cells of the canvas: got (15, 23)" in refusal(proto(cv2=shrinking))


def test_a_head_without_prototypes_is_refused() -> None:
    assert "has no submodule 'proto'" in refusal(with_children(head(), proto=None))


@pytest.mark.parametrize(
    "method",
    [
        Opaque("__builtin__.getattr", ("posix", "system")),
        Opaque("__builtin__.getattr", ("models.yolo.OtherDetect", "forward")),
        Opaque("__builtin__.getattr", ("torch.nn.modules.linear.Identity", "forward")),
        Opaque("models.yolo.make", ("models.yolo.Detect", "forward")),
    ],
)
def test_a_replaced_forward_is_refused(method: Opaque) -> None:
    assert "its method 'detect' was replaced: expected Detect.forward" in refusal(changed(head(), detect=method))


def test_coefficients_that_contradict_the_width_of_a_row_are_refused() -> None:
    assert "no is not supported with this value: expected 13, got 12" in refusal(changed(head(), nm=5))


@pytest.mark.parametrize("count", [0, -1, 1 << 20, "4", None])
def test_an_impossible_number_of_coefficients_is_refused(count: Any) -> None:
    assert "'nm'" in refusal(changed(head(), nm=count))


def test_a_further_branch_would_be_left_out_and_is_refused() -> None:
    extra = with_children(head(), angle=module("torch.nn.modules.container.ModuleList", **{"0": Maker().conv2d(8, 3)}))
    assert "child 'angle'" in refusal(extra)


def test_buffers_of_another_shape_are_refused() -> None:
    wrong = replace(head(), buffers=MappingProxyType({"anchors": tensor(np.ones((2, 3, 2)))}))
    assert "anchors" in refusal(wrong)


def newer(**children: Module | None) -> str:
    """The refusal of YOLO26's head with other parts in its Proto26."""
    given = newest()
    old: Any = given.children["proto"]
    with pytest.raises(GraphError) as caught:
        build_graph(two_heads(with_children(given, proto=with_children(old, **children))), GraphConfig(HW))
    return str(caught.value)


def test_the_branch_for_training_is_left_out_and_may_be_missing() -> None:
    old: Any = newest().children["proto"]
    assert old.children["semseg"] is not None
    graphs = [
        graph_bytes(build_graph(two_heads(with_children(newest(), proto=proto)), GraphConfig(HW)))
        for proto in (old, with_children(old, semseg=None))
    ]
    assert graphs[0] == graphs[1]


def test_another_number_of_levels_in_the_prototypes_is_refused() -> None:
    make = Anchorless(7)
    three = module("torch.nn.modules.container.ModuleList", **{str(i): make.conv(8, 8) for i in range(2)})
    assert (
        "model.2.proto (ultralytics.nn.modules.block.Proto26): has a different number of levels: expected 1, got 2"
        in (newer(feat_refine=three))
    )
    shrinking = module("torch.nn.modules.container.ModuleList", **{"0": make.conv(8, 8, 3, padding=(0, 0))})
    assert "has a level that is not whole cells of the first: expected (8, 12), got (2, 4)" in newer(
        feat_refine=shrinking
    )


def test_prototypes_without_their_parts_are_refused() -> None:
    for name in ("feat_refine", "feat_fuse", "cv1", "upsample", "cv2", "cv3"):
        assert f"has no submodule {name!r}" in newer(**{name: None})


def test_both_heads_have_coefficients_of_their_own_and_the_same_prototypes() -> None:
    network = two_heads()
    many, one = (run(network, form)[1][0] for form in ("raw", "end2end"))
    np.testing.assert_allclose(many.prototypes, one.prototypes, atol=1e-5)
    assert one.candidates.final
    assert one.candidates.extras is not None
    assert one.candidates.extras.shape == (len(one.candidates), 4)


def test_rows_of_the_one_to_one_head_are_those_of_its_maps() -> None:
    network = two_heads()
    config = GraphConfig(HW, 2, output_form="heads", head="one2one")
    info = model_info(network, config)
    with OnnxRuntimeSession.open(graph_bytes(build_graph(network, config))) as session:
        outputs = list(session.run({"images": np.random.default_rng(5).random((2, 3, *HW), np.float32)}))
    for found, want in zip(form_of(info, "m").decode(outputs, info, HW, 0.3), run(network, "end2end")[1], strict=True):
        assert len(found.candidates) == len(want.candidates) > 5
        assert found.candidates.extras is not None
        assert want.candidates.extras is not None
        np.testing.assert_allclose(found.candidates.boxes_xyxy, want.candidates.boxes_xyxy, atol=1e-3)
        np.testing.assert_allclose(found.candidates.extras, want.candidates.extras, atol=1e-4)


def test_a_head_without_the_branch_of_coefficients_is_refused() -> None:
    given = with_children(Anchorless(9).segment_head([8, 8], [8, 16]), cv4=None)
    with pytest.raises(GraphError, match="has no submodule 'cv4'"):
        build_graph(two_heads(given), GraphConfig(HW))


def test_coefficients_of_another_number_than_it_says_are_refused() -> None:
    given = changed(Anchorless(9).segment_head([8, 8], [8, 16]), nm=5)
    with pytest.raises(GraphError, match=r"map of level 0 has another shape: expected \(5, 8, 12\), got \(4, 8, 12\)"):
        build_graph(two_heads(given), GraphConfig(HW))
