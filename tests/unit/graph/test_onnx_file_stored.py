from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from yoloship.errors import GraphError
from yoloship.graph.onnx_file import stored_values


def test_bfloat16_comes_widened() -> None:
    tensor = TensorProto(name="w", dims=[2], data_type=TensorProto.BFLOAT16, raw_data=b"\x80\x3f\x00\xc0")
    values = stored_values(tensor)
    assert values.dtype == np.float32
    assert values.tolist() == [1.0, -2.0]


@pytest.mark.parametrize("dims", [[3], [2, 3], []])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_elements_that_do_not_fill_the_shape_are_an_error_of_ours(kind: int, dims: list[int]) -> None:
    tensor = TensorProto(name="w", dims=dims, data_type=kind, raw_data=b"\0" * 16)
    with pytest.raises(GraphError, match="w: a stored tensor is damaged: expected elements for the shape"):
        stored_values(tensor)


def test_an_unknown_element_type_is_an_error_of_ours() -> None:
    with pytest.raises(GraphError, match="a stored tensor is damaged"):
        stored_values(TensorProto(name="w", dims=[1], data_type=77, raw_data=b"\0" * 4))


def test_what_fits_comes_as_it_is() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(stored_values(numpy_helper.from_array(values, "w")), values)
