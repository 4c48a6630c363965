"""What requests and answers are made of."""

from __future__ import annotations

import numpy as np
import pytest

from yoloship.kserve.failures import ProtocolError
from yoloship.kserve.tensors import InferRequest, Tensor, WantedOutput


def test_a_tensor_of_an_array_has_its_datatype_and_shape() -> None:
    tensor = Tensor.of("x", np.zeros((2, 3), np.uint8))
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", "UINT8", (2, 3))


def test_a_tensor_of_texts_holds_bytes() -> None:
    assert Tensor.of("x", ["a", "é"]).array.tolist() == [b"a", b"\xc3\xa9"]


def test_a_tensor_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no such element type"):
        Tensor.of("x", np.zeros(3, np.complex64))


@pytest.mark.parametrize(
    ("own", "of_all", "binary"),
    [
        ({}, {}, False),
        ({"binary_data": True}, {}, True),
        ({}, {"binary_data_output": True}, True),
        ({"binary_data": False}, {"binary_data_output": True}, False),
    ],
)
def test_how_an_output_is_wanted_follows_from_its_own_parameter_first(
    own: dict[str, bool], of_all: dict[str, bool], binary: bool
) -> None:
    request = InferRequest((), (WantedOutput("y", own),), parameters=of_all)
    assert request.is_binary("y") is binary
    assert request.is_binary("other") is of_all.get("binary_data_output", False)
