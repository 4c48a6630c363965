"""What cannot be built is refused by name and place; nothing is guessed."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.modules import (
    NAMES,
    Maker,
    activation,
    around,
    changed,
    checkpoint,
    module,
    sequential,
    tensor,
    with_children,
)
from yoloship.errors import CheckpointError, GraphError, InputError, YoloshipError
from yoloship.graph import GraphConfig, build_graph, nearest_sizes
from yoloship.model import NmsConfig

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint, Module

HW = (64, 96)
MAKE = Maker()
TORCH = "torch.nn.modules."


def refusal(hand: Checkpoint, config: GraphConfig | None = None, error: type[YoloshipError] = GraphError) -> str:
    with pytest.raises(error) as caught:
        build_graph(hand, config or GraphConfig(HW))
    return str(caught.value)


def of(block: Module) -> str:
    return refusal(around(block, 8, 8))


def test_an_unknown_block_is_named_with_its_place() -> None:
    assert of(module("models.common.Foo")) == (
        "hand.pt: model.1 (models.common.Foo): is not a block that this version can write; nothing was guessed; "
        "if it is an official block under another name, say so with --alias models.common.Foo=models.common.NAME "
        "(aliases in Python)"
    )
    assert "model.1.0.1 (acme.Gate)" in of(sequential(sequential(activation("SiLU"), module("acme.Gate"))))
    assert "model.1.act (torch.nn.modules.activation.Softmax2d)" in of(MAKE.conv(8, 8, act=activation("Softmax2d")))


def test_an_unknown_activation_is_named_with_its_place_and_what_can_be_done() -> None:
    message = of(MAKE.conv(8, 8, act=module("models.fork.MySiLU")))
    assert "model.1.act (models.fork.MySiLU): is not an activation that this version can write; nothing was" in message
    assert message.endswith("say so with --alias models.fork.MySiLU=utils.activations.NAME (aliases in Python)")
    assert of(MAKE.conv(8, 8, act=activation("Softmax2d"))).endswith("nothing was guessed")


def test_a_familiar_name_from_a_foreign_package_is_no_familiar_block() -> None:
    for path in ("ultralytics.nn.modules.conv.Conv", "models.commonplace.Conv", "common.Conv", "torch.nn.Conv"):
        block = MAKE.conv(8, 8)
        assert "is not a block" in of(replace(block, class_path=path)), path


def test_a_quantised_layer_of_torch_is_no_plain_one() -> None:
    for path in ("torch.nn.quantized.modules.conv.Conv2d", "torch.nn.qat.modules.conv.Conv2d"):
        assert "is not a block" in of(replace(MAKE.conv2d(8, 8), class_path=path))
        assert "expected torch.nn.Conv2d" in of(
            with_children(MAKE.conv(8, 8), conv=replace(MAKE.conv2d(8, 8), class_path=path))
        )


def test_a_block_whose_meaning_changed_between_releases_is_refused() -> None:
    assert "models.experimental.MixConv2d" in of(module("models.experimental.MixConv2d"))


POOL = {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1, "ceil_mode": False, "return_indices": False}
UPSAMPLE = {"scale_factor": 2.0, "mode": "nearest", "size": None, "align_corners": None}
WRONG: list[tuple[Module, str]] = [
    (MAKE.conv2d(8, 8, 3, padding_mode="reflect"), "padding_mode is not supported with this value: expected 'zeros'"),
    (MAKE.conv2d(8, 8, 3, padding="full"), "bad 'padding': expected 2 integers"),
    (MAKE.conv2d(8, 8, 3, 2, padding="same"), "has padding 'same' with a stride: expected a stride of 1, got (2, 2)"),
    (MAKE.conv2d(8, 8, 3, stride=(0, 1)), "bad 'stride'"),
    (MAKE.conv2d(8, 8, 3, dilation=(99, 99)), "window is larger than its input"),
    (changed(MAKE.conv2d(8, 8), groups=3), "groups do not divide the output channels"),
    (MAKE.conv2d(4, 8), "takes a different number of channels: expected 4, got 8"),
    (module(f"{TORCH}pooling.MaxPool2d", {**POOL, "ceil_mode": True}), "ceil_mode is not supported with this value"),
    (module(f"{TORCH}pooling.MaxPool2d", {**POOL, "return_indices": True}), "return_indices is not supported"),
    (module(f"{TORCH}pooling.MaxPool2d", {**POOL, "padding": 2}), "padding is more than half the window"),
    (module(f"{TORCH}pooling.AvgPool2d", {**POOL, "divisor_override": 3}), "divisor_override is not supported"),
    (module(f"{TORCH}pooling.AvgPool2d", {**POOL, "count_include_pad": 1}), "bad 'count_include_pad'"),
    (module(f"{TORCH}pooling.AdaptiveAvgPool2d", {"output_size": 7}), "output_size is not supported"),
    (module(f"{TORCH}upsampling.Upsample", {**UPSAMPLE, "mode": "bicubic"}), "or 'bilinear', got 'bicubic'"),
    (module(f"{TORCH}upsampling.Upsample", {**UPSAMPLE, "align_corners": True}), "align_corners is not supported"),
    (module(f"{TORCH}upsampling.Upsample", {**UPSAMPLE, "size": (20, 20)}), "size is not supported"),
    (module(f"{TORCH}upsampling.Upsample", {**UPSAMPLE, "scale_factor": 1.5}), "bad 'scale_factor'"),
    (module(f"{TORCH}upsampling.Upsample", {"mode": "nearest", "scale_factor": None}), "bad 'scale_factor'"),
    (module(f"{TORCH}padding.ZeroPad2d", {"padding": (0, -1, 0, 1), "value": 0.0}), "bad 'padding'"),
    (module(f"{TORCH}padding.ZeroPad2d", {"padding": (0, 1, 0, 1), "value": 1.0}), "value is not supported"),
    (module(f"{TORCH}container.ModuleList", **{"0": activation("SiLU")}), "is not a block"),
    (module("models.common.Concat", {"d": 2}), "d is not supported with this value"),
    (module("models.common.Conv", conv=MAKE.conv2d(8, 8), bn=MAKE.batch_norm(8)), "has no submodule 'act'"),
    (module("models.common.Conv", conv=MAKE.conv(8, 8), act=activation("SiLU")), "expected torch.nn.Conv2d"),
    (
        with_children(MAKE.conv(8, 8), bn=MAKE.batch_norm(9)),
        "'running_mean' has the wrong shape: expected (8), got (9,)",
    ),
    (
        module("models.common.Bottleneck", {"add": True}, cv1=MAKE.conv(8, 8), cv2=MAKE.conv(8, 4)),
        "adds values of two shapes",
    ),
    (module("models.common.Bottleneck", {"add": 1}, cv1=MAKE.conv(8, 8), cv2=MAKE.conv(8, 8)), "bad 'add'"),
    (activation("LeakyReLU", negative_slope="0.1"), "bad 'negative_slope'"),
    (activation("LeakyReLU", negative_slope=float("nan")), "bad 'negative_slope'"),
    (module("models.common.Contract", {"gain": 5}), "takes maps whose sides are multiples of 5"),
    (module("models.common.Expand", {"gain": 3}), "takes channels in multiples of 9"),
    (module("models.common.Focus", conv=MAKE.conv(32, 8, 3, groups=2)), "expected no groups, no dilation"),
]


@pytest.mark.parametrize(("block", "words"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_layer_that_cannot_be_written_exactly_is_refused(block: Module, words: str) -> None:
    message = of(block)
    assert words in message
    assert message.startswith("hand.pt: model.1")


def test_statistics_of_a_batch_are_not_taken_over_whatever_images_share_a_run() -> None:
    bare = module(f"{TORCH}batchnorm.BatchNorm2d", {"eps": 1e-3}, {"weight": None, "bias": None})
    hand = around(with_children(MAKE.conv(8, 8), bn=bare), 8, 8)
    message = refusal(hand, GraphConfig(HW, batch=None))
    assert "model.1.bn" in message
    assert message.endswith("expected a fixed batch, got a dynamic one; export it with batch 1 (--batch 1)")
    build_graph(hand, GraphConfig(HW, batch=1))


def test_weights_that_are_not_finite_are_refused() -> None:
    conv = module(
        f"{TORCH}conv.Conv2d", MAKE.conv2d(8, 8).attributes, {"weight": np.full((8, 8, 1, 1), np.inf), "bias": None}
    )
    assert "'weight' holds values that are not finite; the training has diverged" in of(conv)


def head(**changes: Any) -> str:
    detect = changed(Maker(1).detect([8], [8]), **changes)
    return refusal(checkpoint([(Maker(2).conv(3, 8, 8, 8, padding=(0, 0)), -1), (detect, [-1])]))


def test_a_head_that_contradicts_itself_is_refused() -> None:
    assert "bad 'nc'" in head(nc=-1)
    assert "predicts 9 numbers for each box; a detector of 3 classes has 8" in head(no=9)
    assert "bad 'stride': expected 1 whole numbers of pixels, got [8.0, 16.0]" in head(stride=tensor([8, 16]))
    assert "bad 'stride'" in head(stride=tensor([8.5]))
    assert "bad 'stride'" in head(stride=tensor([0]))
    assert "bad 'stride'" in head(stride=tensor([np.nan]))
    assert "bad 'stride'" in head(stride=8)
    assert "map of level 0 has another shape: expected (24, 4, 6), got (24, 8, 12)" in head(stride=tensor([16]))
    assert "bad 'nl'" in head(nl="one")
    assert "'anchors' has the wrong shape" in head(na=2)


def test_a_last_layer_that_is_no_detection_head_is_refused() -> None:
    hand = checkpoint([(MAKE.conv(3, 8), -1)])
    assert "model.0 (models.common.Conv): is not a head that this version can write" in refusal(hand)
    assert "has no layers" in refusal(checkpoint([]))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("models.yolo.IDetect", "is a YOLOv7 training head with implicit or auxiliary parts; re-parametrise it"),
        ("models.yolo.IAuxDetect", "is a YOLOv7 training head"),
        ("models.yolo.IKeypoint", "is a YOLOv7 head for keypoints; export it with the project that trained it"),
        ("models.yolo.DualDDetect", "is a YOLOv9 head without anchors"),
        ("models.yolo.TripleDetect", "is a YOLOv9 head"),
        ("models.yolo.OBB", "is a head for oriented boxes"),
        ("models.yolo.Decoupled_Detect", "is a decoupled head of a fork"),
        ("models.yolo.ASFF_Detect", "is a decoupled head of a fork"),
        ("ultralytics.nn.modules.head.RTDETRDecoder", "is an RT-DETR decoder of Ultralytics' package (YOLOv8 and"),
        ("ultralytics.nn.modules.head.OBB", "is a head for oriented boxes of Ultralytics' package"),
        ("models.yolo.MyDetect", "say so with --alias models.yolo.MyDetect=models.yolo.Detect"),
    ],
)
def test_a_head_of_another_kind_is_named_as_what_it_is(path: str, words: str) -> None:
    detect = replace(Maker(1).detect([8], [8]), class_path=path)
    message = refusal(checkpoint([(Maker(2).conv(3, 8, 8, 8, padding=(0, 0)), -1), (detect, [-1])]))
    assert f"hand.pt: model.1 ({path})" in message
    assert words in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"no": 18}, "predicts landmarks: 10 more numbers for each box than a detector"),
        ({"no": 59, "nkpt": 17}, "predicts landmarks: 51 more numbers"),
        ({"no": 188}, "predicts oriented boxes: 180 angles for each box"),
        ({"no": 40}, "predicts 40 numbers for each box; a detector of 3 classes has 8"),
        ({"reg_max": 16}, "is a head without anchors (YOLOv8, YOLOv9 or later)"),
    ],
)
def test_a_detect_that_predicts_something_else_is_named_as_what_it_is(changes: dict[str, Any], words: str) -> None:
    assert words in head(**changes)


def test_class_names_must_be_as_many_as_classes() -> None:
    hand = around(MAKE.conv(8, 8), 8, 8)
    with pytest.raises(CheckpointError) as caught:
        build_graph(replace(hand, class_names=NAMES[:2]), GraphConfig())
    assert str(caught.value) == (
        "hand.pt: has 2 class names for 3 classes; give the names of its 3 classes with --names (class_names in Python)"
    )


def test_a_class_name_that_is_no_text_is_refused() -> None:
    hand = around(MAKE.conv(8, 8), 8, 8)
    assert "is not valid text" in refusal(replace(hand, class_names=("a", "b", "\ud800")))


@pytest.mark.parametrize(
    ("source", "words"), [(5, "not before it"), (-9, "not before it"), ("x", "bad 'f'"), ([], "takes nothing")]
)
def test_a_layer_must_take_from_one_before_it(source: Any, words: str) -> None:
    layers = [(MAKE.conv(3, 8, 8, 8, padding=(0, 0)), -1), (MAKE.conv(8, 8), source), (MAKE.detect([8], [8]), [-1])]
    assert words in refusal(checkpoint(layers))


def test_sizes_that_do_not_fit_name_the_nearest_that_do() -> None:
    hand = around(MAKE.conv(8, 8), 8, 8)
    assert refusal(hand, GraphConfig((650, 640)), InputError) == (
        "input_hw: input size is not a multiple of 32: expected 640x640 or 672x640, got 650x640"
    )
    assert refusal(hand, GraphConfig((20, 64)), InputError).endswith("expected 32x64, got 20x64")
    assert nearest_sizes((100, 100), 64) == ((64, 64), (128, 128))


@pytest.mark.parametrize(
    "choices",
    [{"input_hw": (0, 640)}, {"input_hw": 640}, {"input_hw": (640, 10**9)}, {"batch": 0}, {"batch": True},
     {"input_form": "bgr"}, {"output_form": "Boxes"}],
)  # fmt: skip
def test_options_outside_their_range_are_refused_at_once(choices: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot have this value"):
        GraphConfig(**choices)


def test_a_form_that_the_head_does_not_write_is_refused_with_those_that_it_does() -> None:
    message = refusal(around(MAKE.conv(8, 8), 8, 8), GraphConfig((64, 64), output_form="boxes"))
    assert message == "output_form: cannot have this value: expected one of raw, heads, compact, nms, got 'boxes'"


def test_thresholds_without_suppression_are_refused() -> None:
    message = refusal(around(MAKE.conv(8, 8), 8, 8), GraphConfig((64, 64), nms=NmsConfig()))
    assert message.startswith("nms: cannot have this value: expected None for the output form 'raw', got NmsConfig(")


def test_a_tree_that_unfolds_without_end_is_refused_in_time() -> None:
    deep = activation("SiLU")
    for _ in range(200):
        deep = sequential(deep)
    assert "too many modules" in of(deep)
    wide = module(f"{TORCH}linear.Identity")
    for _ in range(40):
        wide = sequential(wide, wide)
    assert "too many modules" in of(wide)


def test_a_tensor_that_claims_more_than_any_network_has_is_refused_before_it_is_read() -> None:
    claimed = replace(tensor(np.ones(1)), shape=(1 << 20, 1 << 20, 1, 1), strides=(0, 0, 0, 0))
    conv = MAKE.conv2d(8, 8)
    assert "'weight' is too large" in of(replace(conv, parameters=MappingProxyType({"weight": claimed, "bias": None})))
