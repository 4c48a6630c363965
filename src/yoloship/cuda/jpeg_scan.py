"""The header of a JPEG whose entropy-coded data the GPU can check and decode: sequential, Huffman, 8 bits, one scan.

Everything unusual gives no header, so that the host's decoder reads the file and judges it: other processes, several
scans, colours that are not Y or YCbCr, other samplings than 4:2:0, 4:2:2 and 4:4:4, unusual markers, tables or
profiles that libjpeg remarks on, and what is stated twice and differs, of which decoders may take either.

Sources: ITU-T T.81, annex B. JFIF 1.02. ICC.1:2022, annex B.4. Adobe technical note 5116.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from yoloship.images.jpeg import REMEMBERED_BYTES, jpeg_head, jpeg_segments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yoloship.images.jpeg import Head, Segment

TABLE_BYTES: Final = 16 + 256
"""A Huffman table: how many codes there are of each length from 1 to 16, then their values, then zeros."""
_NO_TABLE: Final = bytes(TABLE_BYTES)
_MAX_SIDE: Final = 65_500
"""libjpeg's limit."""
_MAX_BLOCKS: Final = 1 << 20
"""Of a component: so many differences of 11 bits cannot overflow libjpeg's sum of them."""
MAX_SCAN_BYTES: Final = 64 << 20
"""More than any image of `_MAX_BLOCKS` should take."""

_FRAMES: Final = frozenset({0xC0, 0xC1})
_TABLES: Final = 0xC4
_SCAN: Final = 0xDA
_QUANTIZATION: Final = 0xDB
_RESTART: Final = 0xDD
_NOTES: Final = frozenset({*range(0xE0, 0xF0), 0xFE})
_PROFILE: Final = b"ICC_PROFILE\0"
_PATTERNS: Final = MappingProxyType(
    {  # by components and sampling of Y: blocks of an MCU, and which of them are Cb or Cr
        b"\x11": (1, 0, 0),
        b"\x11\x11\x11": (3, 0b010, 0b100),
        b"\x21\x11\x11": (4, 0b0100, 0b1000),
        b"\x22\x11\x11": (6, 0b010000, 0b100000),
    }
)


class ScanHeader(NamedTuple):
    """What a reader of the entropy-coded data has to know.

    Attributes:
        data_at: The first byte of entropy-coded data.
        data_bytes: From there to the end of the file.
        width: In pixels as they are stored.
        height: Likewise.
        components: 1 (Y) or 3 (YCbCr).
        sampling: (horizontal, vertical) of Y if those of Cb and Cr are (1, 1).
        mcus: How many MCUs the image has.
        mcu_blocks: Blocks of each MCU.
        restart_mcus: MCUs between restart markers; 0 if there are none.
        dc_tables: Bit i tells whether block i of an MCU uses the second DC table.
        ac_tables: Likewise.
        tables: DC 0, DC 1, AC 0 and AC 1, `TABLE_BYTES` each.
    """

    data_at: int
    data_bytes: int
    width: int
    height: int
    components: int
    sampling: tuple[int, int]
    mcus: int
    mcu_blocks: int
    restart_mcus: int
    dc_tables: int
    ac_tables: int
    tables: bytes


_Description: TypeAlias = "tuple[int, int, int, tuple[int, int], int, int, int, int, int, bytes]"
"""A `ScanHeader` without where the data is."""
_Note: TypeAlias = "tuple[int, bytes]"
"""The marker of application data, and how it begins."""


class _UnusualError(Exception):
    """The host has to read the file."""


def scan_header(data: bytes | memoryview, head: Head | None = None) -> ScanHeader | None:
    """Read the header of a JPEG up to its entropy-coded data.

    Args:
        data: The whole file.
        head: What `jpeg_head` gives for it; None lets it be read here.

    Returns:
        None if the file must not be decoded by the GPU.
    """
    view = data if isinstance(data, bytes) else memoryview(data).cast("B")
    head = head or jpeg_head(view)
    if head is None or view[:2] != b"\xff\xd8":
        return None
    try:
        return _read(view, head)
    except (struct.error, IndexError, _UnusualError):  # the first two if a segment is cut short
        return None


def _read(data: bytes | memoryview, head: Head) -> ScanHeader:
    notes, coding, at = head
    described, more = (_described if len(coding) <= REMEMBERED_BYTES else _described.__wrapped__)(coding)
    size = len(data) - at
    if not 1 <= size <= MAX_SCAN_BYTES:
        raise _UnusualError
    noted = _noted(data, notes)
    if noted or more:
        _check_notes([*noted, *more], described[2])
    return ScanHeader(at, size, *described)


def _noted(data: bytes | memoryview, notes: Iterable[Segment]) -> list[_Note]:
    """What application data says about colours: the beginnings of Adobe segments and of the parts of a profile."""
    found = []
    for marker, _, body, end in notes:
        if marker == 0xE0:
            if end - body >= 14 and data[body : body + 5] == b"JFIF\0" and data[body + 5] != 1:
                raise _UnusualError
        elif (marker == 0xEE and data[body : body + 5] == b"Adobe") or (
            marker == 0xE2 and data[body : body + 12] == _PROFILE and end - body >= 14
        ):
            found.append((marker, bytes(data[body : min(end, body + 14)])))
    return found


def _check_notes(noted: list[_Note], components: int) -> None:
    """Refuse another colour transform than the usual one, and a profile that lacks a part."""
    profile = []
    for marker, body in noted:
        if marker == 0xE2:
            profile.append(body[12:14])
        elif len(body) < 12 or body[11] != (1 if components == 3 else 0):
            raise _UnusualError
    count = len(profile)
    if any(part[1] != count for part in profile) or sorted(part[0] for part in profile) != list(range(1, count + 1)):
        raise _UnusualError


class _Found(NamedTuple):
    """What the segments before the scan define."""

    quantized: dict[int, bytes]
    tables: dict[int, bytes]
    restart_mcus: int = 0


@lru_cache(maxsize=256)
def _described(coding: bytes) -> tuple[_Description, tuple[_Note, ...]]:
    """What the segments of a `Head` say, and the notes among them. A camera writes the same into all of its files."""
    data = b"\xff\xd8" + coding
    frame: bytes | None = None
    restarts: set[int] = set()
    quantized: dict[int, bytes] = {}
    tables: dict[int, bytes] = {}
    notes: list[Segment] = []
    scan = b""
    for segment in jpeg_segments(data):
        marker, _, at, end = segment
        body = data[at:end]
        if marker == _QUANTIZATION:
            _define(quantized, _quantized(body))
        elif marker == _TABLES:
            _define(tables, _huffman(body))
        elif marker == _RESTART:
            if len(body) != 2:
                raise _UnusualError
            restarts.add(body[0] << 8 | body[1])
        elif marker in _NOTES:
            notes.append(segment)
        elif marker in _FRAMES:
            if frame is not None:
                raise _UnusualError
            frame = body
        else:
            scan = body
    if frame is None or len(restarts) > 1:
        raise _UnusualError
    return _scan_of(frame, scan, _Found(quantized, tables, *restarts)), tuple(_noted(data, notes))


def _scan_of(frame: bytes, scan: bytes, found: _Found) -> _Description:
    precision, height, width, components = _FRAME.unpack_from(frame)
    ids = bytes(range(1, components + 1)) if len(frame) == 15 else frame[6:7]
    pattern = _PATTERNS.get(frame[7::3])
    if (
        precision != 8
        or pattern is None
        or len(frame) != 6 + 3 * components
        or not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE)
        or frame[6::3] != ids
        or not found.quantized.keys() >= set(frame[8::3])
        or len(scan) != 4 + 2 * components
        or scan[0] != components
        or scan[1:-3:2] != ids
        or scan[-3:] != b"\x00\x3f\x00"
    ):
        raise _UnusualError
    mcu_blocks, *chroma = pattern
    chosen = scan[2:-3:2]  # of each component: the DC table << 4, and the AC table
    luma = (1 << mcu_blocks) - 1 - sum(chroma)
    dc_tables = ac_tables = 0
    used: set[int] = set()
    for table, blocks in zip(chosen, (luma, *chroma), strict=False):
        if table & 0xEE:
            raise _UnusualError
        dc_tables |= blocks if table & 0x10 else 0
        ac_tables |= blocks if table & 1 else 0
        used |= {table >> 4, 0x10 | table & 1}
    across, down = (frame[7] >> 4, frame[7] & 15) if components == 3 else (1, 1)
    mcus = -(-width // (8 * across)) * -(-height // (8 * down))
    if mcus * across * down > _MAX_BLOCKS or not used <= found.tables.keys():
        raise _UnusualError
    whole = b"".join([_usable(found.tables[index], index < 0x10) if index in used else _NO_TABLE for index in _INDICES])
    dc, other_dc, ac, other_ac = (whole[at : at + TABLE_BYTES] for at in range(0, len(whole), TABLE_BYTES))
    if dc == other_dc:  # then the data does not tell which of them a block uses
        dc_tables = 0
    if ac == other_ac:
        ac_tables = 0
    sampling = across, down
    return width, height, components, sampling, mcus, mcu_blocks, found.restart_mcus, dc_tables, ac_tables, whole


_FRAME: Final = struct.Struct(">BHHB")
_INDICES: Final = (0x00, 0x01, 0x10, 0x11)


def _define(known: dict[int, bytes], found: tuple[tuple[int, bytes], ...]) -> None:
    """Note tables by their numbers."""
    for number, table in found:
        if known.setdefault(number, table) != table:
            raise _UnusualError


@lru_cache(maxsize=256)
def _quantized(body: bytes) -> tuple[tuple[int, bytes], ...]:
    """The tables that a segment defines, by their numbers."""
    if len(body) % 65 or not body or max(body[::65]) > 3:  # tables of 16 bits have higher numbers
        raise _UnusualError
    found = tuple((body[at], body[at + 1 : at + 65]) for at in range(0, len(body), 65))
    if any(0 in table for _, table in found):  # T.81 has no such tables
        raise _UnusualError
    return found


@lru_cache(maxsize=256)
def _huffman(body: bytes) -> tuple[tuple[int, bytes], ...]:
    """The tables that a segment defines, by class << 4 | number."""
    found = []
    at = 0
    while at < len(body):
        index, count = body[at], sum(body[at + 1 : at + 17])
        end = at + 17 + count
        if index & 0xEC or count > 256 or end > len(body):
            raise _UnusualError
        found.append((index, body[at + 1 : end].ljust(TABLE_BYTES, b"\0")))
        at = end
    return tuple(found)


@lru_cache(maxsize=256)
def _usable(table: bytes, is_dc: bool) -> bytes:
    """The table, if its codes exist and a decoder takes its values."""
    code = 0
    for length in range(1, 17):
        code += table[length - 1]
        if table[length - 1] and code >= 1 << length:  # no code may be all ones
            raise _UnusualError
        code <<= 1
    if is_dc and max(table[16 : 16 + sum(table[:16])], default=0) > 15:
        raise _UnusualError
    return table
