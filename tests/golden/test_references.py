"""Every generated detection checkpoint against what the official code computes from it, in every form of the graph.

Each checkpoint meets every shape of input, both its forms, and every output, though not all of them together.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from helpers.shared import GENERATED, listed, require
from yoloship.checkpoint import read_checkpoint
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.checkpoint import Checkpoint
    from yoloship.model import InputForm, ModelInfo

    Floats = npt.NDArray[np.float32]

OTHERS = ("-seg", "-cls", "refuse-")
CHECKPOINTS = [path for path in listed(GENERATED, "*.pt") if not any(word in path.stem for word in OTHERS)]
COARSEST_FIRST = {"v1.0-yolov5s"}
"""Files whose head has its coarsest level first; decoded forms keep that order, as the official code does."""
HW = (128, 192)
SHAPES: tuple[tuple[tuple[int, int] | None, int | None], ...] = ((HW, 2), (HW, None), (None, 2), (None, None))

each_checkpoint = pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
SHAPE_NAMES = ("fixed", "batch", "size", "batch+size")


def shapes_for(turn: int) -> pytest.MarkDecorator:
    """Every checkpoint with every other shape; the other half comes with another `turn`, which is another output."""
    rows = [
        pytest.param(path, *shape, id=f"{path.stem}-{name}")
        for row, path in enumerate(CHECKPOINTS)
        for column, (shape, name) in enumerate(zip(SHAPES, SHAPE_NAMES, strict=True))
        if (row + column // 2 + turn) % 2 == 0
    ]
    return pytest.mark.parametrize(("path", "input_hw", "batch"), rows)


def input_form_for(path: Path, input_hw: tuple[int, int] | None, batch: int | None, turn: int = 0) -> InputForm:
    """One of the two: every checkpoint, every shape and every output meets both, at half the number of runs."""
    forms: tuple[InputForm, InputForm] = ("float", "image")
    return forms[(CHECKPOINTS.index(path) // 2 + SHAPES.index((input_hw, batch)) + turn) % 2]


@cache
def checkpoint(path: Path) -> Checkpoint:
    return read_checkpoint(require(path))


@cache
def image() -> npt.NDArray[np.uint8]:
    """(2, 128, 192, 3) uint8 BGR."""
    return np.random.default_rng(11).integers(0, 256, (2, *HW, 3), dtype=np.uint8)


def run(model: onnx.ModelProto, *, optimised: bool = False) -> list[Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimised:  # the graph as it is written, and a session that opens sooner
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(graph_bytes(model), options)
    (entry,) = session.get_inputs()
    if entry.type == "tensor(uint8)":
        return list(session.run(None, {entry.name: image()}))
    return list(session.run(None, {entry.name: np.random.default_rng(7).random((2, 3, *HW), dtype=np.float32)}))


@cache
def expected(path: Path, input_form: InputForm) -> Floats:
    """(2, N, 8): the file beside the checkpoint; for images, the float graph on the same image."""
    if input_form == "float":
        found: Floats = np.load(require(path.with_suffix(".npz")))["pred"]
        return found
    model = build_graph(checkpoint(path), GraphConfig(HW, 2))
    session = ort.InferenceSession(graph_bytes(model))
    rgb = np.ascontiguousarray(image()[..., ::-1].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    values: Floats = session.run(None, {"images": rgb})[0]
    return values


def assert_close(found: npt.NDArray[Any], want: Floats) -> None:
    """The tolerances that the checkpoints' README gives."""
    assert found.shape == want.shape
    size = np.abs(want[..., [2, 3, 2, 3]])
    assert (np.abs(found[..., :4] - want[..., :4]) <= 1e-3 * size + 0.01).all()
    assert np.abs(found[..., 4:] - want[..., 4:]).max() <= 1e-4


def decode(heads: Sequence[Floats], info: ModelInfo) -> npt.NDArray[np.float64]:
    """The head's formula in float64, plainly."""
    levels = []
    for values, stride, anchors in zip(heads, info.strides, info.anchors, strict=True):
        batch, _, height, width = values.shape
        cells = values.reshape(batch, len(anchors), -1, height, width).transpose(0, 1, 3, 4, 2).astype(np.float64)
        cells = 1 / (1 + np.exp(-cells))
        y, x = np.mgrid[:height, :width]
        centre = (2 * cells[..., :2] - 0.5 + np.stack([x, y], -1)) * stride
        extent = (2 * cells[..., 2:4]) ** 2 * np.array(anchors)[:, None, None]
        levels.append(np.concatenate([centre, extent, cells[..., 4:]], -1).reshape(batch, -1, cells.shape[-1]))
    return np.concatenate(levels, 1)


def finest_first(path: Path, values: Floats, info: ModelInfo) -> Floats:
    """Rows in the order of the heads."""
    if path.stem not in COARSEST_FIRST:
        return values
    counts = [len(a) * (HW[0] // s) * (HW[1] // s) for s, a in zip(info.strides, info.anchors, strict=True)]
    blocks = np.split(values, np.cumsum(counts[::-1])[:-1], axis=1)
    return np.concatenate(blocks[::-1], axis=1)


def graph(path: Path, *choices: Any) -> onnx.ModelProto:
    return build_graph(checkpoint(path), GraphConfig(*choices))


@shapes_for(turn=0)
def test_raw_output_is_the_official_one(path: Path, input_hw: tuple[int, int] | None, batch: int | None) -> None:
    input_form = input_form_for(path, input_hw, batch)
    (found,) = run(graph(path, input_hw, batch, input_form, "raw"))
    assert_close(found, expected(path, input_form))


@shapes_for(turn=1)
def test_heads_decode_to_the_official_output(path: Path, input_hw: tuple[int, int] | None, batch: int | None) -> None:
    input_form = input_form_for(path, input_hw, batch, turn=1)
    config = GraphConfig(input_hw, batch, input_form, "heads")
    heads = run(build_graph(checkpoint(path), config))
    info = model_info(checkpoint(path), config)
    assert_close(decode(heads, info), finest_first(path, expected(path, input_form), info))


@shapes_for(turn=0)
def test_compact_output_is_the_official_one_with_the_best_class(
    path: Path, input_hw: tuple[int, int] | None, batch: int | None
) -> None:
    input_form = input_form_for(path, input_hw, batch)
    want = expected(path, input_form)
    boxes, scores, class_ids = run(graph(path, input_hw, batch, input_form, "compact"))
    assert (boxes.dtype, scores.dtype, class_ids.dtype) == (np.float32, np.float32, np.int32)
    centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    chosen = np.take_along_axis(want[..., 5:], class_ids[..., None].astype(np.int64), -1)[..., 0]
    assert_close(
        np.concatenate([centre, size, scores[..., None]], -1),
        np.concatenate([want[..., :4], want[..., 4:5] * want[..., 5:].max(-1, keepdims=True)], -1),
    )
    assert (want[..., 5:].max(-1) - chosen).max() <= 1e-4


@each_checkpoint
def test_optimised_by_the_runtime_it_still_is(path: Path) -> None:
    (found,) = run(graph(path, HW, 2), optimised=True)
    assert_close(found, expected(path, "float"))


@shapes_for(turn=1)
def test_the_checker_passes_with_full_and_strict_shape_inference(
    path: Path, input_hw: tuple[int, int] | None, batch: int | None
) -> None:
    input_form = input_form_for(path, input_hw, batch)
    model = graph(path, input_hw, batch, input_form, "raw" if input_form == "float" else "compact")
    onnx.checker.check_model(model, full_check=True)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    if input_hw is not None:
        assert shapes(inferred) == shapes(model)


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """Of all values in between and of the outputs; every extent known, or dynamic whatever inference calls it."""
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else "open" for dim in value.type.tensor_type.shape.dim
        )
        for value in (*model.graph.value_info, *model.graph.output)
    }


def test_every_checkpoint_meets_every_shape_every_input_and_every_output_and_so_do_those_each_other() -> None:
    met = {
        (path, (input_hw, batch), input_form_for(path, input_hw, batch, turn), output)
        for turn, output in ((0, "raw"), (1, "heads"), (0, "compact"))
        for path, input_hw, batch in (row.values for row in shapes_for(turn).args[1])
    }
    for one, other in combinations(range(4), 2):
        choices = product({row[one] for row in met}, {row[other] for row in met})
        assert {(row[one], row[other]) for row in met} == set(choices)
    assert len({row[0] for row in met}) == len(CHECKPOINTS)
