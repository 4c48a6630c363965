from __future__ import annotations

import zlib
from types import MappingProxyType

import numpy as np
import pytest

from helpers.modules import Maker, around, module, sequential
from yoloship.checkpoint.records import LazyStorage, PlainPiece, Tensor, check_crc
from yoloship.errors import CheckpointError, InputError

DATA = np.arange(12, dtype=np.float32)


def storage(*, crc: int | None = None, data: bytes = DATA.tobytes()) -> LazyStorage:
    piece = PlainPiece(b"head" * 4 + data, 16, len(data), crc=crc, subject="best.pt: data/0")
    return LazyStorage("float32", len(data) // 4, piece, subject="best.pt: data/0")


def test_elements_are_a_view_of_the_file_that_nobody_can_write_to() -> None:
    elements = storage().elements()
    np.testing.assert_array_equal(elements, DATA)
    assert not elements.flags.writeable
    assert not elements.flags.owndata


def test_a_damaged_piece_is_refused_by_name_with_both_checksums() -> None:
    right = zlib.crc32(DATA.tobytes())
    assert len(storage(crc=right).elements()) == 12
    with pytest.raises(CheckpointError, match=rf"best\.pt: data/0: bytes are damaged: expected CRC-32 {right ^ 1:08x}"):
        storage(crc=right ^ 1).elements()
    with pytest.raises(CheckpointError, match=f"got {right:08x}"):
        check_crc(memoryview(DATA.tobytes()), 0, "x")


def test_a_storage_that_the_file_lacks_is_refused_unless_it_is_empty() -> None:
    assert LazyStorage("float32", 0, None, subject="x").elements().shape == (0,)
    with pytest.raises(CheckpointError, match="x: the file does not hold this storage"):
        LazyStorage("float32", 3, None, subject="x").elements()


def test_the_same_bytes_as_another_type_leave_out_what_fills_no_element() -> None:
    retyped = storage(data=DATA[:3].tobytes()).retyped("float64")
    assert (retyped.dtype, retyped.length) == ("float64", 1)
    np.testing.assert_array_equal(retyped.elements(), DATA[:2].view(np.float64))


def test_a_tensor_lies_in_its_storage_by_offset_and_strides() -> None:
    tensor = Tensor(storage(), 2, (2, 3), (1, 4))
    assert (tensor.dtype, tensor.size) == ("float32", 6)
    np.testing.assert_array_equal(tensor.numpy(), [[2, 6, 10], [3, 7, 11]])
    wide = tensor.float64()
    assert wide.dtype == np.float64
    wide[:] = 0  # the caller's own
    np.testing.assert_array_equal(tensor.numpy()[0], [2, 6, 10])


def test_a_tree_is_walked_from_the_root_with_the_place_of_each() -> None:
    conv = Maker().conv2d(2, 3)
    tree = module("models.Root", model=sequential(conv, conv))
    assert [place for place, _ in tree.walk()] == ["", "model", "model.0", "model.1"]
    assert tree.class_name == "Root"
    assert tree.parameter_count() == sum(t.size for t in conv.parameters.values() if t is not None)


def test_class_names_have_to_be_as_many_as_the_classes() -> None:
    made = around(Maker().conv(8, 8), 8, 8)
    count = len(made.class_names)
    assert made.names_for(count) == made.class_names
    with pytest.raises(CheckpointError, match=f"has {count} class names for 7 classes; give the names of its 7"):
        made.names_for(7)
    named = made.with_class_names([f"c{index}" for index in range(7)])
    assert named.names_for(7)[6] == "c6"
    with pytest.raises(InputError):
        made.with_class_names(["a", ""] if count else [""])


def test_a_checkpoint_cannot_be_changed() -> None:
    made = around(Maker().conv(8, 8), 8, 8)
    assert isinstance(made.aliases, MappingProxyType)
    with pytest.raises(AttributeError):
        made.task = "classify"  # type: ignore[misc]
