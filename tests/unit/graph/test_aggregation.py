"""Blocks that split and join maps: what they compute with plain 1x1 convolutions, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from helpers.modules import Anchorless, anchorless_around, changed, module, sequential
from yoloship.errors import GraphError
from yoloship.graph.aggregation import BLOCKS, JOINS
from yoloship.graph.builder import Builder
from yoloship.graph.families.ultralytics import Ultralytics
from yoloship.graph.module_view import ModuleView, check_consumed
from yoloship.graph.serialize import to_onnx
from yoloship.model import TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.checkpoint import Module

PATH = "ultralytics.nn.modules.block"
SHAPE = (2, 8, 4, 6)
IMAGE: npt.NDArray[np.float32] = np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)
IDENTITY = module("torch.nn.modules.linear.Identity")


def scale(factor: float) -> Module:
    """A Conv of 4 channels that multiplies by a factor."""
    return pointwise(factor * np.eye(4))


def pointwise(weight: npt.ArrayLike) -> Module:
    """A fused Conv without bias and activation."""
    make, values = Anchorless(), np.asarray(weight, np.float32)
    made = make.conv2d(values.shape[1], values.shape[0])
    conv = module(made.class_path, made.attributes, {"weight": values[:, :, None, None], "bias": None})
    return module("ultralytics.nn.modules.conv.Conv", conv=conv, act=IDENTITY)


def steps(*parts: Module) -> Module:
    return module("torch.nn.modules.container.ModuleList", **{str(i): part for i, part in enumerate(parts)})


def computed(block: Module) -> Any:
    """What a block makes of `IMAGE`, after everything that it holds was used."""
    builder = Builder(dynamic_hw=False, blocks=Ultralytics.blocks)
    view = ModuleView(block, "m", "hand.pt")
    x = builder.input(TensorSpec("x", "float32", SHAPE), SHAPE)
    y = BLOCKS[block.class_name](builder, view, x)
    builder.output(y, TensorSpec("y", "float32", y.shape))
    check_consumed(view)
    session = ort.InferenceSession(to_onnx(builder.build("block"), {}).SerializeToString())
    return session.run(None, {"x": IMAGE})[0]


EYE = np.eye(8)
FIRST, SECOND = IMAGE[:, :4], IMAGE[:, 4:]


@pytest.mark.parametrize("name", ["C2f", "C3k2", "C2fCIB", "C2fPSA"])
def test_each_step_works_on_the_last_value(name: str) -> None:
    block = module(
        f"{PATH}.{name}", {"c": 99}, cv1=pointwise(EYE), m=steps(scale(2), scale(3)), cv2=pointwise(np.eye(16))
    )
    np.testing.assert_allclose(computed(block), np.concatenate([FIRST, SECOND, 2 * SECOND, 6 * SECOND], 1), rtol=1e-6)


def test_c2_works_on_the_first_half_and_c2psa_on_the_second() -> None:
    parts = {"cv1": pointwise(EYE), "m": sequential(scale(2)), "cv2": pointwise(EYE)}
    np.testing.assert_allclose(computed(module(f"{PATH}.C2", **parts)), np.concatenate([2 * FIRST, SECOND], 1))
    np.testing.assert_allclose(computed(module(f"{PATH}.C2PSA", **parts)), np.concatenate([FIRST, 2 * SECOND], 1))


def test_c3f_puts_the_side_way_first() -> None:
    half = np.eye(8)[:4]
    block = module(
        f"{PATH}.C3f", cv1=pointwise(half), cv2=pointwise(3 * half), m=steps(scale(2)), cv3=pointwise(np.eye(12))
    )
    np.testing.assert_allclose(computed(block), np.concatenate([3 * FIRST, FIRST, 2 * FIRST], 1), rtol=1e-6)


def test_elan_gives_the_last_of_its_steps_too() -> None:
    parts = {"cv1": pointwise(EYE), "cv2": scale(2), "cv3": scale(5), "cv4": pointwise(np.eye(16))}
    want = np.concatenate([FIRST, SECOND, 2 * SECOND, 10 * SECOND], 1)
    for name in ("RepNCSPELAN4", "ELAN1"):
        np.testing.assert_allclose(computed(module(f"{PATH}.{name}", **parts)), want, rtol=1e-6)


@pytest.mark.parametrize("gamma", [None, np.arange(8)])
def test_area_blocks_are_added_to_the_input_only_with_gamma(gamma: Any) -> None:
    parts = {"cv1": pointwise(np.eye(8)[:4]), "m": steps(scale(2)), "cv2": pointwise(EYE)}
    block = module(f"{PATH}.A2C2f", {"gamma": None}, **parts)
    if gamma is not None:
        block = module(f"{PATH}.A2C2f", {}, {"gamma": gamma}, **parts)
    plain = np.concatenate([FIRST, 2 * FIRST], 1)
    want = plain if gamma is None else IMAGE + gamma.reshape(1, 8, 1, 1) * plain
    np.testing.assert_allclose(computed(block), want, rtol=1e-5)


@pytest.mark.parametrize("shortcut", [True, False])
def test_psa_blocks_add_if_they_say_so(shortcut: bool) -> None:
    block = module(f"{PATH}.PSABlock", {"add": shortcut}, attn=pointwise(2 * EYE), ffn=sequential(pointwise(3 * EYE)))
    np.testing.assert_allclose(computed(block), (12 if shortcut else 6) * IMAGE, rtol=1e-5)


def test_psa_adds_to_the_second_half() -> None:
    block = module(f"{PATH}.PSA", cv1=pointwise(EYE), attn=scale(1), ffn=sequential(scale(2)), cv2=pointwise(EYE))
    np.testing.assert_allclose(computed(block), np.concatenate([FIRST, 6 * SECOND], 1), rtol=1e-6)


def test_averages_are_one_cell_smaller_and_not_padded() -> None:
    mean = (IMAGE[:, :, :-1, :-1] + IMAGE[:, :, 1:, :-1] + IMAGE[:, :, :-1, 1:] + IMAGE[:, :, 1:, 1:]) / 4
    np.testing.assert_allclose(computed(module(f"{PATH}.AConv", cv1=pointwise(EYE))), mean, rtol=1e-4, atol=1e-6)


def pool() -> Module:
    attributes = {
        "kernel_size": 3,
        "stride": 1,
        "padding": 1,
        "dilation": 1,
        "ceil_mode": False,
        "return_indices": False,
    }
    return module("torch.nn.modules.pooling.MaxPool2d", attributes)


def pooled(times: int) -> Any:
    value = IMAGE
    for _ in range(times):
        wide = np.pad(value, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        value = np.max([wide[:, :, dy : dy + 4, dx : dx + 6] for dy in range(3) for dx in range(3)], axis=0)
    return value


@pytest.mark.parametrize(
    ("attributes", "count", "shortcut"),
    [({}, 3, False), ({"n": 2, "add": False}, 2, False), ({"n": 3, "add": True}, 3, True), ({"n": None}, 3, False)],
)
def test_sppf_pools_as_often_as_it_says_and_three_times_in_old_files(
    attributes: dict[str, Any], count: int, shortcut: bool
) -> None:
    total = np.tile(EYE, (1, count + 1))
    block = module(f"{PATH}.SPPF", attributes, cv1=pointwise(EYE), m=pool(), cv2=pointwise(total))
    want = sum(pooled(times) for times in range(count + 1)) + (IMAGE if shortcut else 0)
    np.testing.assert_allclose(computed(block), want, rtol=1e-5, atol=1e-5)


def test_an_odd_number_of_channels_has_no_halves() -> None:
    block = module(f"{PATH}.C2f", cv1=pointwise(np.eye(8)[:7]), m=steps(), cv2=pointwise(EYE))
    with pytest.raises(GraphError, match="splits an odd number of channels into halves: got 7"):
        computed(block)


def test_silence_gives_its_input() -> None:
    np.testing.assert_array_equal(computed(module(f"{PATH}.Silence")), IMAGE)


def test_a_part_that_a_block_does_not_use_is_refused() -> None:
    block = module(f"{PATH}.C2", cv1=pointwise(EYE), m=sequential(), cv2=pointwise(EYE), extra=pointwise(EYE))
    with pytest.raises(GraphError, match="child 'extra'"):
        computed(block)


def test_a_gamma_of_another_length_is_refused() -> None:
    parts = {"cv1": pointwise(np.eye(8)[:4]), "m": steps(), "cv2": pointwise(np.eye(4))}
    block = changed(module(f"{PATH}.A2C2f", {}, {"gamma": np.ones(8)}, **parts))
    with pytest.raises(GraphError, match="'gamma' has the wrong shape"):
        computed(block)


def test_a_whole_detector_of_such_blocks_is_written() -> None:
    make = Anchorless(2)
    block = module(f"{PATH}.C2f", cv1=make.conv(8, 8), m=steps(make.conv(4, 4, 3)), cv2=make.conv(12, 16))
    network = anchorless_around(block, 8, 16)
    from yoloship.graph import GraphConfig, build_graph

    build_graph(network, GraphConfig((64, 96)))


def fused(idx: Any, sources: list[tuple[Any, tuple[int, int]]], last: tuple[int, ...] = (2, 4, 8, 12)) -> list[Any]:
    """What CBFuse makes of divided maps, each (c2s, (h, w)), and of a last map; and those maps themselves."""
    builder = Builder(dynamic_hw=False, blocks=Ultralytics.blocks)
    rng, feeds, wires = np.random.default_rng(2), {}, []
    for number, (sizes, hw) in enumerate(sources):
        shape = (2, 8, *hw)
        x = builder.input(TensorSpec(f"x{number}", "float32", shape), shape)
        conv = pointwise(EYE).children["conv"]
        assert conv is not None
        view = ModuleView(module(f"{PATH}.CBLinear", {"c2s": sizes}, conv=conv), f"s{number}", "hand.pt")
        wires.append(BLOCKS["CBLinear"](builder, view, x))
        feeds[f"x{number}"] = rng.standard_normal(shape).astype(np.float32)
    feeds["last"] = rng.standard_normal(last).astype(np.float32)
    wires.append(builder.input(TensorSpec("last", "float32", last), last))
    y = JOINS["CBFuse"](builder, ModuleView(module(f"{PATH}.CBFuse", {"idx": idx}), "f", "hand.pt"), wires)
    builder.output(y, TensorSpec("y", "float32", y.shape))
    session = ort.InferenceSession(to_onnx(builder.build("block"), {}).SerializeToString())
    return [session.run(None, feeds)[0], *feeds.values()]


def test_parts_of_divided_maps_are_enlarged_and_added_to_the_last() -> None:
    found, first, second, last = fused([1, 0], [([4, 4], (4, 6)), ((4, 4), (8, 12))])
    want = last + np.repeat(np.repeat(first[:, 4:], 2, axis=2), 2, axis=3) + second[:, :4]
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("idx", "sources", "words"),
    [
        ([2], [([4, 4], (8, 12))], "takes a part that its input does not have: expected below 2, got 2"),
        ([True], [([4, 4], (8, 12))], "takes a part that its input does not have"),
        ([0, 0], [([4, 4], (8, 12))], "bad 'idx': expected 1 numbers"),
        ([0], [([4, 3], (8, 12))], "bad 'c2s': expected channels that make 8 together"),
        ([0], [(8, (8, 12))], "bad 'c2s'"),
        ([0], [([2, 6], (8, 12))], "adds values of two shapes"),
        ([0], [([4, 4], (5, 6))], "joins maps whose sizes are not multiples of each other"),
    ],
)
def test_divided_maps_that_do_not_fit_are_refused(idx: Any, sources: list[Any], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        fused(idx, sources)


def test_a_transposed_convolution_has_its_norm_and_activation() -> None:
    weight = np.zeros((8, 8, 2, 2), np.float32)
    weight[np.arange(8), np.arange(8)] = 1
    attributes = {
        "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "output_padding": (0, 0), "groups": 1,
        "padding_mode": "zeros",
    }  # fmt: skip
    inner = module("torch.nn.modules.conv.ConvTranspose2d", attributes, {"weight": weight, "bias": None})
    relu = module("torch.nn.modules.activation.ReLU")
    large = np.repeat(np.repeat(IMAGE, 2, axis=2), 2, axis=3)
    for norm in ({}, {"bn": IDENTITY}):
        found = computed(module("ultralytics.nn.modules.conv.ConvTranspose", conv_transpose=inner, act=relu, **norm))
        np.testing.assert_allclose(found, np.maximum(large, 0))
