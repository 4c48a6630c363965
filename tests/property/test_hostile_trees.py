"""Module trees that no training wrote: whatever is wrong with one, it gives a graph or a refusal."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.modules import Maker, activation, checkpoint, module, sequential, tensor
from yoloship.checkpoint import Module, Opaque
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 10**30, 0.5, float("nan"), float("inf"), 2.0, "", "same", "nearest", b"x",
    (), (1,), (2, 2), (1, -1), [1, 2, 3], [-1, 0], {}, {"a": 1}, frozenset(), Opaque("builtins.range", (1,)),
    np.zeros(3), np.float64(2), np.int64(2), tensor(np.ones(3)), module("torch.nn.modules.linear.Identity"),
)  # fmt: skip
SHAPES = ((), (0,), (1,), (3,), (8,), (8, 8), (1, 8, 1, 1), (8, 0, 1, 1), (8, 8, 3, 3), (1, 3, 2))
CLASSES = (
    *(
        f"models.common.{name}"
        for name in ("Conv", "C3", "SPPF", "Concat", "Focus", "TransformerBlock", "BottleneckCSP")
    ),
    *(f"models.common.{name}" for name in ("Contract", "Expand", "GhostBottleneck", "")),
    *(f"torch.nn.modules.{name}" for name in ("conv.Conv2d", "conv.ConvTranspose2d", "pooling.MaxPool2d")),
    *(f"torch.nn.modules.{name}" for name in ("batchnorm.BatchNorm2d", "upsampling.Upsample", "padding.ZeroPad2d")),
    *(f"torch.nn.modules.{name}" for name in ("activation.PReLU", "container.Sequential", "")),
    *(f"torch.nn.modules.{name}" for name in ("normalization.GroupNorm", "activation.GELU", "activation.Softplus")),
    *(
        f"models.common.{name}"
        for name in ("Shuffle_Block", "SELayer", "MobileNet_Block", "DWConvblock", "RepConv", "ADD")
    ),
    *("models.experimental.Sum", "models.yolo.Detect", "utils.activations.FReLU", "", "..", "torch.nn."),
)


@cache
def sound() -> Checkpoint:
    """One of nearly everything."""
    make = Maker(9)
    pool = {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1, "ceil_mode": False, "return_indices": False}
    pooling = module("torch.nn.modules.pooling.MaxPool2d", pool)
    linear = {name: Maker(1).values(8, 8) for name in ("q", "k", "v", "fc1", "fc2", "out_proj", "linear")}
    lines = {
        name: module("torch.nn.modules.linear.Linear", None, {"weight": weight, "bias": None})
        for name, weight in linear.items()
    }
    attention = module(
        "torch.nn.modules.activation.MultiheadAttention",
        {"num_heads": 2, "bias_k": None, "bias_v": None, "add_zero_attn": False},
        {"in_proj_weight": Maker(2).values(24, 8), "in_proj_bias": Maker(3).values(24)},
        out_proj=lines["out_proj"],
    )
    layer = module(
        "models.common.TransformerLayer", **{n: lines[n] for n in ("q", "k", "v", "fc1", "fc2")}, ma=attention
    )
    transformer = module(
        "models.common.TransformerBlock", {"conv": None, "c2": 8}, linear=lines["linear"], tr=sequential(layer)
    )
    bottleneck = module("models.common.Bottleneck", {"add": True}, cv1=make.conv(8, 8), cv2=make.conv(8, 8, 3))
    csp = module(
        "models.common.BottleneckCSP",
        cv1=make.conv(8, 8), cv2=make.conv2d(8, 8), cv3=make.conv2d(8, 8), cv4=make.conv(16, 8),
        bn=make.batch_norm(16), act=activation("LeakyReLU", negative_slope=0.1), m=sequential(bottleneck),
    )  # fmt: skip
    upsample = {"scale_factor": 2.0, "mode": "nearest", "size": None, "align_corners": None}
    layers: list[tuple[Module, int | list[int]]] = [
        (module("models.common.Focus", conv=make.conv(12, 8, 3)), -1),
        (make.conv(8, 8, 4, 4, padding=(0, 0)), -1),
        (csp, -1),
        (module("models.common.C3", cv1=make.conv(8, 8), cv2=make.conv(8, 8), cv3=make.conv(16, 8), m=transformer), -1),
        (module("models.common.SPPF", cv1=make.conv(8, 4), cv2=make.conv(16, 8), m=pooling), -1),
        (make.conv(8, 8, 3, 2), -1),
        (module("torch.nn.modules.upsampling.Upsample", upsample), -1),
        (module("models.common.Concat", {"d": 1}), [-1, 4]),
        (make.conv(16, 8), -1),
        (module("models.experimental.Sum", {"weight": True}, {"w": np.array([0.5])}), [-1, 4]),
        (make.detect([8, 8], [8, 16]), [9, 5]),
    ]
    return checkpoint(layers, strides=(8, 16))


@cache
def light() -> Checkpoint:
    """One of nearly everything that forks for small devices add, under a head of an old release."""
    make = Maker(5)

    def normed(inputs: int, outputs: int, k: int = 1, **changes: Any) -> tuple[Module, Module]:
        return make.conv2d(inputs, outputs, k, **changes), make.batch_norm(outputs)

    def values(*shape: int) -> Any:
        return make.values(*shape)

    linear = [
        module("torch.nn.modules.linear.Linear", None, {"weight": values(o, i), "bias": values(o)})
        for i, o in ((8, 2), (2, 8))
    ]
    pool = module("torch.nn.modules.pooling.AdaptiveAvgPool2d", {"output_size": 1})
    relu = activation("ReLU")
    squeeze = module("models.common.SELayer", avg_pool=pool, fc=sequential(linear[0], relu, linear[1], relu))
    shuffle = module("models.common.Shuffle_Block", {"stride": 1}, branch2=sequential(*normed(4, 4), relu))
    residual = module(
        "models.common.MobileNet_Block", {"identity": True}, conv=sequential(*normed(8, 8, 3, groups=8), squeeze)
    )
    first, second = normed(8, 8, 3, groups=8), normed(8, 8)
    separable = module("models.common.DWConvblock", conv1=first[0], bn1=first[1], conv2=second[0], bn2=second[1])
    rep = module("models.common.RepConv", act=relu, rbr_dense=sequential(*normed(8, 8, 3)), rbr_1x1=make.conv2d(8, 8))
    group = module(
        "torch.nn.modules.normalization.GroupNorm",
        {"num_groups": 2, "eps": 1e-3},
        {"weight": values(8), "bias": values(8)},
    )
    bare = module("torch.nn.modules.batchnorm.BatchNorm2d", {"eps": 1e-3})
    acon = module("utils.activations.AconC", None, {name: values(1, 8, 1, 1) for name in ("p1", "p2", "beta")})
    softplus = activation("Softplus", beta=2.0, threshold=3.0)
    head = make.detect([8], [8])
    anchors = head.buffers["anchors"]
    assert anchors is not None
    pixels = tensor((anchors.float64() * 8).reshape(1, 1, 3, 1, 1, 2))
    head = replace(head, buffers=MappingProxyType({**head.buffers, "anchor_grid": pixels}))
    layers: list[tuple[Module, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0), act=activation("GELU", approximate="tanh")), -1),
        *((block, -1) for block in (shuffle, residual, separable, rep, group, bare, acon, softplus)),
        (make.conv(8, 8, 3, padding="same", act=activation("Hardtanh", min_val=-1.0, max_val=1.0)), -1),
        (module("models.common.ADD", {"a": 0.5}), [-1, 1]),
        (head, [-1]),
    ]
    return checkpoint(layers)


def changed_at(tree: Module, place: str, change: Any) -> Module:
    """The tree with one module replaced by what `change` makes of it."""
    if not place:
        return change(tree)  # type: ignore[no-any-return]
    first, _, rest = place.partition(".")
    children = {
        name: changed_at(child, rest, change) if name == first and isinstance(child, Module) else child
        for name, child in tree.children.items()
    }
    return replace(tree, children=MappingProxyType(children))


def entry(table: Any, draw: st.DataObject, values: Any) -> Any:
    """A table with one entry changed, added or gone."""
    names = [*table, "add", "stride", "f", "w", "bias", "conv", "m", "anchor_grid", "forward", "eps", "groups"]
    name = draw.draw(st.sampled_from(names))
    if name in table and draw.draw(st.booleans()):
        return MappingProxyType({key: value for key, value in table.items() if key != name})
    return MappingProxyType({**table, name: draw.draw(values)})


def spoil(part: Module, draw: st.DataObject) -> Module:
    kind = draw.draw(st.sampled_from(["attribute", "parameter", "buffer", "child", "class"]))
    tensors = st.one_of(
        st.sampled_from(ODD), st.sampled_from(SHAPES).map(np.ones).map(tensor),
        st.sampled_from(SHAPES).map(lambda shape: tensor(np.full(shape, -2.0))),
    )  # fmt: skip
    if kind == "attribute":
        return replace(part, attributes=entry(part.attributes, draw, st.one_of(st.sampled_from(ODD), tensors)))
    if kind == "parameter":
        return replace(part, parameters=entry(part.parameters, draw, tensors))
    if kind == "buffer":
        return replace(part, buffers=entry(part.buffers, draw, tensors))
    if kind == "child":
        return replace(part, children=entry(part.children, draw, st.sampled_from(ODD)))
    return replace(part, class_path=draw.draw(st.sampled_from(CLASSES)))


def test_the_sound_tree_is_built() -> None:
    for hand in (sound(), light()):
        for input_hw in ((64, 96), None):
            onnx.checker.check_model(build_graph(hand, GraphConfig(input_hw)), full_check=True)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_spoilt_tree_gives_a_graph_or_a_refusal(data: st.DataObject) -> None:
    hand = data.draw(st.sampled_from([sound, light]))()
    places = [place for place, _ in hand.module.walk()]
    tree = hand.module
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places))
        tree = changed_at(tree, place, lambda part: spoil(part, data) if isinstance(part, Module) else part)
    config = GraphConfig(
        data.draw(st.sampled_from([(64, 96), None])),
        data.draw(st.sampled_from([1, None])),
        data.draw(st.sampled_from(["float", "image"])),
        data.draw(st.sampled_from(["raw", "heads", "compact"])),
    )
    with suppress(GraphError):
        onnx.checker.check_model(build_graph(replace(hand, module=tree), config), full_check=True)
