"""Parallel convolutions become one, with the same result; branches that do not fit are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from helpers.modules import Anchorless, changed, module, with_children
from yoloship.checkpoint import Module
from yoloship.errors import GraphError
from yoloship.graph.blocks import emit
from yoloship.graph.builder import Builder
from yoloship.graph.families.ultralytics import Ultralytics
from yoloship.graph.module_view import ModuleView, check_consumed
from yoloship.graph.serialize import to_onnx
from yoloship.model import TensorSpec

SHAPE = (2, 8, 6, 10)
IMAGE = np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)
IDENTITY = module("torch.nn.modules.linear.Identity")
RELU = module("torch.nn.modules.activation.ReLU")


def branch(seed: int, k: int, *, s: int = 1, groups: int = 1, act: Module = IDENTITY) -> Module:
    return Anchorless(seed).conv(8, 8, k, s, act=act, groups=groups)


def computed(*blocks: Module) -> list[Any]:
    """What each block makes of `IMAGE`, with the number of convolutions in the graph as the last entry."""
    builder = Builder(dynamic_hw=False, blocks=Ultralytics.blocks)
    x = builder.input(TensorSpec("x", "float32", SHAPE), SHAPE)
    for index, block in enumerate(blocks):
        view = ModuleView(block, f"m{index}", "hand.pt")
        y = emit(builder, view, (x,))
        builder.output(y, TensorSpec(f"y{index}", "float32", y.shape))
        check_consumed(view)
    graph = builder.build("block")
    session = ort.InferenceSession(to_onnx(graph, {}).SerializeToString())
    return [*session.run(None, {"x": IMAGE}), sum(node.op == "Conv" for node in graph.nodes)]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("with_norm", [True, False])
def test_rep_conv_is_the_sum_of_its_branches(with_norm: bool, groups: int) -> None:
    wide, narrow, norm = branch(1, 3, groups=groups), branch(2, 1, groups=groups), Anchorless(3).batch_norm(8)
    parts = {"conv1": wide, "conv2": narrow, "act": RELU, **({"bn": norm} if with_norm else {})}
    whole, count = computed(module("ultralytics.nn.modules.conv.RepConv", {} if with_norm else {"bn": None}, **parts))
    assert count == 1
    first, second, third, _ = computed(wide, narrow, norm)
    want = np.maximum(first + second + (third if with_norm else 0), 0)
    np.testing.assert_allclose(whole, want, rtol=1e-4, atol=1e-5)


def test_a_fused_rep_conv_has_one_convolution() -> None:
    conv = Anchorless(4).conv2d(8, 8, 3, bias=True)
    whole, count = computed(module("ultralytics.nn.modules.conv.RepConv", conv=conv, act=RELU))
    plain, _ = computed(module("ultralytics.nn.modules.conv.Conv", conv=conv, act=RELU))
    assert count == 1
    np.testing.assert_array_equal(whole, plain)


def test_the_large_depthwise_kernel_takes_in_the_small_one() -> None:
    parts = {"conv": branch(1, 7, groups=8), "conv1": branch(2, 3, groups=8)}
    whole, count = computed(module("ultralytics.nn.modules.block.RepVGGDW", {"dim": 8}, **parts, act=RELU))
    assert count == 1
    first, second, _ = computed(*parts.values())
    np.testing.assert_allclose(whole, np.maximum(first + second, 0), rtol=1e-4, atol=1e-5)


def test_a_fused_depthwise_block_has_a_plain_convolution() -> None:
    conv = Anchorless(4).conv2d(8, 8, 7, bias=True, groups=8)
    whole, _ = computed(module("ultralytics.nn.modules.block.RepVGGDW", {"dim": 8}, conv=conv, act=RELU))
    plain, _ = computed(module("ultralytics.nn.modules.conv.Conv", conv=conv, act=RELU))
    np.testing.assert_array_equal(whole, plain)


GOOD = module("ultralytics.nn.modules.conv.RepConv", conv1=branch(1, 3), conv2=branch(2, 1), act=RELU)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (with_children(GOOD, conv2=branch(2, 1, act=RELU)), "has an activation, so its branch cannot be added"),
        (with_children(GOOD, conv2=branch(2, 1, s=2)), "its branches do not fit each other"),
        (with_children(GOOD, conv2=branch(2, 1, groups=2)), "its branches do not fit each other"),
        (with_children(GOOD, conv2=branch(2, 2)), "its branches do not fit each other"),
        (with_children(GOOD, conv1=branch(2, 1), conv2=branch(2, 3)), "its branches do not fit each other"),
        (with_children(GOOD, conv2=RELU), "is not supported in this place: expected a Conv"),
        (with_children(GOOD, bn=RELU), "is not supported in this place: expected torch.nn.BatchNorm2d"),
        (with_children(GOOD, conv2=None), "has no submodule 'conv2'"),
        (with_children(GOOD, conv3=branch(2, 1)), "child 'conv3'"),
        (changed(GOOD, forward=7), "its method 'forward' was replaced"),
    ],
)
def test_branches_that_cannot_be_added_are_refused(block: Module, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        computed(block)


def test_two_convolutions_under_one_norm_become_one() -> None:
    make = Anchorless(6)
    wide, narrow, norm = make.conv2d(8, 8, 3), make.conv2d(8, 8), make.batch_norm(8)
    whole, count = computed(module("ultralytics.nn.modules.conv.Conv2", conv=wide, cv2=narrow, bn=norm, act=RELU))
    assert count == 1
    alone = [module("ultralytics.nn.modules.conv.Conv", conv=conv, act=IDENTITY) for conv in (wide, narrow)]
    scale = (
        norm.parameters["weight"],
        norm.parameters["bias"],
        norm.buffers["running_mean"],
        norm.buffers["running_var"],
    )
    gamma, beta, mean, variance = (part.float64().reshape(1, 8, 1, 1) for part in scale if part is not None)
    first, second, _ = computed(*alone)
    want = np.maximum((first + second - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)
    np.testing.assert_allclose(whole, want, rtol=1e-4, atol=1e-5)
    fused, _ = computed(module("ultralytics.nn.modules.conv.Conv2", conv=wide, act=RELU))
    np.testing.assert_allclose(fused, np.maximum(first, 0), rtol=1e-6)
