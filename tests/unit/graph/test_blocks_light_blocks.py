"""Blocks of forks for small devices, against NumPy and against what published checkpoints compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from helpers.modules import Maker, activation, module, sequential, with_children
from helpers.parts import run_part
from helpers.shared import CHECKPOINTS, PHOTOS, require
from yoloship.checkpoint import Module, read_checkpoint
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.blocks import BLOCKS, LIGHT

if TYPE_CHECKING:
    from collections.abc import Callable

TORCH = "torch.nn.modules."
MAKE = Maker(1)
X = Maker(2).values(2, 8, 12, 16)
RELU = activation("ReLU")


def close(found: Any, want: Any) -> None:
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def linear(inputs: int, outputs: int) -> Module:
    weight = MAKE.values(outputs, inputs, scale=inputs**-0.5)
    return module(f"{TORCH}linear.Linear", None, {"weight": weight, "bias": MAKE.values(outputs)})


def h_swish() -> Module:
    return module("models.common.h_swish", sigmoid=module("models.common.h_sigmoid", relu=activation("ReLU6")))


def average() -> Module:
    return module(f"{TORCH}pooling.AdaptiveAvgPool2d", {"output_size": 1})


def excitation(gate: Module | None = None) -> Module:
    layers = (linear(8, 2), RELU, linear(2, 8), gate or activation("Sigmoid"))
    return module("models.common.SELayer", avg_pool=average(), fc=sequential(*layers))


def branch(inputs: int, stride: int) -> Module:
    """The right-hand branch of a ShuffleNet unit."""
    return sequential(
        MAKE.conv2d(inputs, 4),
        MAKE.batch_norm(4),
        RELU,
        MAKE.conv2d(4, 4, 3, stride, groups=4),
        MAKE.batch_norm(4),
        MAKE.conv2d(4, 4),
        MAKE.batch_norm(4),
        RELU,
    )


def shuffled(values: Any) -> Any:
    """The channels of the two halves interleaved, by the definition: reshape, swap, reshape."""
    batch, channels, height, width = values.shape
    return values.reshape(batch, 2, channels // 2, height, width).swapaxes(1, 2).reshape(values.shape)


def dict_of(**parts: Module) -> dict[str, Module]:
    return parts


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_shuffle_unit_of_stride_1_passes_one_half_through(dynamic: bool) -> None:
    inner = branch(4, 1)
    block = module("models.common.Shuffle_Block", {"stride": 1}, branch2=inner)
    right = run_part(inner, np.ascontiguousarray(X[:, 4:]))
    close(run_part(block, X, dynamic=dynamic), shuffled(np.concatenate([X[:, :4], right], 1)))


def test_a_shuffle_unit_of_stride_2_has_two_branches() -> None:
    left = sequential(
        MAKE.conv2d(8, 8, 3, 2, groups=8), MAKE.batch_norm(8), MAKE.conv2d(8, 4), MAKE.batch_norm(4), RELU
    )
    right = branch(8, 2)
    block = module("models.common.Shuffle_Block", {"stride": 2}, branch1=left, branch2=right)
    close(run_part(block, X), shuffled(np.concatenate([run_part(left, X), run_part(right, X)], 1)))


def test_a_stem_pools_what_it_convolves() -> None:
    inner = sequential(MAKE.conv2d(8, 8, 3, 2), MAKE.batch_norm(8), RELU)
    window = {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1, "ceil_mode": False, "return_indices": False}
    pool = module(f"{TORCH}pooling.MaxPool2d", window)
    for name in ("conv_bn_relu_maxpool", "CBRM"):
        block = module(f"models.common.{name}", conv=inner, maxpool=pool)
        close(run_part(block, X), run_part(pool, run_part(inner, X)))


def test_a_separable_convolution_has_a_relu_after_each_of_its_two() -> None:
    parts = dict_of(
        conv1=MAKE.conv2d(8, 8, 3, groups=8), bn1=MAKE.batch_norm(8), conv2=MAKE.conv2d(8, 6), bn2=MAKE.batch_norm(6)
    )
    block = module("models.common.DWConvblock", {"p": 1}, **parts)
    y = np.maximum(run_part(parts["bn1"], run_part(parts["conv1"], X)), 0)
    close(run_part(block, X), np.maximum(run_part(parts["bn2"], run_part(parts["conv2"], y)), 0))


@pytest.mark.parametrize("weight", [1, 0.5])
def test_a_sum_weighs_its_second_value(weight: float) -> None:
    other = Maker(5).values(*X.shape)
    close(run_part(module("models.common.ADD", {"a": weight}), X, other), X + weight * other)


@pytest.mark.parametrize("gate", [activation("Sigmoid"), h_swish(), activation("Hardsigmoid")])
@pytest.mark.parametrize("dynamic", [True, False])
def test_squeeze_and_excitation_scales_each_channel_by_what_all_means_give(gate: Module, dynamic: bool) -> None:
    block = excitation(gate)
    layers = list(block.children["fc"].children.values())  # type: ignore[union-attr]
    y = X.astype(np.float64).mean((2, 3))
    for layer in layers:
        assert layer is not None
        weight, bias = layer.parameters.get("weight"), layer.parameters.get("bias")
        if weight is not None and bias is not None:
            y = y @ weight.float64().T + bias.float64()
        else:
            y = run_part(layer, y[:, :, None, None].astype(np.float32))[:, :, 0, 0].astype(np.float64)
    close(run_part(block, X, dynamic=dynamic), X * y[:, :, None, None])


@pytest.mark.parametrize("identity", [True, False])
def test_an_inverted_residual_adds_its_input_where_it_says_so(identity: bool) -> None:
    outputs = 8 if identity else 6
    inner = sequential(
        MAKE.conv2d(8, 8),
        MAKE.batch_norm(8),
        h_swish(),
        MAKE.conv2d(8, 8, 5, groups=8),
        MAKE.batch_norm(8),
        excitation(),
        sequential(),
        h_swish(),
        MAKE.conv2d(8, outputs),
        MAKE.batch_norm(outputs),
    )
    block = module("models.common.MobileNet_Block", {"identity": identity}, conv=inner)
    want = run_part(inner, X)
    close(run_part(block, X), X + want if identity else want)


def test_a_convolution_with_h_swish_is_a_convolution() -> None:
    parts = dict_of(conv=MAKE.conv2d(8, 6, 3), bn=MAKE.batch_norm(6), act=h_swish())
    y = run_part(parts["bn"], run_part(parts["conv"], X))
    close(run_part(module("models.common.conv_bn_hswish", **parts), X), run_part(parts["act"], y))
    block = module("models.common.CBH", conv=parts["conv"], bn=parts["bn"], hardswish=activation("Hardswish"))
    close(run_part(block, X), run_part(activation("Hardswish"), y))


def lc_squeeze(name: str = "LC_SEModule", last: str = "SiLU") -> Module:
    gate = {"SiLU": activation("SiLU")} if last == "SiLU" else {"hardsigmoid": activation("Hardsigmoid")}
    convs = {"conv1": MAKE.conv2d(8, 2, bias=True), "relu": RELU, "conv2": MAKE.conv2d(2, 8, bias=True)}
    return module(f"models.common.{name}", avg_pool=average(), **convs, **gate)


@pytest.mark.parametrize(("name", "last"), [("LC_SEModule", "SiLU"), ("ES_SEModule", "hardsigmoid")])
def test_squeeze_by_convolutions_scales_each_channel(name: str, last: str) -> None:
    block = lc_squeeze(name, last)
    gate = run_part(sequential(*[one for one in block.children.values() if one is not None]), X)
    close(run_part(block, X), X * gate)


@pytest.mark.parametrize("squeezed", [True, False])
def test_a_block_of_lcnet_is_a_row_of_its_parts(squeezed: bool) -> None:
    def conv(*sizes: int, groups: int = 1) -> Module:
        norm = MAKE.batch_norm(sizes[1])
        return module(
            "models.common.CBH", conv=MAKE.conv2d(*sizes, groups=groups), bn=norm, hardswish=activation("Hardswish")
        )

    parts = dict_of(dw_conv=conv(8, 8, 3, groups=8), **({"se": lc_squeeze()} if squeezed else {}), pw_conv=conv(8, 6))
    block = module("models.common.LC_Block", {"use_se": squeezed}, **parts)
    want = X
    for part in parts.values():
        want = run_part(part, want)
    close(run_part(block, X), want)


def test_a_dense_block_drops_nothing_in_evaluation() -> None:
    drop = module(f"{TORCH}dropout.Dropout", {"p": 0.2})
    conv = MAKE.conv2d(8, 6)
    block = module("models.common.Dense", dense_conv=conv, hardswish=activation("Hardswish"), dropout=drop)
    close(run_part(block, X), run_part(activation("Hardswish"), run_part(conv, X)))


@pytest.mark.parametrize(("name", "act"), [("RepConv", "act"), ("RepVGGBlock", "nonlinearity")])
@pytest.mark.parametrize("identity", [True, False])
def test_a_block_of_repvgg_adds_its_branches(name: str, act: str, identity: bool) -> None:
    outputs = 8 if identity else 6
    dense, point = (sequential(MAKE.conv2d(8, outputs, k), MAKE.batch_norm(outputs)) for k in (3, 1))
    branches = dict_of(rbr_dense=dense, rbr_1x1=point)
    if identity:
        branches["rbr_identity"] = MAKE.batch_norm(8)
    block = module(f"models.common.{name}", {"deploy": False}, **branches, **{act: RELU})
    close(run_part(block, X), np.maximum(sum(run_part(branch, X) for branch in branches.values()), 0))


def test_a_block_of_repvgg_that_was_merged_is_its_convolution() -> None:
    conv = MAKE.conv2d(8, 6, 3, bias=True)
    nothing = module(f"{TORCH}linear.Identity")
    block = module("models.common.RepVGGBlock", {"deploy": True}, nonlinearity=RELU, se=nothing, rbr_reparam=conv)
    close(run_part(block, X), np.maximum(run_part(conv, X), 0))
    both = with_children(block, rbr_1x1=MAKE.conv2d(8, 6))
    with pytest.raises(GraphError, match="child 'rbr_1x1'"):
        run_part(both, X)


WRONG: list[tuple[Module, str]] = [
    (module("models.common.Shuffle_Block", {"stride": 0}, branch2=branch(4, 1)), "bad 'stride'"),
    (module("models.common.Shuffle_Block", {"stride": 2}, branch2=branch(8, 2)), "has no submodule 'branch1'"),
    (
        module("models.common.Shuffle_Block", {"stride": 1}, branch2=MAKE.conv2d(4, 5)),
        "its branches do not fit each other",
    ),
    (module("models.common.Shuffle_Block", {"stride": 1}, branch2=branch(4, 2)), "its branches do not fit each other"),
    (module("models.common.MobileNet_Block", {"identity": True}, conv=MAKE.conv2d(8, 6)), "adds values of two shapes"),
    (module("models.common.MobileNet_Block", conv=MAKE.conv2d(8, 8)), "has no attribute 'identity'"),
    (with_children(excitation(), fc=sequential(linear(8, 4))), "gives a different number of factors than channels"),
    (with_children(excitation(), avg_pool=RELU), "gives a different number of factors than channels"),
    (with_children(excitation(), max_pool=average()), "child 'max_pool'"),
    (module("models.common.LC_Block", {"use_se": False}, dw_conv=RELU, se=lc_squeeze(), pw_conv=RELU), "child 'se'"),
    (module("models.common.RepConv", act=RELU), "its branches do not fit each other"),
    (module("models.common.RepConv", act=RELU, rbr_dense=MAKE.conv2d(8, 6), rbr_1x1=MAKE.conv2d(8, 8)), "its branches"),
    (module("models.common.CBRM", conv=RELU, maxpool=RELU, att=excitation()), "child 'att'"),
]


@pytest.mark.parametrize(("block", "words"), WRONG)
def test_a_block_that_is_another_one_is_refused(block: Module, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        run_part(block, X)


def test_every_writer_is_in_the_table_of_blocks() -> None:
    assert LIGHT.keys() <= BLOCKS.keys()


@pytest.fixture
def letterboxed() -> Callable[[str], Any]:
    def load(name: str) -> Any:
        """(1, 3, 640, 640) float32 RGB, as `../shared/checkpoints/wild/README.md` says."""
        image = cv2.imread(str(require(PHOTOS / name)))
        assert image is not None
        ratio = min(640 / image.shape[0], 640 / image.shape[1])
        height, width = (round(side * ratio) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        top, left = (round((640 - side) / 2 - 0.1) for side in (height, width))
        canvas = np.full((640, 640, 3), 114, np.uint8)
        canvas[top : top + height, left : left + width] = image
        return np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255

    return load


@pytest.mark.parametrize("name", ["0a309c-yolov5lite", "4f5c97-yolov5lite"])
def test_published_checkpoints_give_their_own_codes_numbers(name: str, letterboxed: Callable[[str], Any]) -> None:
    path = require(CHECKPOINTS / "wild" / f"{name}.pt")
    model = build_graph(read_checkpoint(path), GraphConfig((640, 640)))
    (found,) = ort.InferenceSession(graph_bytes(model)).run(None, {"images": letterboxed("bus.jpg")})
    want = np.load(path.with_suffix(".npz"))["bus.jpg"].astype(np.float64)
    size = np.abs(want[..., [2, 3, 2, 3]])
    assert (np.abs(found[0, :, :4] - want[..., :4]) <= 1e-3 * size + 0.01).all()
    assert np.abs(found[0, :, 4:] - want[..., 4:]).max() <= 1e-4
