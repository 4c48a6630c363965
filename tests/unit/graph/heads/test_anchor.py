"""A head's anchors are those that the official forward of its release reads, or the head is refused."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from helpers.modules import Maker, checkpoint, tensor
from helpers.shared import GENERATED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.checkpoint import Checkpoint, Module

HW = (64, 96)
PIXELS = np.array(
    [
        [[10, 13], [16, 30], [33, 23]],
        [[30, 61], [62, 45], [59, 119]],
        [[116, 90], [156, 198], [373, 326]],
    ],
    np.float64,
)
"""Of three levels, finest first."""


def three_levels() -> Checkpoint:
    """Three levels, each one convolution after the one before."""
    make = Maker(7)
    layers: list[tuple[Module, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (make.conv(8, 8, 3, 2), -1),
        (make.conv(8, 8, 3, 2), -1),
        (make.detect([8, 8, 8], [8, 16, 32]), [0, 1, 2]),
    ]
    return checkpoint(layers, strides=(8, 16, 32))


SAMPLES = MappingProxyType({("yolov5", "detect"): three_levels})
"""By family and task, for the suites in tests/contract."""


def detector(
    strides: Sequence[int],
    anchors: npt.ArrayLike,
    anchor_grid: npt.ArrayLike | None,
    dtype: str = "float32",
    shape: tuple[int, ...] | None = None,
) -> Checkpoint:
    """Three maps of one convolution each, straight from the image, and a head with these buffers."""
    make = Maker(2)
    levels = [make.conv(3, 8, stride, stride, padding=(0, 0)) for stride in strides]
    head = make.detect([8] * 3, strides)
    buffers: dict[str, Any] = {"anchors": tensor(np.asarray(anchors), dtype)}
    if anchor_grid is not None:
        buffers["anchor_grid"] = tensor(np.asarray(anchor_grid).reshape(shape or (3, 1, 3, 1, 1, 2)), dtype)
    head = replace(head, buffers=MappingProxyType(buffers))
    layers: list[tuple[Module, int | list[int]]] = [(make.conv(3, 3, 1), -1)]
    layers += [(layer, 0) for layer in levels]
    layers.append((head, [1, 2, 3]))
    return checkpoint(layers, strides=tuple(sorted(strides)))


def as_trained(order: Sequence[int], *, flipped_after_division: bool = False) -> tuple[Any, Any]:
    """`anchors` and `anchor_grid` as the official model makes them for levels in this order of strides.

    Releases 1 to 5 divide by the strides first and turn both tables round afterwards.
    """
    strides = np.array(order, np.float64)[:, None, None]
    if not flipped_after_division:
        pixels = PIXELS if order[0] < order[-1] else PIXELS[::-1]
        return pixels / strides, pixels.copy()
    given = PIXELS if order[0] > order[-1] else PIXELS[::-1]  # listed in the other order than the strides
    return (given / strides)[::-1], given[::-1]


def anchors_of(hand: Checkpoint) -> Any:
    """(3, 3, 2) in pixels, finest first."""
    return np.array(model_info(hand, GraphConfig(HW)).anchors)


def refusal(hand: Checkpoint) -> str:
    with pytest.raises(GraphError) as caught:
        build_graph(hand, GraphConfig(HW))
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("order", [(8, 16, 32), (32, 16, 8)])
def test_levels_whose_tables_agree_have_the_anchors_of_both(order: tuple[int, ...], dtype: str) -> None:
    anchors, pixels = as_trained(order)
    for grid in (pixels, None):
        np.testing.assert_array_equal(anchors_of(detector(order, anchors, grid, dtype)), PIXELS)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("order", [(8, 16, 32), (32, 16, 8)])
def test_tables_that_an_old_release_turned_round_give_the_pixels_that_its_forward_reads(
    order: tuple[int, ...], dtype: str
) -> None:
    anchors, pixels = as_trained(order, flipped_after_division=True)
    steps = np.array(order, np.float64)[:, None, None]
    np.testing.assert_allclose((anchors * steps / pixels)[:, 0, 0], [order[i] / order[2 - i] for i in range(3)])
    hand = detector(order, anchors, pixels, dtype)
    np.testing.assert_array_equal(anchors_of(hand), PIXELS)


def test_boxes_of_a_turned_round_head_have_the_official_size() -> None:
    """The decoded output against the formula of releases 1 to 5, which reads `anchor_grid`."""
    order = (32, 16, 8)
    anchors, pixels = as_trained(order, flipped_after_division=True)
    hand = detector(order, anchors, pixels)
    x = np.random.default_rng(7).random((1, 3, *HW), np.float32)

    def run(form: Any) -> Any:
        model = build_graph(hand, GraphConfig(HW, output_form=form))
        return ort.InferenceSession(graph_bytes(model)).run(None, {"images": x})

    (raw,), maps = run("raw"), run("heads")[::-1]  # the maps in the module's own order
    rows = 0
    for level, values in enumerate(maps):
        height, width = values.shape[2:]
        cells = values.reshape(1, 3, 8, height, width).transpose(0, 1, 3, 4, 2).astype(np.float64)
        wh = (2 / (1 + np.exp(-cells[..., 2:4]))) ** 2 * pixels[level][:, None, None]
        count = 3 * height * width
        np.testing.assert_allclose(raw[0, rows : rows + count, 2:4], wh.reshape(count, 2), rtol=1e-4)
        rows += count
    assert rows == raw.shape[1]


def test_a_checkpoint_of_release_3_with_its_levels_turned_round_keeps_its_official_boxes() -> None:
    """The official numbers of v3.1 stay right when only `anchors`, which its forward does not read, is turned round."""
    path = require(GENERATED / "v3.1-yolov5s.pt")
    found = read_checkpoint(path)
    layers = found.module.children["model"]
    assert layers is not None
    last = list(layers.children)[-1]
    head = layers.children[last]
    assert head is not None
    pixels = head.buffers["anchor_grid"].float64().reshape(3, 3, 2)  # type: ignore[union-attr]
    opposite = np.array([32, 16, 8])[:, None, None]
    turned = replace(head, buffers=MappingProxyType({**head.buffers, "anchors": tensor(pixels / opposite, "float16")}))
    model = replace(layers, children=MappingProxyType({**layers.children, last: turned}))
    hand = replace(found, module=replace(found.module, children=MappingProxyType({"model": model})))
    want = np.load(path.with_suffix(".npz"))["pred"]
    x = np.random.default_rng(7).random((2, 3, 128, 192), dtype=np.float32)
    session = ort.InferenceSession(graph_bytes(build_graph(hand, GraphConfig((128, 192), 2))))
    (raw,) = session.run(None, {"images": x})
    size = np.abs(want[..., [2, 3, 2, 3]])
    assert (np.abs(raw[..., :4] - want[..., :4]) <= 1e-3 * size + 0.01).all()


def test_rounding_of_one_table_is_no_contradiction() -> None:
    anchors, pixels = as_trained((8, 16, 32))
    fitted = pixels * 1.004
    np.testing.assert_allclose(anchors_of(detector((8, 16, 32), anchors, fitted)), fitted, rtol=1e-6)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pixels: pixels * 0,
        lambda pixels: pixels * 2,
        lambda pixels: pixels[[1, 0, 2]],
        lambda pixels: pixels[:, ::-1],
        lambda pixels: np.concatenate([pixels[:2], pixels[2:] * 1.05]),
    ],
    ids=["zero", "twice", "two levels swapped", "anchors turned round", "one level fitted again"],
)
@pytest.mark.parametrize("order", [(8, 16, 32), (32, 16, 8)])
def test_tables_that_no_release_explains_are_refused(order: tuple[int, ...], spoil: Any) -> None:
    anchors, pixels = as_trained(order)
    message = refusal(detector(order, anchors, spoil(pixels)))
    assert "model.4 (models.yolo.Detect): 'anchors' and 'anchor_grid' contradict each other" in message
    assert "pixels" in message


def test_a_table_of_another_shape_is_refused() -> None:
    anchors, pixels = as_trained((8, 16, 32))
    assert "'anchor_grid' has the wrong shape" in refusal(detector((8, 16, 32), anchors, pixels, shape=(3, 3, 2)))


@pytest.mark.parametrize("value", [0.0, -1.25])
@pytest.mark.parametrize("buffered", [True, False])
def test_an_anchor_of_no_size_is_refused(value: float, buffered: bool) -> None:
    anchors, pixels = as_trained((8, 16, 32))
    anchors[1, 2, 0], pixels[1, 2, 0] = value, value * 16
    message = refusal(detector((8, 16, 32), anchors, pixels if buffered else None))
    assert "has anchors of no size" in message
    assert f"{value * 16:g}x119" in message


def test_anchors_that_are_all_zero_are_refused() -> None:
    assert "has anchors of no size" in refusal(detector((8, 16, 32), PIXELS * 0, None))
    assert "has anchors of no size" in refusal(detector((8, 16, 32), PIXELS * 0, PIXELS * 0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("table", ["anchors", "anchor_grid"])
def test_anchors_that_are_not_finite_are_refused(value: float, table: str) -> None:
    anchors, pixels = as_trained((8, 16, 32))
    (anchors if table == "anchors" else pixels)[0, 0, 0] = value
    assert f"'{table}' holds values that are not finite" in refusal(detector((8, 16, 32), anchors, pixels))


def test_anchors_that_await_their_fit_are_computed_with_as_every_release_does() -> None:
    """An architecture that gives a count in place of anchors has 0, 1, 2, … pixels until they are fitted."""
    waiting = np.tile(np.arange(6.0).reshape(3, 2), (3, 1, 1))
    found = anchors_of(detector((8, 16, 32), waiting / np.array([8, 16, 32])[:, None, None], None))
    np.testing.assert_array_equal(found, waiting)
