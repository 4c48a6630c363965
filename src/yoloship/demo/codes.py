"""Machine-readable codes as module patterns: QR, ArUco and AprilTag by OpenCV, Code 128 and EAN-13 by tables.

A pattern is the printed symbol alone, one element a module, without its quiet zone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from yoloship.errors import InputError

Modules = npt.NDArray[np.uint8]
"""(rows, columns) uint8, 0 where ink is, 255 where paper is; read only, for the patterns are cached."""

MARKER_DICTIONARIES = (
    ("DICT_4X4_250", 6, 250),
    ("DICT_5X5_250", 7, 250),
    ("DICT_6X6_250", 8, 250),
    ("DICT_7X7_250", 9, 250),
    ("DICT_APRILTAG_16h5", 6, 30),
    ("DICT_APRILTAG_25h9", 7, 35),
    ("DICT_APRILTAG_36h11", 8, 587),
)
"""OpenCV's name, modules a side with the black border, number of markers."""

QrLevel = Literal["L", "M", "Q", "H"]
_QR_LEVELS: tuple[QrLevel, ...] = ("L", "M", "Q", "H")

# ISO/IEC 15417, table 1: widths of bar, space, bar, space, bar, space by symbol value; 103..105 start, 106 stops.
_CODE128_WIDTHS = (
    "212222 222122 222221 121223 121322 131222 122213 122312 132212 221213 221312 231212 112232 122132 122231 113222 "
    "123122 123221 223211 221132 221231 213212 223112 312131 311222 321122 321221 312212 322112 322211 212123 212321 "
    "232121 111323 131123 131321 112313 132113 132311 211313 231113 231311 112133 112331 132131 113123 113321 133121 "
    "313121 211331 231131 213113 213311 213131 311123 311321 331121 312113 312311 332111 314111 221411 431111 111224 "
    "111422 121124 121421 141122 141221 112214 112412 122114 122411 142112 142211 241211 221114 413111 241112 134111 "
    "111242 121142 121241 114212 124112 124211 411212 421112 421211 212141 214121 412121 111143 111341 131141 114113 "
    "114311 411113 411311 113141 114131 311141 411131 211412 211214 211232 2331112"
)
_CODE128 = tuple(_CODE128_WIDTHS.split())
_CODE128_START_B, _CODE128_STOP = 104, 106

# GS1 General Specifications, section 5.2: the left-hand odd-parity set A; B is C reversed and C is A's complement.
_EAN_A = ("0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011")
_EAN_PARITY = ("AAAAAA", "AABABB", "AABBAB", "AABBBA", "ABAABB", "ABBAAB", "ABBBAA", "ABABAB", "ABABBA", "ABBABA")


@lru_cache(maxsize=4096)
def qr_code(text: str, level: QrLevel = "M") -> Modules:
    """A QR symbol of the smallest version that holds the text.

    Args:
        text: What a reader will say; ASCII keeps every decoder happy.
        level: Error correction.

    Raises:
        InputError: the text does not fit a QR symbol.
    """
    parameters = cv2.QRCodeEncoder.Params()
    parameters.correction_level = _QR_LEVELS.index(level)
    try:
        symbol = np.asarray(cv2.QRCodeEncoder.create(parameters).encode(text), dtype=np.uint8)
    except cv2.error as error:
        raise InputError("cannot be made a QR code", subject=repr(text[:40]), got=str(error).strip()[:80]) from error
    # Versions of OpenCV differ in the quiet zone they add. Finder patterns reach three corners, so ink bounds it.
    rows, columns = np.flatnonzero((symbol == 0).any(1)), np.flatnonzero((symbol == 0).any(0))
    return _frozen(symbol[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


@lru_cache(maxsize=4096)
def marker(dictionary: str, marker_id: int) -> Modules:
    """An ArUco marker or an AprilTag with its black border of one module.

    Args:
        dictionary: One of `MARKER_DICTIONARIES`.
        marker_id: From 0; each dictionary has its own count.

    Raises:
        InputError: no such dictionary or marker.
    """
    for name, side, count in MARKER_DICTIONARIES:
        if name == dictionary and 0 <= marker_id < count:
            table = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
            return _frozen(np.asarray(cv2.aruco.generateImageMarker(table, marker_id, side, borderBits=1), np.uint8))
    raise InputError("no such marker", subject=f"{dictionary} {marker_id}")


@lru_cache(maxsize=4096)
def code_128(text: str) -> Modules:
    """One row of modules: code set B, with check symbol (ISO/IEC 15417).

    Raises:
        InputError: empty, or not printable ASCII.
    """
    if not text or not all(" " <= character <= "~" for character in text):
        raise InputError("is not text for Code 128", subject=repr(text[:40]), expected="printable ASCII")
    values = [_CODE128_START_B, *(ord(character) - 32 for character in text)]
    check = (values[0] + sum(place * value for place, value in enumerate(values[1:], 1))) % 103
    widths = "".join(_CODE128[value] for value in (*values, check, _CODE128_STOP))
    ink = [index % 2 == 0 for index, width in enumerate(widths) for _ in range(int(width))]
    return _frozen(np.where(ink, 0, 255).astype(np.uint8)[None])


@lru_cache(maxsize=4096)
def ean_13(digits: str) -> Modules:
    """One row of 95 modules from twelve digits; the check digit is added (GS1 General Specifications 5.2).

    Raises:
        InputError: not twelve decimal digits.
    """
    full = digits + ean_check_digit(digits)
    parity = _EAN_PARITY[int(full[0])]
    left = "".join(
        _EAN_A[int(digit)] if side == "A" else _complement(_EAN_A[int(digit)])[::-1]
        for digit, side in zip(full[1:7], parity, strict=True)
    )
    right = "".join(_complement(_EAN_A[int(digit)]) for digit in full[7:])
    bits = f"101{left}01010{right}101"
    return _frozen(np.array([[0 if bit == "1" else 255 for bit in bits]], dtype=np.uint8))


def ean_check_digit(digits: str) -> str:
    """The thirteenth digit: what makes the weighted sum a multiple of ten.

    Raises:
        InputError: not twelve decimal digits.
    """
    if len(digits) != 12 or not (digits.isascii() and digits.isdecimal()):
        raise InputError("is not an EAN-13", subject=repr(digits[:40]), expected="twelve decimal digits")
    return str(-sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10)


def _complement(bits: str) -> str:
    return bits.translate(str.maketrans("01", "10"))


def _frozen(pattern: npt.NDArray[np.uint8]) -> Modules:
    pattern = np.ascontiguousarray(pattern)
    pattern.flags.writeable = False
    return pattern
