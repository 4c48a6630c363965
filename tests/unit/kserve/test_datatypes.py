"""Each datatype as a type of NumPy, and as bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from yoloship._util.bfloat16 import BFLOAT16, to_float32
from yoloship.kserve.datatypes import BYTES, NUMPY_TYPES, canonical, datatype_of, from_bytes, objects, to_bytes
from yoloship.kserve.failures import ProtocolError

SIZES = {"BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8}
SIZES |= {"FP16": 2, "FP32": 4, "FP64": 8, "BF16": 2}


def test_the_datatypes_are_those_of_the_protocol_with_its_sizes() -> None:
    assert {name: dtype.itemsize for name, dtype in NUMPY_TYPES.items() if name != BYTES} == SIZES


@pytest.mark.parametrize("datatype", NUMPY_TYPES)
def test_each_type_of_numpy_is_found_again(datatype: str) -> None:
    assert datatype_of(NUMPY_TYPES[datatype]) == datatype


@pytest.mark.parametrize(("dtype", "datatype"), [(">f4", "FP32"), (">i8", "INT64"), ("S3", BYTES), ("U3", BYTES)])
def test_other_byte_orders_and_texts_have_a_datatype_too(dtype: str, datatype: str) -> None:
    assert datatype_of(np.dtype(dtype)) == datatype


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "m8[s]"])
def test_a_type_that_the_protocol_does_not_have_is_refused_by_name(dtype: str) -> None:
    with pytest.raises(ProtocolError, match=rf"got {np.dtype(dtype).name[:8]}"):
        datatype_of(np.dtype(dtype))


def test_big_endian_and_strided_arrays_become_little_endian_rows() -> None:
    given = np.arange(12, dtype=">i4").reshape(3, 4).T
    made = canonical(given, "INT32", "x")
    assert made.flags.c_contiguous
    assert bytes(to_bytes(made, "INT32")) == struct.pack("<12i", 0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11)


def test_an_array_that_is_as_it_should_be_is_not_copied() -> None:
    given = np.ones((2, 3), np.float32)
    assert canonical(given, "FP32", "x") is given
    assert np.shares_memory(np.frombuffer(to_bytes(given, "FP32"), np.float32), given)


def test_a_bfloat16_is_its_two_bytes() -> None:
    array = from_bytes(memoryview(b"\x80\x3f\x20\xc0"), "BF16", (2,), "x")
    assert array.dtype == BFLOAT16
    assert to_float32(array).tolist() == [1.0, -2.5]
    assert bytes(to_bytes(array, "BF16")) == b"\x80\x3f\x20\xc0"


def test_a_bfloat16_of_ml_dtypes_is_taken() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    given = np.array([[1.0, -2.5]]).astype(bfloat16)
    made = canonical(given, datatype_of(given.dtype), "x")
    assert made.shape == (1, 2)
    assert to_float32(made).tolist() == [[1.0, -2.5]]


def test_texts_and_bytes_have_their_length_in_front() -> None:
    made = canonical(np.array(["é", b"\x00a"], object), BYTES, "x")
    assert to_bytes(made, BYTES) == b"\x02\x00\x00\x00\xc3\xa9\x02\x00\x00\x00\x00a"
    assert from_bytes(memoryview(to_bytes(made, BYTES)), BYTES, (2,), "x").tolist() == ["é".encode(), b"\x00a"]


@pytest.mark.parametrize(("element", "words"), [(5, "got int"), ("\ud800", "surrogate")])
def test_an_element_that_is_not_text_is_refused(element: object, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        canonical(np.array([element], object), BYTES, "x")


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "words"),
    [
        (b"\0" * 7, "FP32", (2,), r"x: the bytes of the tensor are not those of FP32\[2\]: expected 8 bytes, got 7"),
        (b"\0" * 9, "FP32", (2,), "expected 8 bytes, got 9"),
        (b"", "FP32", (), "expected 4 bytes, got 0"),
        (b"\0\2", "BOOL", (2,), "neither false nor true"),
        (b"\1\0\0\0", BYTES, (1,), "element 0 is cut short: expected 1 bytes, got 0"),
        (b"\xff\xff\xff\xffa", BYTES, (1,), "expected 4294967295 bytes, got 1"),
        (b"\0\0\0", BYTES, (1,), "expected 1 elements, got 0, and 3 bytes after them"),
        (b"\0\0\0\0", BYTES, (2,), "expected 2 elements, got 1, and 0 bytes after them"),
        (b"\0\0\0\0\0", BYTES, (1,), "got 1, and 1 bytes after them"),
        (b"", BYTES, (1,), "expected 1 elements, got 0"),
    ],
)
def test_bytes_of_another_length_are_refused(data: bytes, datatype: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        from_bytes(memoryview(data), datatype, shape, "x")


@pytest.mark.parametrize("datatype", NUMPY_TYPES)
def test_a_tensor_of_no_elements_has_no_bytes(datatype: str) -> None:
    array = from_bytes(memoryview(b""), datatype, (0, 4), "x")
    assert (array.shape, array.dtype) == ((0, 4), NUMPY_TYPES[datatype])
    assert not to_bytes(array, datatype)


def test_tensors_are_read_only_and_aligned_wherever_they_lie_in_the_body() -> None:
    body = b"x" + struct.pack("<3d", 1, 2, 3)
    array = from_bytes(memoryview(body)[1:], "FP64", (3,), "x")
    assert array.flags.aligned
    assert not array.flags.writeable
    assert array.tolist() == [1, 2, 3]
    assert not from_bytes(memoryview(b"\0\0\0\0"), BYTES, (1,), "x").flags.writeable


def test_objects_of_equal_length_stay_one_element_each() -> None:
    assert objects([b"ab", b"cd"], (1, 2)).tolist() == [[b"ab", b"cd"]]
