"""A graph that scales images of 0..255 itself would see black images if it was given 0..1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.models import constant_raw, empty_rows
from yoloship.bounds import read_outline, takes_bytes
from yoloship.errors import SessionError
from yoloship.models.loading import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HW = (64, 64)
node = helper.make_node


def detector(nodes: Sequence[onnx.NodeProto], dtype: int = TensorProto.FLOAT, **constants: Any) -> onnx.ModelProto:
    """A detector behind these nodes, which take `images` and give `scaled`."""
    made = constant_raw(empty_rows(HW), HW, {})
    for one in made.graph.node:
        one.input[:] = ["scaled" if name == "images" else name for name in one.input]
    rest = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend([*nodes, *rest])
    made.graph.input[0].type.tensor_type.elem_type = dtype
    for name, value in constants.items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    return made


def outline(made: onnx.ModelProto) -> Any:
    return read_outline(made.SerializeToString(), "x.onnx")


CAST = node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT)
MEAN, DEVIATION = np.array([123.7, 116.3, 103.5]).reshape(3, 1, 1), np.array([58.4, 57.1, 57.4]).reshape(3, 1, 1)


@pytest.mark.parametrize(
    "made",
    [
        detector([node("Div", ["images", "k"], ["scaled"])], k=255),
        detector([node("Mul", ["images", "k"], ["scaled"])], k=1 / 255),
        detector([node("Mul", ["k", "images"], ["scaled"])], k=1 / 255),
        detector([CAST, node("Div", ["cast", "k"], ["scaled"])], TensorProto.FLOAT16, k=[255]),
        detector([node("Div", ["cast", "k"], ["scaled"]), CAST], k=[255]),
        detector(
            [node("Sub", ["images", "m"], ["moved"]), node("Div", ["moved", "d"], ["scaled"])], m=MEAN, d=DEVIATION
        ),
        detector([node("Constant", [], ["k"], value_float=255.0), node("Div", ["images", "k"], ["scaled"])]),
    ],
)
def test_a_scale_or_a_mean_of_bytes_is_seen(made: onnx.ModelProto, tmp_path: Path) -> None:
    assert takes_bytes(outline(made))
    path = tmp_path / "x.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(SessionError, match=r"scales images of 0\.\.255 itself; export it for images of 0\.\.1"):
        load(path, device="cpu")


@pytest.mark.parametrize(
    "made",
    [
        detector([node("Identity", ["images"], ["scaled"])]),
        detector([node("Mul", ["images", "k"], ["scaled"])], k=255),
        detector([node("Mul", ["images", "k"], ["scaled"])], k=0),
        detector([node("Div", ["k", "images"], ["scaled"])], k=255),
        detector([node("Sub", ["images", "m"], ["moved"]), node("Div", ["moved", "d"], ["scaled"])], m=0.45, d=0.22),
        detector(
            [
                node("Mul", ["images", "k"], ["bytes"]), node("Sub", ["bytes", "m"], ["moved"]),
                node("Div", ["moved", "d"], ["scaled"]),
            ],
            k=255, m=MEAN, d=DEVIATION,
        ),
        detector([node("Div", ["images", "images"], ["scaled"])]),
        detector([CAST, node("Div", ["cast", "k"], ["scaled"])], TensorProto.UINT8, k=255),  # its type says it
    ],
)  # fmt: skip
def test_other_arithmetic_is_not(made: onnx.ModelProto) -> None:
    assert not takes_bytes(outline(made))
