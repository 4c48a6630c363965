"""Tensors as JSON: values stay exact, and what JSON cannot say is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from yoloship.kserve.datatypes import NUMPY_TYPES
from yoloship.kserve.failures import ProtocolError
from yoloship.kserve.json_tensors import from_json, parse, to_json
from yoloship.kserve.tensors import DEFAULT_LIMITS, Limits, Tensor


def test_floats_keep_their_exact_values() -> None:
    array = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    text = json.dumps(to_json(array, "FP32", "x"))
    np.testing.assert_array_equal(from_json(json.loads(text), "FP32", (1000,), "x"), array)


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_elements_are_a_flat_list_or_lists_as_the_shape_says(data: list[Any]) -> None:
    assert from_json(data, "INT8", (2, 3), "x").tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(("data", "shape"), [([], (0, 3)), ([[], []], (2, 0)), ([5], ())])
def test_tensors_of_no_elements_and_of_no_dimensions_are_read(data: list[Any], shape: tuple[int, ...]) -> None:
    assert from_json(data, "FP32", shape, "x").shape == shape


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "words"),
    [
        (5, "FP32", (1,), "x: data is not a list: got int"),
        ("abc", "BYTES", (3,), "data is not a list"),
        ([1], "FP32", (2,), r"expected 2 for \[2\], got 1"),
        ([[1], [2]], "FP32", (2, 2), "do not have the tensor's shape"),
        ([[1, 2], 3], "FP32", (2, 2), "do not have the tensor's shape"),
        ([[1, 2]], "FP32", (2, 2), "do not have the tensor's shape"),
        ([[[1]]], "FP32", (1, 1), "expected numbers, got"),
        ([True], "FP32", (1,), "expected numbers, got True"),
        (["1"], "FP32", (1,), "expected numbers, got '1'"),
        ([None], "FP32", (1,), "expected numbers, got None"),
        ([1.0], "INT32", (1,), "expected whole numbers, got 1.0"),
        ([True], "INT32", (1,), "expected whole numbers, got True"),
        ([1], "BOOL", (1,), "expected true and false, got 1"),
        ([1], "BYTES", (1,), "expected texts, got 1"),
        (["\ud800"], "BYTES", (1,), "surrogate"),
        ([128], "INT8", (1,), "out of range: expected values of INT8"),
        ([-1], "UINT64", (1,), "out of range"),
        ([2**64], "UINT64", (1,), "out of range"),
        ([10**400], "FP64", (1,), "out of range"),
        ([1e39], "FP32", (1,), "out of range"),
        ([float("inf")], "FP64", (1,), "out of range"),
        ([1], "FP16", (1,), "FP16 cannot be expressed in JSON; send it as bytes"),
        ([1], "BF16", (1,), "BF16 cannot be expressed in JSON"),
    ],
)
def test_elements_that_do_not_fit_are_refused(data: Any, datatype: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        from_json(data, datatype, shape, "x")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([np.nan], np.float32), "NaN or infinity"),
        (np.array([-np.inf]), "NaN or infinity"),
        (np.array([1], np.float16), "FP16 cannot be expressed in JSON; ask for it as bytes"),
        (np.array([b"\xff"]), "not UTF-8"),
    ],
)
def test_values_that_json_cannot_say_are_not_written(array: np.ndarray[Any, Any], words: str) -> None:
    tensor = Tensor.of("x", array)
    with pytest.raises(ProtocolError, match=words):
        to_json(tensor.array, tensor.datatype, "x")


@pytest.mark.parametrize("datatype", [one for one in NUMPY_TYPES if one not in {"BYTES", "BF16", "FP16", "BOOL"}])
def test_the_ends_of_each_range_are_kept(datatype: str) -> None:
    dtype = NUMPY_TYPES[datatype]
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    array = np.array([limits.min, limits.max], dtype)
    text = json.dumps(to_json(array, datatype, "x"))
    np.testing.assert_array_equal(from_json(json.loads(text), datatype, (2,), "x"), array)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "the JSON is not valid"),
        (b"{", "the JSON is not valid"),
        (b"[]", "the JSON is not an object: got list"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "Infinity is not JSON"),
        (b'{"a": 1, "a": 2}', "a key appears twice"),
        (b'\xff{"a": 1}', "the JSON is not valid"),
        (b'{"a":' + b"[" * 100_000, "the JSON is not valid"),
        (b'{"a":' + b"9" * 100_000 + b"}", "the JSON is not valid"),
    ],
)
def test_a_document_that_is_not_a_json_object_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        parse(text, DEFAULT_LIMITS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a":[0,0,0]}', "too many numbers: expected at most 1, got 2; send tensors as bytes"),
        (b'{"a":[[[]]]}', "too many lists and objects: expected at most 3, got 4"),
    ],
)
def test_the_json_has_no_more_numbers_and_lists_than_allowed(text: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        parse(text, Limits(json_commas=1, json_brackets=3))
