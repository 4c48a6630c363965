"""Memory of a mapped file is let go of after a tensor was copied, and comes back when it is asked for."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np
import pytest

from yoloship.checkpoint import Tensor
from yoloship.checkpoint.storages import LazyStorage, PlainPiece

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="this system cannot unload a mapping")

OFFSET = 100
"""Where the storage begins in the file; not at a page."""
VALUES = np.random.default_rng(0).random(100_000, np.float32)


class Mapping(mmap.mmap):
    """A mapping that notes what is unloaded."""

    calls: tuple[tuple[int, int, int], ...] = ()

    def madvise(self, option: int, start: int = 0, length: int = 0, /) -> None:
        self.calls = (*self.calls, (option, start, length))
        super().madvise(option, start, length)


def mapped(path: Path, values: np.ndarray) -> Mapping:
    path.write_bytes(bytes(OFFSET) + values.tobytes())
    with path.open("rb") as file:
        return Mapping(file.fileno(), 0, access=mmap.ACCESS_READ)


def tensor(buffer: mmap.mmap | bytes, count: int) -> Tensor:
    piece = PlainPiece(buffer, OFFSET, 4 * count, crc=None, subject="test")
    return Tensor(LazyStorage("float32", count, piece, subject="test"), 0, (count,), (1,))


def test_copying_a_tensor_unloads_its_pages_and_views_stay_right(tmp_path: Path) -> None:
    buffer = mapped(tmp_path / "file", VALUES)
    whole = tensor(buffer, VALUES.size)
    view = whole.numpy()
    np.testing.assert_array_equal(whole.float64(), VALUES.astype(np.float64))
    ((option, start, length),) = buffer.calls
    assert option == mmap.MADV_DONTNEED
    assert start % mmap.PAGESIZE == 0
    assert start <= OFFSET
    assert start + length == OFFSET + VALUES.nbytes
    np.testing.assert_array_equal(view, VALUES)
    np.testing.assert_array_equal(whole.float64(), VALUES.astype(np.float64))


def test_a_small_tensor_is_not_worth_a_call(tmp_path: Path) -> None:
    buffer = mapped(tmp_path / "file", VALUES[:100])
    np.testing.assert_array_equal(tensor(buffer, 100).float64(), VALUES[:100].astype(np.float64))
    assert buffer.calls == ()


def test_bytes_that_were_given_stay_as_they_are() -> None:
    data = bytes(OFFSET) + VALUES.tobytes()
    np.testing.assert_array_equal(tensor(data, VALUES.size).float64(), VALUES.astype(np.float64))
