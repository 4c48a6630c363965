"""The sizes that video codecs state in their own headers, inside AVIF and HEIC files.

Sources: AV1 bitstream specification, sections 5.3 (OBU header), 5.5 (sequence header); ITU-T H.265, sections 7.3.1.1
(emulation prevention), 7.3.2.2 (sequence parameter set), 7.3.3 (profile, tier and level); ISO/IEC 14496-15, section
8.3.3.1 (hvcC).
"""

from __future__ import annotations

import struct
from typing import Final

from yoloship.images.layout import LayoutError

_HEADER_BYTES: Final = 4096
"""A sequence header takes some ten bytes; what stands before it is as short."""
_MAX_UNITS: Final = 64
_SEQUENCE_HEADER: Final = 1
_SEQUENCE_PARAMETER_SET: Final = 33
_NONE: Final = (0, 0)


def av1_size(view: memoryview) -> tuple[int, int]:
    """(width, height) in the first sequence header of some AV1 data; (0, 0) if it has none, which no decoder takes."""
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
    """Reads numbers of any count of bits."""

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
