"""The head without anchors: which of two heads answers, what is refused, and forms against the plain formula."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.graphs import outputs_of
from helpers.modules import Anchorless, anchorless_checkpoint, apart, changed, module, with_children
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, model_info

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint, Module

HW = (64, 96)
LEVELS = [(8, 16), (8, 8)]


def two_heads() -> Checkpoint:
    """Two levels and two equal heads whose boxes are too small to overlap, so that suppression removes nothing."""
    make = Anchorless(7)
    layers: list[tuple[Module, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (make.conv(8, 8, 3, 2), -1),
        (apart(make.detect_head([8, 8], [8, 16], reg_max=4, name="v10Detect")), [0, 1]),
    ]
    return anchorless_checkpoint(layers, strides=(8, 16))


SAMPLES = MappingProxyType({("ultralytics", "detect"): two_heads})
"""By family and task, for the suites in tests/contract."""


def detector(*, version: str | None = "8.4.190", two: bool = True, reg_max: int = 16, **changes: Any) -> Checkpoint:
    """One level, with these attributes in the head."""
    make = Anchorless(3)
    head = changed(make.detect_head([8], [8], reg_max=reg_max, two=two), **changes)
    stem = make.conv(3, 8, 8, 8, padding=(0, 0))
    return anchorless_checkpoint([(stem, -1), (head, [-1])], version=version)


def refusal(network: Checkpoint, **choices: Any) -> str:
    with pytest.raises(GraphError) as caught:
        build_graph(network, GraphConfig(HW, **choices))
    return str(caught.value)


def without(network: Checkpoint, *names: str) -> Checkpoint:
    """The network after the training code's `fuse`, which leaves None where a branch was."""
    layers = network.module.children["model"]
    assert layers is not None
    head = layers.children["1"]
    assert head is not None
    kept = MappingProxyType({k: None if k in names else v for k, v in head.children.items()})
    body = replace(layers, children=MappingProxyType({**layers.children, "1": replace(head, children=kept)}))
    return replace(network, module=with_children(network.module, model=body))


@pytest.mark.parametrize(
    ("version", "head", "form"),
    [
        ("8.1.34", "one2one", "end2end"),
        ("8.4.60", "one2one", "end2end"),
        (None, "one2one", "end2end"),
        ("8.4.190", "one2many", "raw"),
        ("9.0.0", "one2many", "raw"),
    ],
)
def test_of_two_heads_the_one_answers_that_the_version_of_the_file_uses(
    version: str | None, head: str, form: str
) -> None:
    info = model_info(detector(version=version), GraphConfig(HW))
    assert (info.head, info.output_form) == (head, form)


@pytest.mark.parametrize(("stored", "head"), [(True, "one2one"), (False, "one2many")])
def test_a_choice_that_is_stored_in_the_head_comes_before_the_version(stored: bool, head: str) -> None:
    for version in ("8.4.60", "8.4.190"):
        assert model_info(detector(version=version, _end2end=stored), GraphConfig(HW)).head == head


@pytest.mark.parametrize(("stored", "head"), [(True, "one2one"), (False, "one2many")])
def test_the_attribute_of_earlier_versions_is_such_a_choice_too(stored: bool, head: str) -> None:
    for version in ("8.1.34", "8.4.190"):
        assert model_info(detector(version=version, end2end=stored), GraphConfig(HW)).head == head


@pytest.mark.parametrize("form", ["raw", "compact", "nms", "end2end"])
def test_a_form_that_one_head_alone_gives_chooses_that_head(form: str) -> None:
    for version in ("8.4.60", "8.4.190"):
        info = model_info(detector(version=version), GraphConfig(HW, output_form=form))
        assert (info.head, info.output_form) == ("one2one" if form == "end2end" else "one2many", form)


def test_the_caller_s_choice_comes_first_and_decides_the_standard_form() -> None:
    for version in ("8.4.60", "8.4.190"):
        for head, form in (("one2one", "end2end"), ("one2many", "raw")):
            config: Any = GraphConfig(HW, head=head)  # type: ignore[arg-type]
            assert model_info(detector(version=version), config).output_form == form


def test_a_form_of_the_other_head_is_refused() -> None:
    assert "the head 'one2one' does not give the output form 'raw': expected end2end or heads" in refusal(
        detector(), head="one2one", output_form="raw"
    )
    assert "the head 'one2many' does not give the output form 'end2end'" in refusal(
        detector(), head="one2many", output_form="end2end"
    )
    assert "output_form: cannot have this value" in refusal(detector(), output_form="boxes")


def test_a_network_with_one_head_has_no_other() -> None:
    plain = detector(two=False)
    info = model_info(plain, GraphConfig(HW, head="one2many"))
    assert (info.head, info.output_form) == (None, "raw")
    refused = refusal(plain, head="one2one")
    assert "does not have the head 'one2one': it was trained with one head" in refused
    assert refused.endswith("; leave out head (--head): 'one2many' is its only head")
    refused = refusal(plain, output_form="end2end")
    assert "does not have the head 'one2one': it was trained with one head" in refused
    assert refused.endswith("expected the output form raw or heads or compact or nms, got the output form 'end2end'")


def test_fusing_leaves_one_head_and_it_answers() -> None:
    many = without(detector(), "one2one_cv2", "one2one_cv3")
    one = without(detector(), "cv2", "cv3")
    assert model_info(many, GraphConfig(HW)).head is None
    assert model_info(one, GraphConfig(HW)).head == "one2one"
    assert "does not have the head 'one2one': it was fused, which removed it" in refusal(many, head="one2one")
    assert "does not have the head 'one2many': it was fused" in refusal(one, output_form="raw")
    assert outputs_of(many, GraphConfig(HW, 2))[0].shape == (2, 7, 96)
    assert outputs_of(one, GraphConfig(HW, 2))[0].shape == (2, 96, 6)


def test_a_head_without_any_convolutions_is_refused() -> None:
    nothing = without(detector(two=False), "cv2", "cv3")
    assert "has no convolutions: expected 'cv2' and 'cv3'" in refusal(nothing)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reg_max": 0}, "bad 'reg_max': expected an integer from 1 to 64"),
        ({"no": 8}, "no is not supported with this value: expected 67"),
        ({"nc": 0}, "bad 'nc'"),
        ({"nl": 2}, "bad 'stride': expected 2 whole numbers"),
        ({"nc": 4, "no": 68}, "map of level 0 has another shape: expected (4, 8, 12), got (3, 8, 12)"),
    ],
)
def test_impossible_attributes_are_refused(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(replace(detector(**changes), class_names=("a",) * changes.get("nc", 3)))


def test_distances_that_are_weighed_in_another_way_are_refused() -> None:
    layers = detector().module.children["model"]
    assert layers is not None
    head = layers.children["1"]
    assert head is not None
    weights = np.arange(1, 17, dtype=np.float32).reshape(1, 16, 1, 1)
    conv = module("torch.nn.modules.conv.Conv2d", {}, {"weight": weights})
    odd = with_children(head, dfl=module("ultralytics.nn.modules.block.DFL", {"c1": 16}, conv=conv))
    network = anchorless_checkpoint([(Anchorless(3).conv(3, 8, 8, 8, padding=(0, 0)), -1), (odd, [-1])])
    assert "its weights were changed: expected 0, 1, … 15" in refusal(network)


def test_a_layer_added_to_the_chosen_head_is_not_left_out() -> None:
    make = Anchorless(5)
    head = make.detect_head([8], [8])
    more = with_children(head, cv5=make.branch([8], 2))
    network = anchorless_checkpoint([(make.conv(3, 8, 8, 8, padding=(0, 0)), -1), (more, [-1])])
    assert "child 'cv5' (torch.nn.modules.container.ModuleList) is not part of an official Detect" in refusal(network)


@pytest.mark.parametrize("reg_max", [1, 16])
@pytest.mark.parametrize("input_hw", [HW, None], ids=["fixed", "dynamic"])
def test_decoded_forms_follow_the_formula(reg_max: int, input_hw: tuple[int, int] | None) -> None:
    network = detector(reg_max=reg_max)
    boxes, logits = outputs_of(network, GraphConfig(input_hw, 2, output_form="heads", head="one2many"))
    sides = boxes.astype(np.float64).reshape(2, 4, reg_max, -1)
    share = np.exp(sides - sides.max(2, keepdims=True))
    share /= share.sum(2, keepdims=True)
    left, top, right, bottom = (
        (share * np.arange(reg_max).reshape(1, 1, -1, 1)).sum(2) if reg_max > 1 else sides[:, :, 0]
    ).transpose(1, 0, 2)
    y, x = (line.ravel() + 0.5 for line in np.mgrid[: logits.shape[2], : logits.shape[3]])
    corners = np.stack([x - left, y - top, x + right, y + bottom], 1) * 8
    centred = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    scores = 1 / (1 + np.exp(-logits.astype(np.float64).reshape(2, 3, -1)))
    (raw,) = outputs_of(network, GraphConfig(input_hw, 2, output_form="raw"))
    np.testing.assert_allclose(raw, np.concatenate([centred, scores], 1), rtol=1e-4, atol=1e-4)
    compact = outputs_of(network, GraphConfig(input_hw, 2, output_form="compact"))
    np.testing.assert_allclose(compact[0], corners.transpose(0, 2, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(compact[1], scores.max(1), rtol=1e-4)
    np.testing.assert_array_equal(compact[2], scores.argmax(1))


def test_rows_of_the_one_to_one_head_are_the_best_pairs_of_a_cell_and_a_class() -> None:
    network = two_heads()
    boxes, scores, _ = outputs_of(network, GraphConfig(HW, 2, output_form="compact"))
    (raw,) = outputs_of(network, GraphConfig(HW, 2, output_form="raw"))
    (rows,) = outputs_of(network, GraphConfig(HW, 2, output_form="end2end"))
    cells = scores.shape[1]
    assert rows.shape == (2, cells, 6)
    for image in range(2):
        pairs = raw[image, 4:].T
        best = np.argsort(-pairs.ravel(), kind="stable")[:cells]
        np.testing.assert_allclose(rows[image, :, 4], pairs.ravel()[best], atol=1e-6)
        np.testing.assert_array_equal(rows[image, :, 5], best % 3)
        np.testing.assert_allclose(rows[image, :, :4], boxes[image, best // 3], atol=1e-4)


def test_with_open_sizes_there_are_300_rows_and_those_without_a_cell_are_zero() -> None:
    network = two_heads()
    (fixed,) = outputs_of(network, GraphConfig(HW, 2, output_form="end2end"))
    (rows,) = outputs_of(network, GraphConfig(None, None, output_form="end2end"))
    assert rows.shape == (2, 300, 6)
    np.testing.assert_allclose(rows[:, : fixed.shape[1], 4], fixed[:, :, 4], atol=1e-6)
    assert (np.sort(rows[:, :, 4])[:, ::-1] == rows[:, :, 4]).all()
    larger = outputs_of(network, GraphConfig(None, None, output_form="end2end"), (128, 192))[0]
    assert larger.shape == (2, 300, 6)
    assert (larger[:, :, 4] > 0).all()
