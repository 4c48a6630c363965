"""Colours, textures and lettering that scenes are painted with."""

from __future__ import annotations

import colorsys
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Picture: TypeAlias = npt.NDArray[np.uint8]
"""(height, width, 3) uint8 BGR."""
Bgr: TypeAlias = tuple[float, float, float]
"""Blue, green, red in 0..255."""
Rng: TypeAlias = np.random.Generator

_VOCABULARY = (
    "FRAGILE PRIORITY EXPRESS RETURN ORDER BATCH LOT SERIAL THIS SIDE UP HANDLE WITH CARE SHIP TO FROM WEIGHT ZONE "
    "GATE HALL OPEN TODAY FRESH ORGANIC COFFEE TEA MILK PAPER SOAP BOLTS M8 RICE GREEN NORTH LINE DOCK AISLE BIN RACK "
    "STOCK SALE NEW MUSIC SUMMER FEST JAZZ CITY RUN SCAN ME MENU TICKET ENTRY PASS LAB SAMPLE TEST UNIT MODEL REV "
    "PART QTY alpha garden street market station river window morning paper yellow number letter orange silver engine "
    "motor please keep dry store cool before after opening best net weight made for you and the of in a to with our "
    "24h 500g"
)
_WORDS = tuple(_VOCABULARY.split())
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_PLAIN,
)


def chance(rng: Rng, probability: float) -> bool:
    """True with this probability."""
    return bool(rng.random() < probability)


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number whose logarithm is uniform: every octave as likely as the next."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def hsv(hue: float, saturation: float, value: float) -> Bgr:
    """A colour from hue, saturation and value, each in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return blue * 255, green * 255, red * 255


def vivid(rng: Rng) -> Bgr:
    """A packaging colour."""
    return hsv(rng.random(), rng.uniform(0.45, 0.95), rng.uniform(0.45, 0.95))


def muted(rng: Rng) -> Bgr:
    """A wall or floor colour."""
    return hsv(rng.random(), rng.uniform(0.02, 0.35), rng.uniform(0.25, 0.9))


def kraft(rng: Rng) -> Bgr:
    """A cardboard colour."""
    return hsv(rng.uniform(0.065, 0.1), rng.uniform(0.3, 0.5), rng.uniform(0.55, 0.85))


def paper(rng: Rng) -> Bgr:
    """Mostly white; sometimes a pale or a warning colour."""
    if chance(rng, 0.15):
        return hsv(rng.choice([0.0, 0.12, 0.15, 0.33, 0.55]), rng.uniform(0.25, 0.75), rng.uniform(0.85, 1.0))
    return hsv(rng.random(), rng.uniform(0.0, 0.08), rng.uniform(0.78, 1.0))


def ink(rng: Rng) -> Bgr:
    """Mostly black; sometimes faded or coloured, always dark enough to read."""
    if chance(rng, 0.2):
        return hsv(rng.random(), rng.uniform(0.4, 1.0), rng.uniform(0.15, 0.4))
    return hsv(rng.random(), rng.uniform(0.0, 0.3), rng.uniform(0.0, 0.28))


def words(rng: Rng, count: int) -> str:
    """So many words of packages and posters."""
    return " ".join(_WORDS[i] for i in rng.integers(len(_WORDS), size=count))


def letters(rng: Rng, count: int, alphabet: str = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ") -> str:
    """A serial number."""
    return "".join(alphabet[i] for i in rng.integers(len(alphabet), size=count))


def flat(height: int, width: int, colour: Bgr) -> Picture:
    """A picture of one colour."""
    picture = np.empty((height, width, 3), np.uint8)
    fill(picture, colour)
    return picture


def fill(picture: Picture, colour: Bgr) -> None:
    """Give a picture, or a part of one, one colour; writes into it."""
    height, width = picture.shape[:2]
    row = np.tile(np.clip(colour, 0, 255).astype(np.uint8), width)
    if picture.flags.c_contiguous:
        picture.reshape(height, width * 3)[:] = row
    else:
        picture[:] = row.reshape(width, 3)


def field(rng: Rng, height: int, width: int, cells: int) -> npt.NDArray[np.uint8]:
    """(height, width) uint8 smooth noise with about so many hills across."""
    rows = max(2, round(cells * height / max(height, width)))
    columns = max(2, round(cells * width / max(height, width)))
    small = rng.integers(0, 256, (rows, columns), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def grain(rng: Rng, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(height, width) uint8 uniform noise, a value a pixel."""
    return np.frombuffer(rng.bytes(height * width), np.uint8).reshape(height, width)


def mottle(picture: Picture, noise: npt.NDArray[np.uint8], strength: float) -> Picture:
    """Lighten and darken by a noise field; returns a new picture.

    Args:
        picture: Read only.
        noise: (height, width) uint8; 128 changes nothing.
        strength: Grey levels at the field's extremes.
    """
    scale = strength / 128
    layer = cv2.cvtColor(noise, cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.addWeighted(picture, 1.0, layer, scale, -128 * scale), np.uint8)


def gradient(rng: Rng, height: int, width: int, first: Bgr, second: Bgr) -> Picture:
    """A bilinear blend of two colours and their mixtures in the four corners."""
    corners = np.empty((2, 2, 3), np.float32)
    mixture = rng.random(4)
    mixture[0], mixture[3] = 0.0, 1.0
    corners[:] = (np.outer(1 - mixture, first) + np.outer(mixture, second)).reshape(2, 2, 3)
    return np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def text_line(picture: Picture, text: str, box_xywh: tuple[int, int, int, int], colour: Bgr, font: int) -> int:
    """Write a line as large as fits a box, left-aligned; writes into the picture, returns the width in pixels."""
    x, y, width, height = box_xywh
    if height < 5 or width < 8:
        return 0
    (one_width, one_height), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(height * 0.8 / max(one_height, 1), width / max(one_width, 1))
    if scale < 0.12:
        return 0
    thickness = max(1, round(scale * 1.5))
    cv2.putText(picture, text, (x, y + round(height * 0.85)), font, scale, colour, thickness, cv2.LINE_AA)
    return round(one_width * scale)


def text_block(rng: Rng, picture: Picture, box_xywh: tuple[int, int, int, int], colour: Bgr) -> None:
    """Fill a box with lines of words; writes into the picture."""
    x, y, width, height = box_xywh
    font = _FONTS[rng.integers(len(_FONTS))]
    step = int(log_uniform(rng, 8, 22))
    for top in range(y, y + height - step + 1, step):
        count = max(1, round(width / step / 4 * rng.uniform(0.6, 1.0)))
        line_width = round(width * rng.uniform(0.55, 1.0))
        text_line(picture, words(rng, count), (x, top, line_width, round(step * 0.85)), colour, font)


def headline(rng: Rng, picture: Picture, box_xywh: tuple[int, int, int, int], colour: Bgr) -> None:
    """One or two large words in a box; writes into the picture."""
    font = _FONTS[rng.integers(len(_FONTS) - 1)]
    text = words(rng, int(rng.integers(1, 3))) if chance(rng, 0.7) else letters(rng, int(rng.integers(3, 8)))
    text_line(picture, text.upper(), box_xywh, colour, font)
