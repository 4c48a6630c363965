"""The header of a JPEG whose entropy-coded data the GPU can check and decode: sequential, Huffman, 8 bits, one scan.

Everything unusual gives no header, so that the host's decoder reads the file and judges it: other processes, several
scans, colours that are not Y or YCbCr, other samplings than 4:2:0, 4:2:2 and 4:4:4, unusual markers, tables or
profiles that libjpeg remarks on, and what is stated twice and differs, of which decoders may take either.

Sources: ITU-T T.81, annex B. JFIF 1.02. ICC.1:2022, annex B.4. Adobe technical note 5116.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from yoloship.images.formats import jpeg_segments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.images.formats import Segment

TABLE_BYTES: Final = 16 + 256
"""A Huffman table: how many codes there are of each length from 1 to 16, then their values, then zeros."""
_NO_TABLE: Final = bytes(TABLE_BYTES)
_MAX_SEGMENTS: Final = 256
"""A file has about ten; a large colour profile takes some more."""
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
_CODING: Final = frozenset({*_FRAMES, _TABLES, _SCAN, _QUANTIZATION, _RESTART})
_APPLICATION: Final = range(0xE0, 0xF0)
_COMMENT: Final = 0xFE
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
        width: In pixels as they are stored.
        height: Likewise.
        components: 1 (Y) or 3 (YCbCr).
        sampling: (horizontal, vertical) of Y if those of Cb and Cr are (1, 1).
        data_at: The first byte of entropy-coded data.
        data_bytes: From there to the end of the file.
        mcus: How many MCUs the image has.
        mcu_blocks: Blocks of each MCU.
        restart_mcus: MCUs between restart markers; 0 if there are none.
        dc_tables: Bit i tells whether block i of an MCU uses the second DC table.
        ac_tables: Likewise.
        tables: DC 0, DC 1, AC 0 and AC 1, `TABLE_BYTES` each.
    """

    width: int
    height: int
    components: int
    sampling: tuple[int, int]
    data_at: int
    data_bytes: int
    mcus: int
    mcu_blocks: int
    restart_mcus: int
    dc_tables: int
    ac_tables: int
    tables: bytes


class _UnusualError(Exception):
    """The host has to read the file."""


def scan_header(data: bytes | memoryview, segments: Sequence[Segment] | None = None) -> ScanHeader | None:
    """Read the header of a JPEG up to its entropy-coded data.

    Args:
        data: The whole file.
        segments: Those up to its first scan, as `jpeg_segments` gives them; None looks for them.

    Returns:
        None if the file must not be decoded by the GPU.
    """
    try:
        view = data if isinstance(data, bytes) else memoryview(data).cast("B")
        return _read(view, _up_to_scan(view) if segments is None else segments)
    except (struct.error, IndexError, _UnusualError):  # the first two if it is cut short
        return None


def _up_to_scan(data: bytes | memoryview) -> list[Segment]:
    found = []
    for segment in islice(jpeg_segments(data), _MAX_SEGMENTS):
        found.append(segment)
        if segment[0] == _SCAN:
            break
    return found


def _read(data: bytes | memoryview, segments: Sequence[Segment]) -> ScanHeader:
    if data[:2] != b"\xff\xd8":
        raise _UnusualError
    found: list[tuple[int, bytes]] = []
    has_frame = False
    adobe: set[int] = set()
    profile: list[bytes] = []
    at = 2
    for marker, start, body, end in segments[:_MAX_SEGMENTS]:
        if start != at or body != start + 4 or not body <= end <= len(data):  # something lies between, or is missing
            raise _UnusualError
        at, length = end, end - body + 2
        if marker in _APPLICATION:
            if marker == 0xE2 and data[body : body + 12] == _PROFILE and length >= 16:
                profile.append(bytes(data[body + 12 : body + 14]))
            elif marker == 0xEE and data[body : body + 5] == b"Adobe":
                if length < 14:
                    raise _UnusualError
                adobe.add(data[body + 11])
            elif marker == 0xE0 and data[body : body + 5] == b"JFIF\0" and length >= 16 and data[body + 5] != 1:
                raise _UnusualError
        elif marker != _COMMENT:
            if marker not in _CODING or (marker in _FRAMES and has_frame):
                raise _UnusualError
            has_frame = has_frame or marker in _FRAMES
            found.append((marker, bytes(data[body:at])))
            if marker == _SCAN:
                break
    else:
        raise _UnusualError
    if profile:
        _check_profile(profile)
    size = len(data) - at
    if not 1 <= size <= MAX_SCAN_BYTES:
        raise _UnusualError
    return _header_of(tuple(found), frozenset(adobe))._replace(data_at=at, data_bytes=size)


class _Found(NamedTuple):
    """What the segments before the scan define."""

    quantized: dict[int, bytes]
    tables: dict[int, bytes]
    restart_mcus: int = 0


@lru_cache(maxsize=256)
def _header_of(segments: tuple[tuple[int, bytes], ...], adobe: frozenset[int]) -> ScanHeader:
    """What segments say, without where the data is. A camera writes the same ones into all of its files."""
    frame: bytes | None = None
    scan = b""
    restarts: set[int] = set()
    quantized: dict[int, bytes] = {}
    tables: dict[int, bytes] = {}
    for marker, body in segments:
        if marker == _QUANTIZATION:
            _define(quantized, _quantized(body))
        elif marker == _TABLES:
            _define(tables, _huffman(body))
        elif marker == _RESTART:
            if len(body) != 2:
                raise _UnusualError
            restarts.add(body[0] << 8 | body[1])
        elif marker == _SCAN:
            scan = body
        else:
            frame = body
    if frame is None or len(restarts) > 1 or not adobe <= {1 if len(frame) == 15 else 0}:
        raise _UnusualError
    return _scan_of(frame, scan, _Found(quantized, tables, *restarts))


def _scan_of(frame: bytes, scan: bytes, found: _Found) -> ScanHeader:
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
    return ScanHeader(
        width,
        height,
        components,
        (across, down),
        0,
        0,
        mcus,
        mcu_blocks,
        found.restart_mcus,
        dc_tables,
        ac_tables,
        whole,
    )


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


def _check_profile(parts: list[bytes]) -> None:
    """Each part of a colour profile states its number and how many there are."""
    count = len(parts)
    if any(part[1] != count for part in parts) or sorted(part[0] for part in parts) != list(range(1, count + 1)):
        raise _UnusualError
