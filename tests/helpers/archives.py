"""Archives that no usual program writes, made byte by byte."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Final

import cv2
import numpy as np


def png(level: int = 0) -> bytes:
    """A small image of one grey level."""
    return bytes(cv2.imencode(".png", np.full((8, 9, 3), level, np.uint8))[1])


def zip_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive as Python writes it."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return written.getvalue()


class _OneWay(io.RawIOBase):
    """A stream that cannot go back, so that sizes come after the data."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)


def streamed_zip_of(members: Mapping[str, bytes]) -> bytes:
    """A zip archive whose headers do not say the sizes: they follow the data."""
    stream = _OneWay()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return bytes(stream.data)


def encrypted(archive: bytes) -> bytes:
    """The same zip archive with the mark of encryption on every entry."""
    data = bytearray(archive)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + at] |= 1
            place = data.find(signature, place + 4)
    return bytes(data)


def tar_of(members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive as Python writes it."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return written.getvalue()


def tar_header(name: bytes, size: int | bytes, kind: bytes = b"0") -> bytes:
    """A header of an entry, with the right checksum whatever it says."""
    number = size if isinstance(size, bytes) else b"%011o\0" % size
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" * 3 + number + b"00000000000\0" + b" " * 8 + kind)
    block += b"\0" * 100 + b"ustar\x0000"
    block += b"\0" * (512 - len(block))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Data up to the next block of a tar archive."""
    return data + b"\0" * (-len(data) % 512)


PACK: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}
"""Suffix of a packed tar archive → packs it."""
