"""Nothing that a module tree holds is left out of the graph in silence: what no writer consumed is refused by name."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.modules import Maker, activation, changed, checkpoint, module, sequential, tensor, with_children
from helpers.shared import SHARED, require
from yoloship.checkpoint import Module, Opaque, read_checkpoint
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph
from yoloship.graph.module_view import ModuleView, check_consumed

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.checkpoint import Checkpoint

HW = (64, 96)
TORCH = "torch.nn.modules."


def gate() -> Module:
    """Squeeze and excitation, as forks add it to blocks."""
    make = Maker(9)
    return module("models.common.SE", fc=sequential(make.conv2d(8, 2), activation("ReLU"), make.conv2d(2, 8)))


def linear(make: Maker, channels: int) -> Module:
    weight = make.values(channels, channels, scale=channels**-0.5)
    return module(f"{TORCH}linear.Linear", None, {"weight": weight, "bias": make.values(channels)})


@cache
def every_block() -> Checkpoint:
    """A detector with a block of each kind whose children, tensors or flags a writer reads."""
    make = Maker(4)

    def bottleneck() -> Module:
        return module("models.common.Bottleneck", {"add": True}, cv1=make.conv(8, 8), cv2=make.conv(8, 8, 3))

    def csp(path: str, inner: Module) -> Module:
        return module(path, cv1=make.conv(8, 8), cv2=make.conv(8, 8), cv3=make.conv(16, 8), m=inner)

    pool = module(f"{TORCH}pooling.MaxPool2d", POOL)
    ghost = module("models.common.GhostConv", cv1=make.conv(8, 4), cv2=make.conv(4, 4, 5, groups=4))
    attention = module(
        f"{TORCH}activation.MultiheadAttention",
        {"num_heads": 2, "bias_k": None, "bias_v": None, "add_zero_attn": False, "batch_first": False},
        {"in_proj_weight": make.values(24, 8), "in_proj_bias": make.values(24)},
        out_proj=linear(make, 8),
    )
    layer = module(
        "models.common.TransformerLayer",
        **{name: linear(make, 8) for name in ("q", "k", "v", "fc1", "fc2")},
        ma=attention,
    )
    transformer = module(
        "models.common.TransformerBlock", {"c2": 8, "conv": None}, linear=linear(make, 8), tr=sequential(layer)
    )
    funnel = module("utils.activations.FReLU", conv=make.conv2d(8, 8, 3, groups=8), bn=make.batch_norm(8))
    layers: list[tuple[Module, int | list[int]]] = [
        (module("models.common.Focus", conv=make.conv(12, 8, 3)), -1),
        (make.conv(8, 8, 4, 4, padding=(0, 0), act=funnel), -1),
        (csp("models.common.C3", sequential(bottleneck())), -1),
        (csp("models.common.C3TR", transformer), -1),
        (
            module(
                "models.common.BottleneckCSP",
                cv1=make.conv(8, 8),
                cv2=make.conv2d(8, 8),
                cv3=make.conv2d(8, 8),
                cv4=make.conv(16, 8),
                bn=make.batch_norm(16),
                act=activation("LeakyReLU", negative_slope=0.1),
                m=sequential(bottleneck()),
            ),
            -1,
        ),
        (
            module(
                "models.common.GhostBottleneck",
                conv=sequential(ghost, module(f"{TORCH}linear.Identity")),
                shortcut=sequential(module(f"{TORCH}linear.Identity")),
            ),
            -1,
        ),
        (
            module(
                "models.common.SPP",
                cv1=make.conv(8, 8),
                cv2=make.conv(16, 8),
                m=module(f"{TORCH}container.ModuleList", **{"0": pool}),
            ),
            -1,
        ),
        (module("models.common.SPPF", cv1=make.conv(8, 8), cv2=make.conv(32, 8), m=pool), -1),
        (module("models.experimental.Sum", {"weight": True}, {"w": [0.5]}), [-1, -2]),
        (module("models.common.Contract", {"gain": 2}), -1),
        (module("models.common.Expand", {"gain": 2}), -1),
        (module(f"{TORCH}batchnorm.BatchNorm2d", *norm_tables(make)), -1),
        (module("models.common.Concat", {"d": 1}), [-1, -2]),
        (make.detect([16], [8]), [-1]),
    ]
    return checkpoint(layers)


def norm_tables(make: Maker) -> tuple[Any, Any, Any]:
    norm = make.batch_norm(8)
    return (
        norm.attributes,
        {name: value.numpy() for name, value in norm.parameters.items() if value is not None},
        {name: value.numpy() for name, value in norm.buffers.items() if value is not None},
    )


POOL = {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1, "ceil_mode": False, "return_indices": False}


def at(original: Module, place: str, change: Callable[[Module], Module]) -> Module:
    """The same tree with one module changed."""
    if not place:
        return change(original)
    name, _, rest = place.partition(".")
    child = original.children[name]
    assert child is not None
    return with_children(original, **{name: at(child, rest, change)})


def refusal(hand: Checkpoint, root: Module) -> str:
    with pytest.raises(GraphError) as caught:
        build_graph(replace(hand, module=root), GraphConfig(HW))
    return str(caught.value)


PLACES = [place for place, _ in every_block().module.walk()]


def test_every_kind_of_block_is_written() -> None:
    assert build_graph(every_block(), GraphConfig(HW)).graph.node


@pytest.mark.parametrize("place", PLACES)
def test_what_was_added_anywhere_is_refused_by_place_class_and_name(place: str) -> None:
    hand = every_block()
    where = f"{place or 'the model'} ("

    message = refusal(hand, at(hand.module, place, lambda one: with_children(one, extra=gate())))
    if place == "model.13.m":
        assert "has a different number of convolutions: expected 1, got 2" in message
    elif not message.startswith(f"hand.pt: {place}.extra (models.common.SE)"):  # a container's child is a layer
        assert where in message
        assert "child 'extra' (models.common.SE) is not part of" in message

    scale = {"scale": tensor(np.ones(3))}
    changes: dict[str, Callable[[Module], Module]] = {
        "parameter": lambda one: replace(one, parameters=MappingProxyType({**one.parameters, **scale})),
        "buffer": lambda one: replace(one, buffers=MappingProxyType({**one.buffers, **scale})),
    }
    for word, change in changes.items():
        message = refusal(hand, at(hand.module, place, change))
        assert where in message
        assert f"{word} 'scale' (a tensor (3,)) is not part of an official" in message
    message = refusal(hand, at(hand.module, place, lambda one: changed(one, gates=[{"a": tensor(np.ones(3))}])))
    assert where in message
    assert "attribute 'gates' (a tensor (3,)) is not part of" in message


@pytest.mark.parametrize("place", PLACES)
def test_a_module_that_no_longer_computes_what_its_class_does_is_refused(place: str) -> None:
    hand = every_block()
    method = Opaque("builtins.getattr", ("models.common.Other", "forward"))
    for name in ("forward", "_call_impl"):
        message = refusal(hand, at(hand.module, place, lambda one, name=name: changed(one, **{name: method})))  # type: ignore[misc]
        assert f"its method '{name}' was replaced" in message
    for name in ("_forward_hooks", "_forward_pre_hooks"):
        hooks = {name: {0: Opaque("models.common.Hook")}}
        message = refusal(hand, at(hand.module, place, lambda one, hooks=hooks: changed(one, **hooks)))  # type: ignore[misc]
        assert f"has a hook in '{name}'" in message


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool"])
def test_weights_of_whole_numbers_are_refused(dtype: str) -> None:
    hand = every_block()

    def rounded(conv: Module) -> Module:
        weight = conv.parameters["weight"]
        assert weight is not None
        whole = tensor(weight.numpy(), dtype)
        return replace(conv, parameters=MappingProxyType({**conv.parameters, "weight": whole}))

    words = refusal(hand, at(hand.module, "model.2.cv1.conv", rounded))
    assert f"'weight' holds whole numbers ({dtype}): expected floats" in words
    assert "a quantized network" in words


def test_what_does_nothing_in_evaluation_passes() -> None:
    hand = every_block()
    inert = {"drop": module(f"{TORCH}dropout.Dropout", {"p": 0.5}), "nothing": module(f"{TORCH}linear.Identity")}
    buffers = {name: tensor(np.zeros(1)) for name in ("num_batches_tracked", "total_ops", "total_params")}

    noted = {
        "__flops__": 12,
        "kind": Opaque("torch.nn.modules.activation.ReLU"),
        "opt": Opaque("argparse.Namespace", ({"a": 1},)),
        "where": Opaque("torch.device", ("cpu",)),
    }

    def padded(one: Module) -> Module:
        children = {**one.children, **({} if one.class_path.startswith(f"{TORCH}container") else inert), "gone": None}
        if one.class_path.startswith(f"{TORCH}container"):
            del children["gone"]
        return replace(
            changed(one, note="plain", numbers=[1, 2], training=True, **noted),
            children=MappingProxyType(
                {name: padded(c) if name not in inert and c else c for name, c in children.items()}
            ),
            buffers=MappingProxyType({**one.buffers, **buffers}),
        )

    plain = build_graph(hand, GraphConfig(HW))
    assert build_graph(replace(hand, module=padded(hand.module)), GraphConfig(HW)).graph == plain.graph


def test_a_block_under_the_name_of_a_layer_that_does_nothing_does_not_pass() -> None:
    hand = every_block()
    for spoilt in (
        module(f"{TORCH}linear.Identity", fc=gate()),
        module(f"{TORCH}linear.Identity", None, {"gamma": np.ones(8)}),
        module(f"{TORCH}dropout.Dropout", {"p": 0.5}, None, {"gamma": np.ones(8)}),
    ):
        message = refusal(hand, at(hand.module, "model.2", lambda one, spoilt=spoilt: with_children(one, se=spoilt)))  # type: ignore[misc]
        assert "model.2 (models.common.C3): child 'se' (torch.nn.modules." in message


def test_a_loss_that_the_model_keeps_passes() -> None:
    hand = every_block()
    loss = module(f"{TORCH}loss.BCEWithLogitsLoss", {"reduction": "mean"}, None, {"pos_weight": np.ones(1)})
    assert build_graph(replace(hand, module=with_children(hand.module, loss=loss)), GraphConfig(HW)).graph.node
    other = module("models.losses.BCEWithLogitsLoss")
    assert "child 'loss' (models.losses" in refusal(hand, with_children(hand.module, loss=other))


def test_a_dropout_of_another_package_does_not_pass() -> None:
    hand = every_block()
    other = module("models.common.Dropout", {"p": 0.5})
    assert "child 'drop' (models.common.Dropout)" in refusal(
        hand, at(hand.module, "model.2", lambda one: with_children(one, drop=other))
    )


def test_training_only_attributes_of_the_model_pass_and_of_a_block_do_not() -> None:
    hand = every_block()
    weights = {"class_weights": tensor(np.ones(3)), "stride": tensor(np.array([8]))}
    assert build_graph(replace(hand, module=changed(hand.module, **weights)), GraphConfig(HW))
    assert "attribute 'class_weights'" in refusal(hand, at(hand.module, "model.2", lambda one: changed(one, **weights)))


def test_a_name_that_passes_in_one_place_does_not_in_others() -> None:
    hand = every_block()
    grid = [tensor(np.ones((1, 3, 8, 12, 2)))]
    counted = {"total_ops": tensor(np.zeros(1))}
    head = at(hand.module, "model.13", lambda one: changed(one, grid=grid, anchor_grid=grid, **counted))
    assert build_graph(replace(hand, module=head), GraphConfig(HW)).graph.node
    for name in ("grid", "anchor_grid"):
        message = refusal(hand, at(hand.module, "model.2", lambda one, name=name: changed(one, **{name: grid})))  # type: ignore[misc]
        assert f"attribute '{name}'" in message
    for table in ("parameters", "buffers"):
        parts = MappingProxyType({"grid": tensor(np.ones(8))})
        spoilt = at(hand.module, "model.2", lambda one, table=table, parts=parts: replace(one, **{table: parts}))  # type: ignore[misc]
        assert "'grid' (a tensor (8,)) is not part of an official C3" in refusal(hand, spoilt)
    spoilt = at(hand.module, "model.2", lambda one: replace(one, parameters=MappingProxyType(counted)))
    assert "parameter 'total_ops' (a tensor (1,)) is not part of an official C3" in refusal(hand, spoilt)


def test_an_array_of_numbers_in_a_block_or_in_the_model_is_refused() -> None:
    hand = every_block()
    message = refusal(hand, at(hand.module, "model.2", lambda one: changed(one, gain=np.ones(8))))
    assert "model.2 (models.common.C3): attribute 'gain' (an array (8,)) is not part of an official C3" in message
    assert "the model (models.yolo.DetectionModel): attribute 'mean' (an array (3,)) is not part of" in refusal(
        hand, changed(hand.module, mean=np.ones(3, np.float32))
    )
    counts = changed(hand.module, counts=np.ones(3, np.int64))
    assert build_graph(replace(hand, module=counts), GraphConfig(HW)).graph.node


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Opaque("torch.nn.functional.relu6"), "torch.nn.functional.relu6"),
        ([Opaque("torch.nn.functional.relu6")], "torch.nn.functional.relu6"),
        (Opaque("builtins.getattr", ("torch._C._VariableFunctionsClass", "tanh")), "_VariableFunctionsClass.tanh"),
        (Opaque("__builtin__.getattr", ("models.common.C3", "simam")), "models.common.C3.simam"),
        (Opaque("models.common.gate"), "models.common.gate"),
        ({"a": Opaque("utils.gates.Gate", ({"share": 0.5},))}, "utils.gates.Gate"),
    ],
)
def test_a_function_or_a_method_that_a_block_keeps_is_refused(value: Any, words: str) -> None:
    hand = every_block()
    message = refusal(hand, at(hand.module, "model.2", lambda one: changed(one, gate=value)))
    assert "model.2 (models.common.C3): attribute 'gate' (" in message
    assert f"{words}) is not part of an official C3" in message
    root = at(hand.module, "", lambda one: changed(one, loss=value))  # only training reads those of the whole model
    assert build_graph(replace(hand, module=root), GraphConfig(HW)).graph.node


def test_a_module_that_is_used_in_two_places_is_consumed_once() -> None:
    hand = every_block()
    shared = hand.module.children["model"].children["2"]  # type: ignore[union-attr]
    assert shared is not None
    layers = with_children(hand.module.children["model"], **{"3": changed(shared, f=-1, i=3)})  # type: ignore[arg-type]
    assert build_graph(replace(hand, module=with_children(hand.module, model=layers)), GraphConfig(HW))


def test_an_attribute_may_not_hide_a_part() -> None:
    hand = every_block()
    hidden = at(hand.module, "model.2.cv1.conv", lambda one: changed(one, weight=tensor(np.ones((8, 8, 1, 1)))))
    assert "attribute 'weight' hides a part of the same name" in refusal(hand, hidden)


class TestFused:
    """`fuse` deletes the batch-norm of a Conv and replaces its forward; only both together are official."""

    FORWARD = Opaque("__builtin__.getattr", ("models.common.Conv", "forward_fuse"))

    def build(self, change: Callable[[Module], Module]) -> Any:
        hand = every_block()
        return build_graph(replace(hand, module=at(hand.module, "model.2.cv1", change)), GraphConfig(HW))

    def test_a_fused_convolution_is_official(self) -> None:
        assert self.build(lambda one: changed(with_children(one, bn=None), forward=self.FORWARD))

    def test_a_batch_norm_that_the_fused_forward_would_skip_is_refused(self) -> None:
        with pytest.raises(GraphError, match="its method 'forward' was replaced"):
            self.build(lambda one: changed(one, forward=self.FORWARD))

    def test_a_fused_convolution_that_was_read_under_another_name_is_official(self) -> None:
        hand = every_block()
        forward = Opaque("builtins.getattr", ("models.fork.Conv2", "forward_fuse"))
        root = at(hand.module, "model.2.cv1", lambda one: changed(with_children(one, bn=None), forward=forward))
        assert "its method 'forward' was replaced" in refusal(hand, root)
        aliased = replace(hand, module=root, aliases={"models.fork.Conv2": "models.common.Conv"})
        assert build_graph(aliased, GraphConfig(HW))

    @pytest.mark.parametrize(
        "forward",
        [
            Opaque("__builtin__.getattr", ("models.common.Conv", "forward_att")),
            Opaque("__builtin__.getattr", ("models.common.Other", "forward_fuse")),
            Opaque("models.common.forward_fuse"),
            "forward_fuse",
        ],
    )
    def test_no_other_forward_passes(self, forward: Any) -> None:
        with pytest.raises(GraphError, match="its method 'forward' was replaced"):
            self.build(lambda one: changed(with_children(one, bn=None), forward=forward))


@pytest.mark.parametrize(
    ("place", "path", "words"),
    [
        ("model", "models.common.Router", "expected torch.nn.Sequential or ModuleList"),
        ("model.6.m", "models.common.Pools", "expected torch.nn.Sequential or ModuleList"),
        ("model.13.m", "models.common.Heads", "expected torch.nn.Sequential or ModuleList"),
        ("model.13.m.0", "models.common.Conv2d", "expected torch.nn.Conv2d"),
        ("model.3.m.tr.0", "models.other.TransformerLayer", "expected models.common.TransformerLayer"),
        ("model.3.m.tr.0.ma", "models.common.Attention", "expected torch.nn.MultiheadAttention"),
        (
            "",
            "models.twostream.Model",
            "expected models.yolo.Model or models.yolo.SegmentationModel or models.yolo.ClassificationModel",
        ),
    ],
)
def test_a_part_of_another_class_with_the_same_children_is_refused(place: str, path: str, words: str) -> None:
    hand = every_block()
    message = refusal(hand, at(hand.module, place, lambda one: replace(one, class_path=path)))
    assert words in message
    assert path in message


def test_attention_across_the_images_of_a_batch_is_refused() -> None:
    hand = every_block()
    spoilt = at(hand.module, "model.3.m.tr.0.ma", lambda one: changed(one, batch_first=True))
    assert "batch_first is not supported with this value" in refusal(hand, spoilt)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("c3-in-place-se", ("model.1 (models.common.C3)", "child 'se' (models.common.SE)")),
        ("conv-in-place-se", ("model.0 (models.common.Conv)", "child 'att' (models.common.SE)")),
        ("detect-implicit", ("model.11 (models.yolo.Detect)", "child 'ia' (torch.nn.modules.container.ParameterList)")),
    ],
)
def test_the_reported_cases_are_refused(name: str, words: tuple[str, str]) -> None:
    found = read_checkpoint(require(SHARED / "cases" / f"{name}.pt"))
    message = refusal(found, found.module)
    assert all(word in message for word in words)


# tests/golden/test_references.py builds the official checkpoints, and shows that nothing in them is left over.


def test_what_a_writer_leaves_out_on_purpose_is_not_looked_into() -> None:
    make = Maker(1)
    whole = module("models.common.Block", cv1=make.conv(8, 8), loss=gate(), extra=gate())
    view = ModuleView(whole, "m", "hand.pt")
    for part in ("conv", "bn"):
        view.child("cv1").leave_out(part)
    view.child("cv1").child("act").optional_value("inplace")
    view.leave_out("loss", "absent")
    with pytest.raises(GraphError, match="child 'extra'"):
        check_consumed(view)
    view.leave_out("extra")
    check_consumed(view)
