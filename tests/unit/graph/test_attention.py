"""Attention over the cells of a map, in its three forms, against the plain formula."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from helpers.modules import Anchorless, changed, module
from yoloship.errors import GraphError
from yoloship.graph.attention import BLOCKS
from yoloship.graph.builder import Builder
from yoloship.graph.families.ultralytics import Ultralytics
from yoloship.graph.module_view import ModuleView, check_consumed
from yoloship.graph.serialize import to_onnx
from yoloship.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.checkpoint import Module

    Array = npt.NDArray[np.float64]

PATH = "ultralytics.nn.modules.block"
HEADS, SIZE, CHANNELS = 2, 3, 6
HW = (4, 6)
SHAPE = (2, CHANNELS, *HW)
IMAGE = np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)


def convolution(weight: Any) -> Module:
    """A fused Conv without bias and activation: 1x1, or depthwise 3x3."""
    values = np.asarray(weight, np.float32)
    depthwise = values.ndim == 4
    made = Anchorless().conv2d(len(values), len(values), 3 if depthwise else 1, groups=len(values) if depthwise else 1)
    kernel = values if depthwise else values[:, :, None, None]
    conv = module(made.class_path, made.attributes, {"weight": kernel, "bias": None})
    return module("ultralytics.nn.modules.conv.Conv", conv=conv, act=module("torch.nn.modules.linear.Identity"))


def computed(block: Module, *, dynamic: bool = False) -> Any:
    builder = Builder(dynamic_hw=dynamic, blocks=Ultralytics.blocks)
    view = ModuleView(block, "m", "hand.pt")
    declared: Any = (2, CHANNELS, "h", "w") if dynamic else SHAPE
    x = builder.input(TensorSpec("x", "float32", declared), SHAPE)
    y = BLOCKS[block.class_name](builder, view, x)
    builder.output(y, TensorSpec("y", "float32", (2, CHANNELS, "h", "w") if dynamic else y.shape))
    check_consumed(view)
    return ort.InferenceSession(to_onnx(builder.build("block"), {}).SerializeToString()).run(None, {"x": IMAGE})[0]


RNG = np.random.default_rng(9)
QKV = RNG.standard_normal((3 * CHANNELS, CHANNELS)).astype(np.float32)
PROJ = RNG.standard_normal((CHANNELS, CHANNELS)).astype(np.float32)
PE = RNG.standard_normal((CHANNELS, 1, 3, 3)).astype(np.float32)


def position(values: Array) -> Array:
    """The depthwise convolution of the values."""
    wide = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moved: Array = np.sum(
        [wide[:, :, y : y + HW[0], x : x + HW[1]] * PE[:, 0, y, x][:, None, None] for y in range(3) for x in range(3)],
        axis=0,
    )
    return moved


def expected(parts: Sequence[Array], scale: float, area: int = 1) -> Array:
    """Query, keys and values, each (B, heads, K, h·w)."""
    query, keys, values = parts
    batch, heads, _, cells = values.shape
    band = cells // area
    mixed = np.zeros_like(values)
    for b in range(batch):
        for h in range(heads):
            for a in range(area):
                part = slice(a * band, (a + 1) * band)
                logits = query[b, h, :, part].T @ keys[b, h, :, part] * scale
                share = np.exp(logits - logits.max(1, keepdims=True))
                share /= share.sum(1, keepdims=True)
                mixed[b, h, :, part] = values[b, h, :, part] @ share.T
    image = values.reshape(batch, -1, *HW)
    projected: Array = np.einsum("oc,bchw->bohw", PROJ, mixed.reshape(batch, -1, *HW) + position(image))
    return projected


def interleaved(weight: Any, sizes: tuple[int, ...]) -> list[Array]:
    """q, k and v of each head side by side."""
    flat = np.einsum("oc,bchw->bohw", weight.astype(np.float64), IMAGE).reshape(2, HEADS, sum(sizes), -1)
    return list(np.split(flat, np.cumsum(sizes)[:-1], axis=2))


@pytest.mark.parametrize("dynamic", [False, True])
def test_each_head_has_its_own_query_key_and_value_side_by_side(dynamic: bool) -> None:
    key = 2
    weight = QKV[: HEADS * (2 * key + SIZE)]
    block = module(
        f"{PATH}.Attention",
        {"num_heads": HEADS, "key_dim": key, "head_dim": SIZE, "scale": 0.7},
        qkv=convolution(weight), proj=convolution(PROJ), pe=convolution(PE),
    )  # fmt: skip
    want = expected(interleaved(weight, (key, key, SIZE)), 0.7)
    np.testing.assert_allclose(computed(block, dynamic=dynamic), want, rtol=1e-4, atol=1e-4)


def area_attention(area: int, **parts: Module) -> Module:
    attributes = {"num_heads": HEADS, "head_dim": SIZE, "area": area}
    return module(f"{PATH}.AAttn", attributes, proj=convolution(PROJ), pe=convolution(PE), **parts)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("area", [1, 4])
def test_area_attention_looks_at_bands_of_rows(area: int, dynamic: bool) -> None:
    found = computed(area_attention(area, qkv=convolution(QKV)), dynamic=dynamic)
    want = expected(interleaved(QKV, (SIZE, SIZE, SIZE)), SIZE**-0.5, area)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("area", [1, 4])
def test_in_the_form_of_its_authors_all_queries_come_before_all_keys(area: int, dynamic: bool) -> None:
    block = area_attention(area, qk=convolution(QKV[: 2 * CHANNELS]), v=convolution(QKV[2 * CHANNELS :]))
    flat = np.einsum("oc,bchw->bohw", QKV.astype(np.float64), IMAGE)
    parts = [flat[:, i * CHANNELS :][:, :CHANNELS].reshape(2, HEADS, SIZE, -1) for i in range(3)]
    want = expected(parts, SIZE**-0.5, area)
    np.testing.assert_allclose(computed(block, dynamic=dynamic), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": 3}, "its heads do not fit its channels: expected 27, got 18"),
        ({"area": 5}, "its map does not divide into 5 areas"),
        ({"all_head_dim": 5}, "all_head_dim is not supported with this value: expected 6"),
        ({"head_dim": 0}, "bad 'head_dim'"),
    ],
)
def test_heads_and_areas_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        computed(changed(area_attention(1, qkv=convolution(QKV)), **changes))


def test_both_forms_in_one_block_are_refused() -> None:
    block = area_attention(1, qkv=convolution(QKV), v=convolution(PROJ))
    with pytest.raises(GraphError, match="child 'v'"):
        computed(block)
