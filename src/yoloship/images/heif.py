"""AVIF and HEIC files: which item is the image, how large it is, and how it is rotated.

A file states its size three times: in the item's properties, in the video codec's own header, and in the track of an
animation. The largest of them limits the memory of a decoder. The first one is the image's size, and the size of the
decoded image is compared with it.

Sources: AV1 bitstream specification, sections 5.3 (OBU header), 5.5 (sequence header); ITU-T H.265, sections 7.3.1.1
(emulation prevention), 7.3.2.2 (sequence parameter set), 7.3.3 (profile, tier and level); ISO/IEC 14496-15, section
8.3.3.1 (hvcC); ISO/IEC 14496-12, section 8.11 (meta, pitm, iloc, iinf, iprp); ISO/IEC 23008-12, section 6.5 (ispe,
irot, imir, clap); ISO/IEC 23000-22, section 7.3.6.7 (in which order they apply).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from yoloship.images.formats import Layout, LayoutError, boxes

if TYPE_CHECKING:
    from collections.abc import Iterator


_HEADER_BYTES: Final = 4096
"""A sequence header takes about ten bytes, and the data before it is as short."""
_MAX_UNITS: Final = 64
_SEQUENCE_HEADER: Final = 1
_SEQUENCE_PARAMETER_SET: Final = 33
_NONE: Final = (0, 0)
MAX_ITEMS: Final = 16_384
"""An image of 200 megapixels has 763 tiles of 512×512."""
_EXIF_ORIENTATION: Final = MappingProxyType(
    {
        (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
        (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
        (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
    }
)  # fmt: skip
"""(Quarter turns against the clock, then the axis of a mirror: 0 swaps top and bottom) → Exif's number."""
_Property = tuple[bytes, int, int]
_TRACK: Final = (b"trak", b"mdia", b"minf", b"stbl")
"""The boxes of a track that hold one another, from the outside to where the sizes are."""


def av1_size(view: memoryview) -> tuple[int, int]:
    """(width, height) in the first sequence header of AV1 data; (0, 0) without one, which no decoder accepts."""
    data, at = bytes(view[:_HEADER_BYTES]), 0
    for _ in range(_MAX_UNITS):
        if at >= len(data):
            return _NONE
        kind, extended, sized = data[at] >> 3 & 15, data[at] & 4, data[at] & 2
        at += 2 if extended else 1
        length = len(data) - at
        if sized:
            length, at = _leb128(data, at)
        if kind == _SEQUENCE_HEADER:
            return _av1_sequence(_Bits(data[at : at + length]))
        at += length
    return _NONE


def hevc_size(view: memoryview) -> tuple[int, int]:
    """(width, height) of the largest sequence parameter set in an hvcC box."""
    largest, at = _NONE, 23
    for _ in range(view[22]):
        kind = view[at] & 63
        (count,) = struct.unpack_from(">H", view, at + 1)
        at += 3
        for _ in range(min(count, _MAX_UNITS)):
            (length,) = struct.unpack_from(">H", view, at)
            if kind == _SEQUENCE_PARAMETER_SET:
                size = _hevc_sequence(_Bits(bytes(view[at + 2 : at + 2 + length]).replace(b"\0\0\3", b"\0\0")))
                largest = max(largest, size, key=lambda wh: wh[0] * wh[1])
            at += 2 + length
        if count > _MAX_UNITS:
            raise LayoutError("has too many parameter sets")
    return largest


class _Bits:
    """Reads numbers with any number of bits."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data[:512], "big")
        self._left = len(data[:512]) * 8

    def take(self, count: int) -> int:
        if count > self._left:
            raise LayoutError("is damaged or cut short")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def golomb(self) -> int:
        """An unsigned Exp-Golomb number."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        value |= (data[at + place] & 127) << 7 * place
        if not data[at + place] & 128:
            return value, at + place + 1
    raise LayoutError("is damaged or cut short")


def _av1_sequence(bits: _Bits) -> tuple[int, int]:
    bits.take(4)  # seq_profile, still_picture
    if not bits.take(1):  # not reduced_still_picture_header
        _skip_operating_points(bits)
    else:
        bits.take(5)  # seq_level_idx
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    decoder_model, delay_bits = 0, 0
    if bits.take(1):  # timing_info_present_flag
        bits.take(64)  # num_units_in_display_tick, time_scale
        if bits.take(1):  # equal_picture_interval
            bits.golomb()
        decoder_model = bits.take(1)
        if decoder_model:
            delay_bits = bits.take(5) + 1
            bits.take(32 + 10)  # num_units_in_decoding_tick, two lengths
    display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)  # operating_point_idc
        if bits.take(5) > 7:  # seq_level_idx
            bits.take(1)  # seq_tier
        if decoder_model and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if display_delay and bits.take(1):
            bits.take(4)


def _hevc_sequence(bits: _Bits) -> tuple[int, int]:
    bits.take(16 + 4)  # the unit's header, sps_video_parameter_set_id
    layers = bits.take(3)  # sps_max_sub_layers_minus1
    bits.take(1 + 88 + 8)  # nesting flag, general profile, general level
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.golomb()  # sps_seq_parameter_set_id
    if bits.golomb() == 3:  # chroma_format_idc
        bits.take(1)
    return bits.golomb(), bits.golomb()


@dataclass(slots=True)
class _Meta:
    """The items in a meta box."""

    primary: int = -1
    kinds: dict[int, bytes] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    properties: list[_Property] = field(default_factory=list)
    owned: dict[int, list[int]] = field(default_factory=dict)


def read_heif(view: memoryview) -> Layout:
    """Read the size and the orientation of the file's main image.

    Raises:
        LayoutError: the boxes are damaged, or a property occurs twice or cannot be applied.
    """
    meta = _Meta()
    sizes: list[tuple[int, int]] = []
    for kind, body, end in boxes(view, 0, len(view)):
        if kind == b"meta" and meta.primary < 0:
            meta = _read_meta(view, body + 4, end)
        elif kind == b"moov":
            sizes += _track_sizes(view, body, end)
    main_item: dict[bytes, int] = {}
    for index in meta.owned.get(meta.primary, ()):
        kind, body, _ = meta.properties[index - 1]
        if kind in main_item and kind in {b"ispe", b"irot", b"imir", b"clap"}:
            raise LayoutError("states a property twice")
        main_item[kind] = body
    width, height = struct.unpack_from(">II", view, main_item[b"ispe"] + 4)
    if any(size != (width, height) for size in sizes):
        raise LayoutError("states two sizes")
    sizes += _all_sizes(view, meta)
    layout = _cropped(view, main_item, width, height)
    held = max(w * h for w, h in sizes)
    return Layout(*layout, _orientation(view, main_item), held_pixels=held)


def _orientation(view: memoryview, main_item: dict[bytes, int]) -> int:
    turns = view[main_item[b"irot"]] & 3 if b"irot" in main_item else 0
    axis = view[main_item[b"imir"]] & 1 if b"imir" in main_item else None
    order = list(main_item)
    if axis is not None and b"irot" in main_item and order.index(b"imir") < order.index(b"irot"):
        turns = -turns % 4  # a mirror before a turn is the opposite turn before the mirror
    return _EXIF_ORIENTATION[turns, axis]


def _cropped(view: memoryview, main_item: dict[bytes, int], width: int, height: int) -> tuple[int, int]:
    if b"clap" not in main_item:
        return width, height
    wide, wide_by, high, high_by = struct.unpack_from(">IIII", view, main_item[b"clap"])
    if not wide_by or not high_by or wide % wide_by or high % high_by:
        raise LayoutError("has a crop that does not end on whole pixels")
    if wide // wide_by > width or high // high_by > height:
        raise LayoutError("has a crop that is larger than the image")
    return wide // wide_by, high // high_by


def _all_sizes(view: memoryview, meta: _Meta) -> Iterator[tuple[int, int]]:
    """Every size that an item states, and every size that a codec will find.

    OpenCV silently scales an AV1 image to the size that its item states. So the two sizes have to be the same.
    """
    for kind, body, end in meta.properties:
        if kind == b"ispe":
            yield struct.unpack_from(">II", view, body + 4)
        elif kind == b"hvcC":
            yield hevc_size(view[body:end])
    for item, kind in meta.kinds.items():
        if kind == b"av01" and item in meta.places:
            coded = av1_size(view[meta.places[item] :])
            for name, body, _ in (meta.properties[index - 1] for index in meta.owned.get(item, ())):
                if name == b"ispe" and struct.unpack_from(">II", view, body + 4) != coded:
                    raise LayoutError("states two sizes")
            yield coded


def _track_sizes(view: memoryview, start: int, end: int, level: int = 0) -> Iterator[tuple[int, int]]:
    """The sizes in the tracks of an animation, and in their first frames."""
    codec, first = b"", -1
    for kind, body, stop in boxes(view, start, end):
        if level < len(_TRACK):
            if kind == _TRACK[level]:
                yield from _track_sizes(view, body, stop, level + 1)
        elif kind == b"stsd":
            for codec, entry, _ in boxes(view, body + 8, stop):
                if codec in {b"av01", b"hvc1", b"hev1"}:
                    yield struct.unpack_from(">HH", view, entry + 24)
        elif kind in {b"stco", b"co64"}:
            (first,) = struct.unpack_from(">I" if kind == b"stco" else ">Q", view, body + 8)
    if codec == b"av01" and first >= 0:
        yield av1_size(view[first:])


def _read_meta(view: memoryview, start: int, end: int) -> _Meta:
    meta = _Meta()
    in_data = -1
    locations: list[tuple[int, int, int]] = []
    seen: set[bytes] = set()
    for kind, body, stop in boxes(view, start, end):
        if kind in seen:
            raise LayoutError("has a box twice")
        seen.add(kind)
        if kind == b"pitm":
            (meta.primary,) = struct.unpack_from(">I" if view[body] else ">H", view, body + 4)
        elif kind == b"iinf":
            meta.kinds.update(_item_kinds(view, body, stop))
        elif kind == b"iloc":
            locations = list(_item_places(view, body))
        elif kind == b"idat":
            in_data = body
        elif kind == b"iprp":
            for name, inner, inner_end in boxes(view, body, stop):
                if name == b"ipco":
                    meta.properties = list(boxes(view, inner, inner_end))
                elif name == b"ipma":
                    _read_associations(view, inner, meta)
    for item, method, place in locations:
        if method == 0:
            meta.places[item] = place
        elif method == 1 and in_data >= 0:
            meta.places[item] = in_data + place
        else:
            raise LayoutError("has items that are made of other items' data")
    return meta


def _item_kinds(view: memoryview, body: int, end: int) -> Iterator[tuple[int, bytes]]:
    for kind, entry, _ in boxes(view, body + (8 if view[body] else 6), end):
        version = view[entry]
        if kind == b"infe" and version in {2, 3}:
            item, name = struct.unpack_from(">H2x4s" if version == 2 else ">I2x4s", view, entry + 4)
            yield item, name


def _item_places(view: memoryview, body: int) -> Iterator[tuple[int, int, int]]:
    """Each item with the kind of storage of its data, and the position of its first piece."""
    version = view[body]
    offset_bytes, length_bytes = view[body + 4] >> 4, view[body + 4] & 15
    base_bytes, index_bytes = view[body + 5] >> 4, view[body + 5] & 15 if version else 0
    (count,) = struct.unpack_from(">I" if version == 2 else ">H", view, body + 6)
    at = body + (10 if version == 2 else 8)
    _check_count(count)
    for _ in range(count):
        item, at = _number(view, at, 4 if version == 2 else 2)
        method = 0
        if version:
            method, at = _number(view, at, 2)
        base, at = _number(view, at + 2, base_bytes)
        parts, at = _number(view, at, 2)
        _check_count(parts)
        if parts:
            first, _ = _number(view, at + index_bytes, offset_bytes)
            yield item, method & 15, base + first
        at += parts * (index_bytes + offset_bytes + length_bytes)


def _read_associations(view: memoryview, body: int, meta: _Meta) -> None:
    wide_item, wide_index = view[body] > 0, view[body + 3] & 1
    (count,) = struct.unpack_from(">I", view, body + 4)
    _check_count(count)
    at = body + 8
    for _ in range(count):
        item, at = _number(view, at, 4 if wide_item else 2)
        indices: list[int] = []
        for _ in range(view[at]):
            place = at + 1 + len(indices) * (2 if wide_index else 1)
            index, _ = _number(view, place, 2 if wide_index else 1)
            indices.append(index & (0x7FFF if wide_index else 0x7F))
        at += 1 + len(indices) * (2 if wide_index else 1)
        if item in meta.owned:
            raise LayoutError("states the properties of an item twice")
        meta.owned[item] = [index for index in indices if index]


def _check_count(count: int) -> None:
    if count > MAX_ITEMS:
        raise LayoutError(f"has more than {MAX_ITEMS} items")


def _number(view: memoryview, at: int, length: int) -> tuple[int, int]:
    """A number of `length` bytes, and the position after it."""
    if at + length > len(view):
        raise LayoutError("is damaged or cut short")
    return int.from_bytes(view[at : at + length], "big"), at + length
