"""A stand-in for NVIDIA's library nvJPEG, whose pixels come from simplejpeg. Device memory must be the host's."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simplejpeg

from helpers.kept import kept
from helpers.shared import IN_CI
from yoloship.cuda.jpeg_check import scan_header

if TYPE_CHECKING:
    from collections.abc import Sequence

_SOURCE = Path(__file__).with_name("stand_in_nvjpeg.cpp")
_NAME = "libnvjpeg.so.13"
_DECODER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t)
_REFUSED = 4  # NVJPEG_STATUS_JPEG_NOT_SUPPORTED


def folder() -> Path:
    """Where the library is, compiled once for all processes."""
    compiler = shutil.which("g++")
    if compiler is None:
        message = "the stand-in for nvJPEG needs g++"
        if IN_CI:
            pytest.fail(f"{message}; CI must have it")
        pytest.skip(message)
    command = [compiler, "-std=c++17", "-O1", "-fPIC", "-shared", f"-Wl,-soname,{_NAME}", os.fspath(_SOURCE), "-o"]

    def build(target: Path) -> None:
        done = subprocess.run([*command, os.fspath(target / _NAME)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return kept("nvjpeg", hashlib.sha256(_SOURCE.read_bytes() + " ".join(command).encode()).hexdigest()[:16], build)


class StandInNvJpeg:
    """The library, loaded into this process.

    Attributes:
        library: Its functions.
        path: Its file.
    """

    def __init__(self) -> None:
        self.path = os.fspath(folder() / _NAME)
        self.library: Any = ctypes.CDLL(self.path)
        self._decoder = _DECODER(_decode)
        self.library.stand_in_set_decoder(self._decoder)
        self.fail(0)

    @property
    def handles(self) -> int:
        """What is open: decoders and their states."""
        return int(self.library.stand_in_handles())

    @property
    def calls(self) -> int:
        """How many batches it was given."""
        return int(self.library.stand_in_calls())

    def fail(self, status: int) -> None:
        """Refuse every batch from now on with a status; 0 stops that."""
        self.library.stand_in_fail(status)


def install_if_on_the_path() -> StandInNvJpeg | None:
    """Set the decoder if the loader of this process finds the stand-in in place of nvJPEG."""
    paths: Sequence[str] = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return (
        StandInNvJpeg()
        if any(Path(path, _NAME).samefile(folder() / _NAME) for path in paths if Path(path, _NAME).exists())
        else None
    )


def _decode(data: int, length: int, pixels: int, pitch: int) -> int:
    file = ctypes.string_at(data, length)
    header = scan_header(file)
    if header is None:
        return _REFUSED
    rows = np.full((header.height, 3 * header.width), 0x77, np.uint8)
    try:
        image = simplejpeg.decode_jpeg(file, "BGR", strict=False)
        rows[:] = image.reshape(header.height, -1)
    except ValueError:
        pass  # the engine says nothing of damage either
    write = ctypes.CDLL("libcuda.so.1").stand_in_write
    write.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    for row in range(header.height):
        write(pixels + row * pitch, rows[row].ctypes.data, rows.shape[1])
    return 0
