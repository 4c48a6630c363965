"""What is refused before the driver is asked; tests/gpu/test_device.py runs the rest, here on the stand-in driver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.cuda import buffers
from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer, download, size_text, upload
from yoloship.errors import InputError

NOBODY: Any = None
"""In place of a device or a stream, which must not be touched."""


@pytest.mark.parametrize("kind", [DeviceBuffer, PinnedBuffer])
@pytest.mark.parametrize("size", [0, -1])
def test_a_buffer_without_bytes_is_refused(kind: Any, size: int) -> None:
    with pytest.raises(InputError, match=f"buffer: cannot be allocated: expected 1 byte or more, got {size}"):
        kind(NOBODY, size)


def test_only_arrays_that_lie_in_one_piece_are_copied() -> None:
    array = np.zeros((4, 6), np.uint8)
    with pytest.raises(InputError, match=r"upload: is not contiguous; pass numpy\.ascontiguousarray\(array\)"):
        upload(NOBODY, 1, array[:, ::2])
    with pytest.raises(InputError, match="download: is not contiguous, or is read-only"):
        download(NOBODY, array.T, 1)
    array.flags.writeable = False
    with pytest.raises(InputError, match="download: is not contiguous, or is read-only"):
        download(NOBODY, array, 1)


def test_sizes_are_told_in_the_unit_that_fits() -> None:
    sizes = {1023: "1023 bytes", 1024: "1.0 KiB (1024 bytes)", 3 << 29: "1.5 GiB (1610612736 bytes)"}
    assert {size: size_text(size) for size in sizes} == sizes


@pytest.mark.parametrize("is_writeable", [True, False])
def test_the_address_of_an_array_is_that_of_its_first_element(is_writeable: bool) -> None:
    whole = np.arange(60, dtype=np.uint16).reshape(5, 4, 3)
    whole.setflags(write=is_writeable)
    for part in (whole, whole[2:], whole[1:1], whole[2:].view(np.uint8)):
        assert buffers._address(part) == part.ctypes.data
