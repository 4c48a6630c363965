from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.modules import Maker, activation, changed, module, sequential, with_children
from helpers.parts import part_graph, run_part
from yoloship.errors import GraphError

if TYPE_CHECKING:
    from yoloship.checkpoint import Module

TORCH = "torch.nn.modules."
MAKE = Maker(1)
X = (Maker(2).values(2, 8, 6, 10) * 4).astype(np.float32)
"""Reaches both flat ends of every activation."""


def sigmoid(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(x / 2))


def close(found: Any, want: Any) -> None:
    np.testing.assert_allclose(found, want, rtol=2e-6, atol=2e-6)


def statistics(x: Any, axes: tuple[int, ...], eps: float) -> Any:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def bare_norm(weight: Any, bias: Any) -> Module:
    """A batch-norm that kept no running statistics."""
    return module(f"{TORCH}batchnorm.BatchNorm2d", {"eps": 1e-3}, {"weight": weight, "bias": bias})


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_without_statistics_takes_those_of_the_whole_batch(affine: bool, dynamic: bool) -> None:
    weight, bias = (MAKE.values(8), MAKE.values(8)) if affine else (None, None)
    want = statistics(X.astype(np.float64), (0, 2, 3), 1e-3)
    if weight is not None and bias is not None:
        want = want * weight[:, None, None].astype(np.float64) + bias[:, None, None]
    close(run_part(bare_norm(weight, bias), X, dynamic=dynamic), want)


def test_a_batch_norm_without_weights_only_shifts_and_scales_by_its_statistics() -> None:
    norm = MAKE.batch_norm(8)
    plain = module(norm.class_path, norm.attributes, {"weight": None, "bias": None}, dict_of(norm))
    mean, variance = (dict_of(norm)[name][:, None, None].astype(np.float64) for name in ("running_mean", "running_var"))
    close(run_part(plain, X), (X.astype(np.float64) - mean) / np.sqrt(variance + 1e-3))


def dict_of(norm: Module) -> dict[str, Any]:
    return {name: value.numpy() for name, value in norm.buffers.items() if value is not None}


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_a_group_norm_takes_the_statistics_of_a_group_in_one_image(groups: int, affine: bool, dynamic: bool) -> None:
    weight, bias = (MAKE.values(8), MAKE.values(8)) if affine else (None, None)
    part = group_norm(groups, weight, bias)
    x = X.astype(np.float64).reshape(2, groups, -1)
    want = statistics(x, (2,), 1e-3).reshape(X.shape)
    if weight is not None and bias is not None:
        want = want * weight[:, None, None].astype(np.float64) + bias[:, None, None]
    np.testing.assert_allclose(run_part(part, X, dynamic=dynamic), want, rtol=1e-5, atol=1e-5)


def test_the_statistics_of_a_large_group_are_as_exact_as_those_of_a_small_one() -> None:
    x = (np.random.default_rng(0).standard_normal((1, 8, 200, 200)) * 3 + 20).astype(np.float32)
    want = statistics(x.astype(np.float64).reshape(1, 1, -1), (2,), 1e-3).reshape(x.shape)
    np.testing.assert_allclose(run_part(group_norm(1, None, None), x), want, atol=3e-5)
    np.testing.assert_allclose(
        run_part(bare_norm(None, None), x), statistics(x.astype(np.float64), (0, 2, 3), 1e-3), atol=3e-5
    )


def group_norm(groups: int, weight: Any, bias: Any) -> Module:
    return module(
        f"{TORCH}normalization.GroupNorm", {"num_groups": groups, "eps": 1e-3}, {"weight": weight, "bias": bias}
    )


def test_a_group_norm_whose_groups_do_not_divide_the_channels_is_refused() -> None:
    with pytest.raises(GraphError, match="groups do not divide the channels"):
        run_part(group_norm(3, None, None), X)


@pytest.mark.parametrize("norm", [bare_norm(None, None), group_norm(2, None, None)], ids=["bare", "group"])
def test_a_norm_that_cannot_be_folded_stands_behind_its_convolution(norm: Module) -> None:
    block = with_children(MAKE.conv(8, 8), bn=norm)
    conv = block.children["conv"]
    assert conv is not None
    inner = run_part(norm, run_part(conv, X))
    close(run_part(block, X), inner * sigmoid(inner.astype(np.float64)))


def test_a_csp_block_whose_norm_cannot_be_folded_normalises_the_joined_ways() -> None:
    parts = {"cv2": MAKE.conv2d(8, 4), "cv3": MAKE.conv2d(4, 4), "cv1": MAKE.conv(8, 4), "cv4": MAKE.conv(8, 8)}
    act = activation("LeakyReLU", negative_slope=0.1)
    inner = sequential(activation("ReLU"))
    norm = group_norm(2, MAKE.values(8), MAKE.values(8))
    block = module("models.common.BottleneckCSP", **parts, bn=norm, act=act, m=inner)
    deep = run_part(parts["cv3"], run_part(inner, run_part(parts["cv1"], X)))
    joined = np.concatenate([deep, run_part(parts["cv2"], X)], 1)
    want = run_part(parts["cv4"], run_part(act, run_part(norm, joined)))
    np.testing.assert_allclose(run_part(block, X), want, rtol=1e-4, atol=1e-4)


def test_an_identity_in_place_of_a_norm_does_nothing() -> None:
    block = MAKE.conv(8, 8)
    bare = with_children(block, bn=None)
    fused = with_children(block, bn=module(f"{TORCH}linear.Identity"))
    assert part_graph(fused, X).graph.node == part_graph(bare, X).graph.node


def test_a_batch_norm_after_a_convolution_in_a_row_falls_into_it() -> None:
    conv, norm = MAKE.conv2d(8, 6, 3), MAKE.batch_norm(6)
    row = sequential(conv, norm, activation("ReLU"))
    assert [node.op_type for node in part_graph(row, X).graph.node] == ["Conv", "Relu"]
    np.testing.assert_allclose(run_part(row, X), np.maximum(run_part(norm, run_part(conv, X)), 0), rtol=1e-5, atol=1e-5)


def plain_conv(conv: Module, x: Any, before: tuple[int, int], after: tuple[int, int]) -> Any:
    """Zeros around, then the sum over the window; stride 1."""
    found = conv.parameters["weight"]
    assert found is not None
    weight = found.float64()
    dilation: Any = conv.attributes["dilation"]
    dy, dx = dilation
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1])))
    rows, columns = (weight.shape[2] - 1) * dy, (weight.shape[3] - 1) * dx
    height, width = padded.shape[2] - rows, padded.shape[3] - columns
    total = np.zeros((len(x), weight.shape[0], height, width))
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            part = padded[:, :, i * dy : i * dy + height, j * dx : j * dx + width]
            total += np.einsum("bchw,oc->bohw", part, weight[:, :, i, j])
    return total


@pytest.mark.parametrize(
    ("kernel", "dilation", "before", "after"),
    [
        ((3, 3), (1, 1), (1, 1), (1, 1)),
        ((2, 4), (1, 1), (0, 1), (1, 2)),
        ((3, 2), (2, 3), (2, 1), (2, 2)),
        ((1, 1), (1, 1), (0, 0), (0, 0)),
    ],
)
def test_padding_same_adds_the_odd_pixel_at_the_bottom_and_right(
    kernel: tuple[int, int], dilation: tuple[int, int], before: tuple[int, int], after: tuple[int, int]
) -> None:
    conv = MAKE.conv2d(8, 4, kernel_size=kernel, dilation=dilation, padding="same")
    found = run_part(conv, X)
    assert found.shape == (2, 4, *X.shape[2:])
    np.testing.assert_allclose(found, plain_conv(conv, X, before, after), rtol=1e-5, atol=1e-5)
    conv = changed(conv, padding="valid")
    np.testing.assert_allclose(run_part(conv, X), plain_conv(conv, X, (0, 0), (0, 0)), rtol=1e-5, atol=1e-5)


def test_focus_takes_padding_same() -> None:
    inner = MAKE.conv(32, 4, kernel_size=(3, 2), padding="same")
    focus = module("models.common.Focus", conv=inner)
    quarters = [X[..., i::2, j::2] for j in range(2) for i in range(2)]
    np.testing.assert_allclose(run_part(focus, X), run_part(inner, np.concatenate(quarters, 1)), rtol=1e-4, atol=1e-5)
