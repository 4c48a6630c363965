from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.models import scale_and_shift
from yoloship.bounds import read_outline
from yoloship.bounds.outline import MAX_KNOWN, Extent, Unknown, broadcast, evaluate, known, stored, stored_bytes
from yoloship.errors import SessionError


def test_an_outline_says_what_the_whole_message_says() -> None:
    model = scale_and_shift()
    outline = read_outline(model.SerializeToString(), "x.onnx")
    assert [node.op_type for node in outline.graph.node] == [node.op_type for node in model.graph.node]
    assert [list(node.input) for node in outline.graph.node] == [list(node.input) for node in model.graph.node]
    assert [value.name for value in outline.graph.input] == [value.name for value in model.graph.input]
    for mine, theirs in zip(outline.graph.initializer, model.graph.initializer, strict=True):
        assert (mine.name, list(mine.dims), mine.data_type) == (theirs.name, list(theirs.dims), theirs.data_type)


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_bytes_that_were_cut_are_refused(kept: int) -> None:
    with pytest.raises(SessionError, match=r"x\.onnx: is not a valid ONNX file: it is damaged or truncated"):
        read_outline(scale_and_shift().SerializeToString()[:kept], "x.onnx")


def test_a_name_that_is_not_text_is_refused() -> None:
    data = scale_and_shift().SerializeToString()
    name = scale_and_shift().graph.input[0].name.encode()
    with pytest.raises(SessionError, match="a name in it is not text"):
        read_outline(data.replace(name, b"\xff" * len(name)), "x.onnx")


@pytest.mark.parametrize("as_raw", [True, False])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.int32, np.float64])
def test_a_small_stored_tensor_is_known(dtype: Any, as_raw: bool) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    tensor = numpy_helper.from_array(array, "x")
    if not as_raw:
        tensor = helper.make_tensor("x", tensor.data_type, array.shape, array.ravel().tolist())
    extent = stored(tensor)
    assert (extent.shape, extent.constant, extent.exact) == ((2, 3), True, True)
    assert extent.values is not None
    np.testing.assert_array_equal(extent.values, array)
    assert stored_bytes(tensor) == array.nbytes


def test_what_a_tensor_claims_is_not_what_it_holds() -> None:
    claims = TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[1 << 20, 1 << 10])
    extent = stored(claims)
    assert (extent.elements, extent.nbytes, extent.values) == (1 << 30, 1 << 32, None)
    assert stored_bytes(claims) == 0


@pytest.mark.parametrize("dims", [[-1], [1 << 62], [1] * 99])
def test_a_shape_that_cannot_be_is_unknown(dims: list[int]) -> None:
    with pytest.raises(Unknown):
        stored(TensorProto(name="x", data_type=TensorProto.FLOAT, dims=dims))


def test_only_short_contents_are_kept() -> None:
    assert known(np.zeros(MAX_KNOWN), onnx.TensorProto.DOUBLE).values is not None
    assert known(np.zeros(MAX_KNOWN + 1), onnx.TensorProto.DOUBLE).values is None


def test_shapes_that_broadcast_are_joined_to_the_largest_extents() -> None:
    assert broadcast(Extent((2, 1, 3)), Extent((4, 1)), Extent(())) == (2, 4, 3)


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("Add", ([1, 2], [3, 4]), [4, 6]),
        ("Div", ([7, -7], [2, 2]), [3, -3]),  # towards zero, as ONNX Runtime divides integers
        ("Slice", ([0, 1, 2, 3], [1], [3]), [1, 2]),
        ("Unsqueeze", ([5, 6], [0]), [[5, 6]]),
        ("Squeeze", ([[5, 6]], [0]), [5, 6]),
    ],
)
def test_small_integers_are_computed_like_a_runtime_does(operator: str, values: Any, expected: Any) -> None:
    found = evaluate(operator, {}, [np.array(value, np.int64) for value in values])
    assert found is not None
    assert found.tolist() == expected


def test_an_operator_that_is_not_known_is_not_computed() -> None:
    assert evaluate("NonZero", {}, [np.array([1])]) is None
