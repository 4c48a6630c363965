"""Colours, textures, backdrops and effects that scenes are painted with."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable


Image: TypeAlias = npt.NDArray[np.uint8]
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


def flat(height: int, width: int, colour: Bgr) -> Image:
    """An image of one colour."""
    image = np.empty((height, width, 3), np.uint8)
    fill(image, colour)
    return image


def fill(image: Image, colour: Bgr) -> None:
    """Give an image, or a part of one, one colour; writes into it."""
    height, width = image.shape[:2]
    row = np.tile(np.clip(colour, 0, 255).astype(np.uint8), width)
    if image.flags.c_contiguous:
        image.reshape(height, width * 3)[:] = row
    else:
        image[:] = row.reshape(width, 3)


def field(rng: Rng, height: int, width: int, cells: int) -> npt.NDArray[np.uint8]:
    """(height, width) uint8 smooth noise with about so many hills across."""
    rows = max(2, round(cells * height / max(height, width)))
    columns = max(2, round(cells * width / max(height, width)))
    small = rng.integers(0, 256, (rows, columns), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def grain(rng: Rng, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(height, width) uint8 uniform noise, a value a pixel."""
    return np.frombuffer(rng.bytes(height * width), np.uint8).reshape(height, width)


def mottle(image: Image, noise: npt.NDArray[np.uint8], strength: float) -> Image:
    """Lighten and darken by a noise field; returns a new image.

    Args:
        image: Read only.
        noise: (height, width) uint8; 128 changes nothing.
        strength: Grey levels at the field's extremes.
    """
    scale = strength / 128
    layer = cv2.cvtColor(noise, cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.addWeighted(image, 1.0, layer, scale, -128 * scale), np.uint8)


def gradient(rng: Rng, height: int, width: int, first: Bgr, second: Bgr) -> Image:
    """A bilinear blend of two colours and their mixtures in the four corners."""
    corners = np.empty((2, 2, 3), np.float32)
    mixture = rng.random(4)
    mixture[0], mixture[3] = 0.0, 1.0
    corners[:] = (np.outer(1 - mixture, first) + np.outer(mixture, second)).reshape(2, 2, 3)
    return np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def text_line(image: Image, text: str, box_xywh: tuple[int, int, int, int], colour: Bgr, font: int) -> int:
    """Write a line as large as fits a box, left-aligned; writes into the image, returns the width in pixels."""
    x, y, width, height = box_xywh
    if height < 5 or width < 8:
        return 0
    (one_width, one_height), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(height * 0.8 / max(one_height, 1), width / max(one_width, 1))
    if scale < 0.12:
        return 0
    thickness = max(1, round(scale * 1.5))
    cv2.putText(image, text, (x, y + round(height * 0.85)), font, scale, colour, thickness, cv2.LINE_AA)
    return round(one_width * scale)


def text_block(rng: Rng, image: Image, box_xywh: tuple[int, int, int, int], colour: Bgr) -> None:
    """Fill a box with lines of words; writes into the image."""
    x, y, width, height = box_xywh
    font = _FONTS[rng.integers(len(_FONTS))]
    step = int(log_uniform(rng, 8, 22))
    for top in range(y, y + height - step + 1, step):
        count = max(1, round(width / step / 4 * rng.uniform(0.6, 1.0)))
        line_width = round(width * rng.uniform(0.55, 1.0))
        text_line(image, words(rng, count), (x, top, line_width, round(step * 0.85)), colour, font)


def headline(rng: Rng, image: Image, box_xywh: tuple[int, int, int, int], colour: Bgr) -> None:
    """One or two large words in a box; writes into the image."""
    font = _FONTS[rng.integers(len(_FONTS) - 1)]
    text = words(rng, int(rng.integers(1, 3))) if chance(rng, 0.7) else letters(rng, int(rng.integers(3, 8)))
    text_line(image, text.upper(), box_xywh, colour, font)


def backdrop(rng: Rng, height: int, width: int) -> Image:
    """A background of a random kind."""
    return _BACKDROPS[rng.integers(len(_BACKDROPS))](rng, height, width)


def wall(rng: Rng, height: int, width: int) -> Image:
    """Plaster or paint: a slow gradient with stains."""
    first, second = muted(rng), muted(rng)
    image = gradient(rng, height, width, first, second)
    image = mottle(image, field(rng, height, width, int(rng.integers(3, 30))), rng.uniform(3, 25))
    return mottle(image, grain(rng, height, width), rng.uniform(0, 8))


def concrete(rng: Rng, height: int, width: int) -> Image:
    """Noise of several octaves."""
    image = flat(height, width, hsv(rng.random(), rng.uniform(0, 0.12), rng.uniform(0.3, 0.75)))
    for cells in (4, 16, 64):
        image = mottle(image, field(rng, height, width, cells), rng.uniform(8, 22))
    return mottle(image, grain(rng, height, width), rng.uniform(4, 14))


def wood(rng: Rng, height: int, width: int) -> Image:
    """Planks with grain along them."""
    image = flat(height, width, hsv(rng.uniform(0.04, 0.1), rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.8)))
    fibres = rng.integers(0, 256, (height // 2, 5), dtype=np.uint8)
    image = mottle(
        image, np.asarray(cv2.resize(fibres, (width, height), interpolation=cv2.INTER_LINEAR)), rng.uniform(8, 25)
    )
    step = int(rng.integers(50, 200))
    for top in range(int(rng.integers(step)), height, step):
        cv2.line(image, (0, top), (width, top), (20, 25, 30), int(rng.integers(1, 4)), cv2.LINE_AA)
    turned = chance(rng, 0.5) and height == width
    return np.ascontiguousarray(image.transpose(1, 0, 2)) if turned else image


def bricks(rng: Rng, height: int, width: int) -> Image:
    """Bricks or tiles in rows, each of its own shade."""
    base = np.array(hsv(rng.uniform(0, 0.12), rng.uniform(0.05, 0.6), rng.uniform(0.35, 0.8)))
    image = flat(height, width, muted(rng))
    tall, gap = int(rng.integers(18, 70)), int(rng.integers(1, 5))
    wide = int(tall * rng.uniform(1.0, 3.0))
    offset = wide // 2 if chance(rng, 0.7) else 0
    for row, top in enumerate(range(0, height, tall)):
        for left in range(-(row % 2) * offset, width, wide):
            shade = tuple(np.clip(base * rng.uniform(0.85, 1.12), 0, 255).tolist())
            cv2.rectangle(image, (left, top), (left + wide - gap - 1, top + tall - gap - 1), shade, cv2.FILLED)
    return mottle(image, field(rng, height, width, 40), rng.uniform(4, 18))


def belt(rng: Rng, height: int, width: int) -> Image:
    """A conveyor belt or a road: dark, with bands and hazard stripes."""
    image = flat(height, width, hsv(rng.random(), 0.1, rng.uniform(0.12, 0.35)))
    edge = int(width * rng.uniform(0.05, 0.25))
    rail = hsv(rng.random(), 0.1, rng.uniform(0.4, 0.8))
    cv2.rectangle(image, (0, 0), (edge, height), rail, cv2.FILLED)
    cv2.rectangle(image, (width - edge, 0), (width, height), rail, cv2.FILLED)
    if chance(rng, 0.5):
        step = int(rng.integers(24, 60))
        for top in range(-edge, height + edge, 2 * step):
            stripe = np.array([(0, top), (edge, top - edge), (edge, top - edge + step), (0, top + step)], np.int32)
            cv2.fillPoly(image, [stripe], (20, 200, 240))
    for top in range(int(rng.integers(40)), height, int(rng.integers(40, 160))):
        cv2.line(image, (edge, top), (width - edge, top), (25, 25, 25), 2, cv2.LINE_AA)
    return mottle(image, field(rng, height, width, 60), rng.uniform(4, 14))


def clutter(rng: Rng, height: int, width: int) -> Image:
    """Boxes, discs and strokes in the colours of a shop out of focus."""
    image = gradient(rng, height, width, muted(rng), muted(rng))
    for _ in range(int(rng.integers(8, 30))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size = int(log_uniform(rng, 12, 220))
        colour = vivid(rng) if chance(rng, 0.5) else muted(rng)
        kind = rng.integers(3)
        if kind == 0:
            cv2.rectangle(image, (x, y), (x + size, y + int(size * rng.uniform(0.3, 2))), colour, cv2.FILLED)
        elif kind == 1:
            cv2.circle(image, (x, y), size // 2, colour, cv2.FILLED, cv2.LINE_AA)
        else:
            cv2.line(image, (x, y), (int(rng.integers(width)), int(rng.integers(height))), colour, size // 8 + 1)
    if chance(rng, 0.6):
        image = np.asarray(cv2.blur(image, (int(rng.integers(3, 25)),) * 2), np.uint8)
    return mottle(image, grain(rng, height, width), rng.uniform(0, 8))


def shelves(rng: Rng, height: int, width: int) -> Image:
    """Boards with packages on them, seen from the front."""
    image = flat(height, width, hsv(rng.random(), 0.15, rng.uniform(0.12, 0.45)))
    board = hsv(rng.random(), rng.uniform(0, 0.3), rng.uniform(0.5, 0.9))
    step, thick = int(rng.integers(110, 260)), int(rng.integers(8, 24))
    for bottom in range(int(rng.integers(40, step)), height + step, step):
        x = int(rng.integers(-40, 20))
        while x < width:
            wide, tall = int(rng.integers(40, 150)), int(step * rng.uniform(0.45, 0.88))
            colour = kraft(rng) if chance(rng, 0.4) else vivid(rng)
            top, right = bottom - tall, x + wide - 3
            cv2.rectangle(image, (x, top), (right, bottom), colour, cv2.FILLED)
            side = tuple(0.7 * part for part in colour)
            cv2.rectangle(image, (right - wide // 8, top), (right, bottom), side, cv2.FILLED)
            if chance(rng, 0.6):
                blue, green, red = (255 - 0.2 * (255 - part) for part in colour)
                headline(rng, image, (x + 6, top + tall // 6, wide * 2 // 3, tall // 4), (blue, green, red))
            if chance(rng, 0.4):
                band = vivid(rng)
                cv2.rectangle(image, (x, bottom - tall // 3), (right, bottom - tall // 5), band, cv2.FILLED)
            x += wide + int(rng.integers(0, 26))
        cv2.rectangle(image, (0, bottom), (width, bottom + thick), board, cv2.FILLED)
        cv2.rectangle(image, (0, bottom + thick), (width, bottom + thick + 6), (20, 20, 20), cv2.FILLED)
    return mottle(image, field(rng, height, width, 12), rng.uniform(4, 20))


_BACKDROPS: tuple[Callable[[Rng, int, int], Image], ...] = (
    wall,
    concrete,
    wood,
    bricks,
    belt,
    clutter,
    shelves,
    shelves,
)


_Polygon = npt.NDArray[np.float64]
"""(N, 2) corners in scene pixels."""


def blend(below: Image, above: Image, alpha: npt.NDArray[np.uint8]) -> Image:
    """Put one image over another.

    Args:
        below: Read only.
        above: The same size; read only.
        alpha: (height, width) uint8, 255 where only `above` shows.
    """
    weight = cv2.cvtColor(alpha, cv2.COLOR_GRAY2BGR)
    over = cv2.multiply(above, weight, scale=1 / 255)
    under = cv2.multiply(below, cv2.bitwise_not(weight), scale=1 / 255)
    return np.asarray(cv2.add(over, under), np.uint8)


def drop_shadow(rng: Rng, image: Image, outline: _Polygon) -> None:
    """Darken what lies beside a surface; writes into the image."""
    height, width = image.shape[:2]
    depth = log_uniform(rng, 2, 12)
    moved = (outline + rng.uniform(-1, 1, 2) * depth) / 4
    shade = np.full((height // 4 + 1, width // 4 + 1), 255, np.uint8)
    cv2.fillConvexPoly(shade, np.round(moved).astype(np.int32), int(rng.integers(90, 190)), cv2.LINE_AA)
    size = int(depth / 2) + 1
    shade = np.asarray(cv2.resize(cv2.blur(shade, (size, size)), (width, height)), np.uint8)
    image[:] = cv2.multiply(image, cv2.cvtColor(shade, cv2.COLOR_GRAY2BGR), scale=1 / 255)


def cover_shape(rng: Rng, quad: _Polygon) -> _Polygon:
    """The outline of something that lies partly over a code."""
    centre, reach = quad.mean(0), float(np.linalg.norm(quad - quad.mean(0), axis=1).max())
    target = centre + rng.uniform(-1, 1, 2) * reach * 0.8
    if chance(rng, 0.6):  # a strip: tape, cable, scratch
        angle = rng.uniform(0, np.pi)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]]) * reach * log_uniform(rng, 0.02, 0.25)
        length = reach * rng.uniform(0.8, 4.0)
        ends = target - along * length, target + along * length
        return np.array([ends[0] - across, ends[1] - across, ends[1] + across, ends[0] + across])
    radius = reach * rng.uniform(0.15, 0.5)  # a sticker, a stain, a fingertip
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    stretch = rng.uniform(0.6, 1.0, 2)
    return np.asarray(target + np.column_stack([np.cos(angles), np.sin(angles)]) * radius * stretch)


def cover(rng: Rng, image: Image, mask: npt.NDArray[np.uint8]) -> None:
    """Paint a mask in a colour of tape, paper, rubber or skin; writes into the image.

    Args:
        rng: Decides the material.
        image: Written into.
        mask: (height, width) uint8, 255 inside.
    """
    x, y, width, height = cv2.boundingRect(mask)
    if not width or not height:
        return
    colours = (kraft, vivid, paper, muted, ink, _skin)
    colour = colours[rng.integers(len(colours))](rng)
    above = mottle(flat(height, width, colour), field(rng, height, width, 5), rng.uniform(3, 25))
    area = image[y : y + height, x : x + width]
    opacity = 1.0 if chance(rng, 0.65) else rng.uniform(0.45, 0.9)
    alpha = np.asarray(cv2.convertScaleAbs(mask[y : y + height, x : x + width], alpha=opacity), np.uint8)
    area[:] = blend(area, above, alpha)


def _skin(rng: Rng) -> Bgr:
    return hsv(rng.uniform(0.03, 0.07), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.95))


def photograph(rng: Rng, image: Image, finest_module_px: float) -> Image:
    """Light, lens, sensor and compression, each often absent.

    Args:
        rng: Decides what happens.
        image: Read only.
        finest_module_px: The finest module of any code in the scene; blur stays within what it bears.
    """
    if chance(rng, 0.75):
        image = _light(rng, image)
    if chance(rng, 0.5):
        image = _tone(rng, image)
    if chance(rng, 0.5):
        image = _blur(rng, image, min(2.2, 0.3 + 0.55 * finest_module_px))
    if chance(rng, 0.6):
        image = _sensor_noise(rng, image, log_uniform(rng, 2, 14))
    if chance(rng, 0.6):
        image = _jpeg(image, int(rng.integers(30, 96)))
    return image


def _light(rng: Rng, image: Image) -> Image:
    """A lamp to one side, hard shadows, glare."""
    height, width = image.shape[:2]
    small = np.asarray(
        cv2.resize(rng.uniform(95, 215, (int(rng.integers(2, 5)),) * 2).astype(np.float32), (80, 80)), np.float32
    )
    if chance(rng, 0.3):
        corners = rng.uniform(-0.3, 1.3, (int(rng.integers(3, 5)), 2)) * 80
        shadow = np.ones((80, 80), np.float32)
        cv2.fillPoly(shadow, [corners.astype(np.int32)], float(rng.uniform(0.4, 0.8)))
        small = small * np.asarray(cv2.blur(shadow, (int(rng.integers(3, 9)),) * 2), np.float32)
    if chance(rng, 0.15):
        spot = np.zeros((80, 80), np.float32)
        centre = int(rng.integers(80)), int(rng.integers(80))
        cv2.circle(spot, centre, int(rng.integers(3, 14)), float(rng.uniform(40, 140)), cv2.FILLED)
        small = small + np.asarray(cv2.blur(spot, (15, 15)), np.float32)
    grey = np.clip(small, 40, 255).astype(np.uint8)
    field = cv2.cvtColor(np.asarray(cv2.resize(grey, (width, height)), np.uint8), cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.multiply(image, field, scale=1 / 165), np.uint8)


def _tone(rng: Rng, image: Image) -> Image:
    """Contrast, brightness, and a cast of colour."""
    gain = rng.uniform(0.45, 1.15) * rng.uniform(0.93, 1.07, 3)
    lift = rng.uniform(-15, 70) if gain.mean() < 0.8 else rng.uniform(-20, 20)
    ramp = np.arange(256)[:, None] * gain + lift
    table = np.clip(ramp, 0, 255).astype(np.uint8)
    if chance(rng, 0.08):
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        image = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    return np.asarray(cv2.LUT(image, table[:, None, :].reshape(1, 256, 3)), np.uint8)


def _blur(rng: Rng, image: Image, most_px: float) -> Image:
    """Out of focus, or shaken."""
    if chance(rng, 0.7):
        sigma = rng.uniform(0.3, most_px)
        return np.asarray(cv2.GaussianBlur(image, (0, 0), float(sigma)), np.uint8)
    length = int(rng.uniform(2, 1 + 2.5 * most_px))
    kernel = np.zeros((2 * length + 1,) * 2, np.float32)
    angle = rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    for step in np.linspace(-1, 1, 4 * length):
        x, y = np.round(length + step * reach).astype(int)
        kernel[y, x] = 1
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def _sensor_noise(rng: Rng, image: Image, sigma: float) -> Image:
    """Uniform noise of this standard deviation: of brightness, or of each channel."""
    height, width = image.shape[:2]
    scale = sigma / 73.9  # the deviation of uniform bytes
    if chance(rng, 0.5):
        noise = np.asarray(cv2.cvtColor(grain(rng, height, width), cv2.COLOR_GRAY2BGR), np.uint8)
    else:
        noise = grain(rng, height, width * 3).reshape(height, width, 3)
    return np.asarray(cv2.addWeighted(image, 1.0, noise, scale, -127.5 * scale), np.uint8)


def _jpeg(image: Image, quality: int) -> Image:
    ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
