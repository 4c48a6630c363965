"""Graphs as exporters of other projects write them, which give the same numbers for every image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from helpers.models import model
from yoloship.tasks.foreign import cells_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import onnx

HW = (64, 96)
STRIDES = (8, 16, 32)
CELLS, SCALES = cells_of(STRIDES, HW)


def channel_rows(further: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float32]:
    """(1, 7 + E, N) with one cat at the cell 17."""
    rows = np.zeros((1, 7, len(CELLS)), np.float32)
    rows[:, :2], rows[:, 2:4], rows[:, 4:] = ((CELLS + 0.5) * SCALES).T, 2 * SCALES.T, 0.01
    rows[:, 4, 17] = 0.9
    return rows if further is None else np.concatenate([rows, further.astype(np.float32)], axis=1)


def constant_export(
    outputs: Mapping[str, npt.NDArray[np.float32]], metadata: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """Gives these numbers for every image."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        *(helper.make_node("Add", [f"{name}.rows", "nothing"], [name]) for name in outputs),
    ]
    made = model(
        nodes,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *HW])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in outputs.items()],
        {"zero": np.array(0, np.float32), **{f"{name}.rows": array for name, array in outputs.items()}},
    )
    for key, value in (metadata or {}).items():
        made.metadata_props.add(key=key, value=value)
    return made


def yolox_export() -> onnx.ModelProto:
    rows = np.random.default_rng(0).normal(0, 0.3, (1, len(CELLS), 8)).astype(np.float32)
    rows[..., 4:] = 0.01
    rows[0, 17] = (0.5, 0.25, np.log(2), np.log(3), 0.9, 0.0, 1.0, 0.0)
    return constant_export({"output": rows})


def detr_export() -> onnx.ModelProto:
    """Two boxes in the size that is asked for; the image has no part in them."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Concat", ["orig_target_sizes", "orig_target_sizes"], ["twice"], axis=1),
        helper.make_node("Cast", ["twice"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["parts", "floats"], ["placed"]),
        helper.make_node("Add", ["placed", "nothing"], ["boxes"]),
        helper.make_node("Identity", ["ids"], ["labels"]),
        helper.make_node("Add", ["found", "nothing"], ["scores"]),
    ]
    return model(
        nodes,
        [
            helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *HW]),
            helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 2]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 2, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2]),
        ],
        {
            "zero": np.array(0, np.float32), "ids": np.array([[1, 0]]), "found": np.array([[0.9, 0.1]], np.float32),
            "parts": np.array([[[0.25, 0.5, 0.5, 1], [0, 0, 0.1, 0.1]]], np.float32),
        },
    )  # fmt: skip
