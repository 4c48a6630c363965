"""Codes as module patterns, judged by readers that are not ours, and by the standards' own rules."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from yoloship.demo import codes
from yoloship.errors import InputError

QUIET_PX = 60


def printed(pattern: codes.Modules, module_px: int, height_px: int = 0) -> np.ndarray:
    """Black on white with a quiet zone, three channels; a row becomes bars."""
    high = height_px or module_px
    large = np.repeat(np.repeat(pattern, high, axis=0), module_px, axis=1)
    return cv2.cvtColor(np.pad(large, QUIET_PX, constant_values=255), cv2.COLOR_GRAY2BGR)


@pytest.mark.parametrize("first", "123456789")  # the first digit chooses the parity of the left half
def test_ean_13_is_read_back_by_opencv(first: str) -> None:
    digits = first + "".join(str((int(first) * 7 + 3 * place * place) % 10) for place in range(11))
    reader = cv2.barcode.BarcodeDetector()
    heights_px = (50, 60, 80, 100, 120)  # it finds flawless bars at some sizes only
    read = {reader.detectAndDecode(printed(codes.ean_13(digits), 2, height))[0] for height in heights_px}
    assert read - {""} == {digits + codes.ean_check_digit(digits)}


@pytest.mark.parametrize(
    ("digits", "check"), [("400638133393", "1"), ("978020137962", "4"), ("590123412345", "7"), ("000000000000", "0")]
)
def test_check_digits_are_those_of_known_articles(digits: str, check: str) -> None:
    assert codes.ean_check_digit(digits) == check


def widths_of(row: codes.Modules) -> list[int]:
    """Lengths of the runs of ink and paper, from the left."""
    changes = np.flatnonzero(np.diff(row[0].astype(int)))
    return [int(width) for width in np.diff(np.concatenate([[-1], changes, [row.shape[1] - 1]]))]


@pytest.mark.parametrize("text", ["A", "LOT0160", " ~", "yoloship 2024/07", "x" * 40])
def test_code_128_has_the_structure_of_the_standard(text: str) -> None:
    row = codes.code_128(text)
    assert row.shape == (1, 11 * (len(text) + 2) + 13)
    widths = widths_of(row)
    assert widths[:6] == [2, 1, 1, 2, 1, 4], "start B"
    assert widths[-7:] == [2, 3, 3, 1, 1, 1, 2], "stop"
    symbols = [widths[place : place + 6] for place in range(0, len(widths) - 7, 6)]
    for symbol in symbols:
        assert sum(symbol) == 11
        assert sum(symbol[::2]) % 2 == 0, "the bars of a symbol have even parity"
        assert max(symbol) <= 4


def test_no_two_symbols_of_code_128_look_alike() -> None:
    rows = {codes.code_128(chr(code)).tobytes()[11:22] for code in range(32, 127)}
    assert len(rows) == 95


def test_the_check_symbol_of_code_128_is_the_weighted_sum() -> None:
    """Start B (104), then A is 33, B is 34 and C is 35: 104 + 33 + 2·34 + 3·35 = 310, which is 1 modulo 103."""
    row = codes.code_128("ABC")
    assert np.array_equal(row[:, 44:55], codes.code_128(chr(32 + 1))[:, 11:22])


@pytest.mark.parametrize("level", ["L", "M", "Q", "H"])
@pytest.mark.parametrize("text", ["hi", "https://yoloship.example/p/00552", "WIFI:T:WPA;S:guest-3;P:000023secret;;"])
def test_qr_codes_are_read_back_by_opencv(text: str, level: codes.QrLevel) -> None:
    read, *_ = cv2.QRCodeDetector().detectAndDecode(printed(codes.qr_code(text, level), 6))
    assert read == text


def test_a_qr_code_has_no_quiet_zone_and_three_finder_patterns() -> None:
    pattern = codes.qr_code("hi")
    assert pattern.shape == (21, 21)
    finder = np.pad(np.pad(np.zeros((3, 3), np.uint8), 1, constant_values=255), 1)
    for corner in (pattern[:7, :7], pattern[:7, -7:], pattern[-7:, :7]):
        assert np.array_equal(corner, finder)


@pytest.mark.parametrize("dictionary", [name for name, _, _ in codes.MARKER_DICTIONARIES])
def test_markers_are_read_back_by_opencv(dictionary: str) -> None:
    side, count = next((side, count) for name, side, count in codes.MARKER_DICTIONARIES if name == dictionary)
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary)))
    for number in (0, count // 2, count - 1):
        pattern = codes.marker(dictionary, number)
        assert pattern.shape == (side, side)
        _, ids, _ = detector.detectMarkers(printed(pattern, 12))
        assert ids.reshape(-1).tolist() == [number]


def test_patterns_are_cached_and_therefore_read_only() -> None:
    assert codes.qr_code("hi") is codes.qr_code("hi")
    with pytest.raises(ValueError, match="read-only"):
        codes.qr_code("hi")[0, 0] = 1


def test_what_no_code_can_say_is_refused() -> None:
    with pytest.raises(InputError, match="expected printable ASCII"):
        codes.code_128("naïve")
    with pytest.raises(InputError, match="expected printable ASCII"):
        codes.code_128("")
    with pytest.raises(InputError, match="expected twelve decimal digits"):
        codes.ean_13("123")
    with pytest.raises(InputError, match="no such marker"):
        codes.marker("DICT_4X4_250", 250)
    with pytest.raises(InputError, match="cannot be made a QR code"):
        codes.qr_code("x" * 5000)
