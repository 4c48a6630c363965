"""Flat things that codes are printed on, and things that resemble a code but are not one.

A surface is painted straight on, in its own pixels; the scene then turns it in space. It says exactly where its codes
are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from yoloship.demo import _paint as paint
from yoloship.demo import codes
from yoloship.demo._paint import Bgr, Image, Rng, chance

if TYPE_CHECKING:
    from collections.abc import Callable


Cell: TypeAlias = tuple[int, int, int, int]
"""x, y, width, height in surface pixels."""


def look_alike(rng: Rng, image: Image, cell: Cell, colours: tuple[Bgr, Bgr]) -> None:
    """Something that resembles a code and is none, coarse enough to be told apart; writes into the image."""
    x, y, width, height = cell
    if min(width, height) < 24:
        return
    area = image[y : y + height, x : x + width]
    paint.fill(area, colours[1])
    _LOOK_ALIKES[rng.integers(len(_LOOK_ALIKES))](rng, area, colours[0])


def _checkerboard(rng: Rng, area: Image, colour: Bgr) -> None:
    step = int(rng.integers(6, max(7, min(area.shape[:2]) // 4)))
    rows, columns = np.ogrid[: area.shape[0], : area.shape[1]]
    area[(rows // step + columns // step) % 2 == 0] = colour


def _stripes(rng: Rng, area: Image, colour: Bgr) -> None:
    """Equal bars: regular where a barcode is not."""
    step = int(rng.integers(4, max(5, min(area.shape[:2]) // 4)))
    rows, columns = np.ogrid[: area.shape[0], : area.shape[1]]
    slope = int(rng.integers(-1, 2))
    if chance(rng, 0.3):
        rows, columns = columns, rows
    area[((columns + slope * rows) // step) % 2 == 0] = colour


def _table(rng: Rng, area: Image, colour: Bgr) -> None:
    height, width = area.shape[:2]
    step_y, step_x = int(rng.integers(9, 24)), int(rng.integers(14, 80))
    for top in range(0, height, step_y):
        cv2.line(area, (0, top), (width, top), colour, 1)
        if step_x > 30:
            for left in range(0, width - step_x, step_x):
                text = paint.letters(rng, int(rng.integers(2, 6)))
                paint.text_line(area, text, (left + 3, top + 2, step_x - 6, step_y - 4), colour, 0)
    for left in range(0, width, step_x):
        cv2.line(area, (left, 0), (left, height), colour, 1)


def _dots(rng: Rng, area: Image, colour: Bgr) -> None:
    step = int(rng.integers(8, 20))
    for top in range(step // 2, area.shape[0], step):
        for left in range(step // 2, area.shape[1], step):
            cv2.circle(area, (left, top), max(1, round(step * 0.3)), colour, cv2.FILLED, cv2.LINE_AA)


def _crossword(rng: Rng, area: Image, colour: Bgr) -> None:
    """Random cells with ruled lines between them: no finder pattern, no solid border."""
    step = int(rng.integers(9, 20))
    rows, columns = area.shape[0] // step, area.shape[1] // step
    for row, column in zip(*np.nonzero(rng.random((rows, columns)) < rng.uniform(0.15, 0.4)), strict=True):
        corner = int(column) * step, int(row) * step
        cv2.rectangle(area, corner, (corner[0] + step, corner[1] + step), colour, cv2.FILLED)
    for place in range(0, max(area.shape[:2]), step):
        cv2.line(area, (0, place), (columns * step, place), colour, 1) if place <= rows * step else None
        cv2.line(area, (place, 0), (place, rows * step), colour, 1) if place <= columns * step else None


def _rings(rng: Rng, area: Image, colour: Bgr) -> None:
    """Nested squares or circles, as a finder pattern or a target has."""
    height, width = area.shape[:2]
    half, step = min(height, width) // 2 - 2, int(rng.integers(4, 14))
    square = chance(rng, 0.5)
    for inset in range(0, half - 2, 2 * step):
        radius = half - inset
        if square:
            corner = (width // 2 - radius, height // 2 - radius)
            cv2.rectangle(area, corner, (width // 2 + radius, height // 2 + radius), colour, max(1, step // 2))
        else:
            cv2.circle(area, (width // 2, height // 2), radius, colour, max(1, step // 2), cv2.LINE_AA)


def _pictogram(rng: Rng, area: Image, colour: Bgr) -> None:
    """A sign: arrows, a glass, a frame."""
    height, width = area.shape[:2]
    side, thick = min(height, width), max(2, min(height, width) // 14)
    cv2.rectangle(area, (thick, thick), (side - thick, side - thick), colour, thick)
    for shift in (side // 3, side * 2 // 3):
        cv2.arrowedLine(area, (shift, side * 4 // 5), (shift, side // 5), colour, thick, cv2.LINE_AA, 0, 0.3)
    if chance(rng, 0.4):
        cv2.line(area, (side // 5, side * 17 // 20), (side * 4 // 5, side * 17 // 20), colour, thick)


def _lines_of_text(rng: Rng, area: Image, colour: Bgr) -> None:
    paint.text_block(rng, area, (0, 0, area.shape[1], area.shape[0]), colour)


_LOOK_ALIKES: tuple[Callable[[Rng, Image, Bgr], None], ...] = (
    _checkerboard,
    _stripes,
    _stripes,
    _table,
    _dots,
    _crossword,
    _rings,
    _pictogram,
    _lines_of_text,
)


Kind: TypeAlias = Literal["qr_code", "marker", "barcode"]
KINDS: tuple[Kind, ...] = ("qr_code", "marker", "barcode")

QR_POOL = 384
"""QR texts of a pool; encoding one costs milliseconds, so scenes draw from a pool and patterns are cached."""

MIN_SIDE_PX = 16.0
"""No code is made whose box in the scene has a shorter side."""
MIN_MODULE_PX = {"qr_code": 0.85, "marker": 2.0, "barcode": 0.55}
"""Nor one whose modules are finer in the scene: nobody could tell it from a grey patch."""


@dataclass(frozen=True, slots=True)
class Print:
    """A code on a surface: its modules' rectangle in surface pixels (edges, quiet zone excluded)."""

    kind: Kind
    text: str
    rect_xyxy: tuple[int, int, int, int]
    module_px: float


@dataclass(slots=True)
class Surface:
    """A painted rectangle.

    Attributes:
        image: (height, width, 3) uint8 BGR; being painted until the scene takes it.
        px_per_scene_px: Its resolution over the scene's.
        pool: Which pool QR texts come from, so that held-out scenes show texts that training never saw.
        prints: Codes on it so far.
    """

    image: Image
    px_per_scene_px: float
    pool: int
    prints: list[Print] = field(default_factory=list)


def qr_text(pool: int, index: int) -> str:
    """The text number `index` of a pool: addresses, serial numbers and tickets of various lengths."""
    number = pool * QR_POOL + index
    forms = (
        f"https://yoloship.example/p/{number:05d}",
        f"PKG-{number * 7919 % 1000003:06d}",
        f"https://yoloship.example/track?id={number * 104729 % 99999989:08d}&to=dock-{number % 37}",
        f"TICKET {number % 97}-{number * 31 % 1009}",
        f"LOT{number:04d}",
        f"WIFI:T:WPA;S:guest-{number};P:{number * 7907 % 999983:06d}secret;;",
    )
    return forms[number % len(forms)]


def print_code(rng: Rng, surface: Surface, cell: Cell, kind: Kind, colours: tuple[Bgr, Bgr]) -> bool:
    """Print a code as large as a cell allows, with its quiet zone; False where it would be too small to read.

    Args:
        rng: Decides what it says and where in the cell it sits.
        surface: Painted into; the print is added to it.
        cell: Where.
        kind: Of code.
        colours: Of ink and paper.
    """
    text, pattern, quiet = _pattern(rng, surface.pool, kind)
    x, y, width, height = cell
    caption = 0
    if kind == "barcode":
        upright = width < height
        if upright:
            width, height = height, width
        modules = pattern.shape[1] + 2 * quiet
        module_px = min(width / modules, height / modules * 9)
        code_width = round(module_px * pattern.shape[1])
        tallest = min(height * 0.94, code_width * rng.uniform(0.25, 0.75))
        if chance(rng, 0.7):
            caption = round(tallest * 0.2)
        code_height = round(tallest - caption)
        margin_x, margin_y = round(quiet * module_px), round(0.03 * height)
    else:
        upright = False
        modules = pattern.shape[0] + 2 * quiet
        module_px = min(width, height) / modules
        code_width = code_height = round(module_px * pattern.shape[0])
        margin_x = margin_y = round(quiet * module_px)
    resolution = surface.px_per_scene_px * 1.1
    if min(code_width, code_height) < MIN_SIDE_PX * resolution or module_px < MIN_MODULE_PX[kind] * resolution:
        return False
    tile = paint.flat(code_height + caption + 2 * margin_y, code_width + 2 * margin_x, colours[1])
    shape = (code_height, code_width)
    shades = _render_bars(text, pattern, shape) if kind == "barcode" else _render(pattern, shape)
    table = np.linspace(colours[0], colours[1], 256).astype(np.uint8)
    tile[margin_y : margin_y + code_height, margin_x : margin_x + code_width] = table[shades]
    if caption:
        box = (margin_x + code_width // 8, margin_y + code_height, code_width * 3 // 4, caption)
        paint.text_line(tile, text, box, colours[0], cv2.FONT_HERSHEY_SIMPLEX)
    rect = (margin_x, margin_y, margin_x + code_width, margin_y + code_height)
    if upright:
        rect = (rect[1], tile.shape[1] - rect[2], rect[3], tile.shape[1] - rect[0])
        tile = np.ascontiguousarray(np.rot90(tile))
    free_x, free_y = cell[2] - tile.shape[1], cell[3] - tile.shape[0]
    if free_x < 0 or free_y < 0:
        return False
    left, top = x + round(free_x * rng.random()), y + round(free_y * rng.random())
    surface.image[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    where = (left + rect[0], top + rect[1], left + rect[2], top + rect[3])
    surface.prints.append(Print(kind, text, where, module_px))
    return True


def _pattern(rng: Rng, pool: int, kind: Kind) -> tuple[str, codes.Modules, int]:
    """Text, modules and the quiet zone in modules."""
    if kind == "qr_code":
        text = qr_text(pool, int(rng.integers(QR_POOL)))
        return text, codes.qr_code(text, "M" if len(text) % 2 else "L"), int(rng.integers(2, 5))
    if kind == "marker":
        name, _, count = codes.MARKER_DICTIONARIES[rng.integers(len(codes.MARKER_DICTIONARIES))]
        number = int(rng.integers(count))
        return f"{name.removeprefix('DICT_')} {number}", codes.marker(name, number), int(rng.integers(1, 3))
    if chance(rng, 0.5):
        digits = paint.letters(rng, 12, "0123456789")
        return digits + codes.ean_check_digit(digits), codes.ean_13(digits), int(rng.integers(7, 12))
    text = paint.letters(rng, int(rng.integers(4, 13)))
    return text, codes.code_128(text), int(rng.integers(7, 11))


def _render(pattern: codes.Modules, shape_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Modules as an anti-aliased image: an exact multiple first, then area averaging."""
    rows, columns = pattern.shape
    high, wide = -(-shape_hw[0] // rows), -(-shape_hw[1] // columns)
    large = np.repeat(np.repeat(pattern, high, axis=0), wide, axis=1)
    if large.shape == shape_hw:
        return large
    return np.asarray(cv2.resize(large, shape_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _render_bars(text: str, pattern: codes.Modules, shape_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Bars; those of EAN-13 that guard the ends and the middle reach lower."""
    height, width = shape_hw
    row = _render(pattern, (1, width))
    bars = np.repeat(row, height, axis=0)
    if len(text) == 13 and text.isdecimal():
        guards = pattern.copy()
        guards[:, 3:45] = guards[:, 50:92] = 255
        low = round(height * 0.92)
        bars[low:] = _render(guards, (1, width))
    return bars


def blank(size_hw: tuple[int, int], px_per_scene_px: float, pool: int) -> Surface:
    """A white rectangle, to be painted."""
    return Surface(paint.flat(*size_hw, (255.0, 255.0, 255.0)), px_per_scene_px, pool)


def tag(rng: Rng, surface: Surface, kind: Kind) -> None:
    """A single code, as on a sticker or a plate."""
    height, width = surface.image.shape[:2]
    colours = paint.ink(rng), paint.paper(rng)
    paint.fill(surface.image, colours[1])
    pad = round(min(height, width) * rng.uniform(0, 0.08))
    if chance(rng, 0.25):
        pad = max(pad, 6)
        cv2.rectangle(surface.image, (1, 1), (width - 2, height - 2), paint.vivid(rng), max(1, pad // 2))
    cell = (pad, pad, width - 2 * pad, height - 2 * pad)
    if kind != "barcode" and height > width * 1.15:
        paint.headline(
            rng, surface.image, (pad, height - (height - width), width - 2 * pad, height - width), colours[0]
        )
        cell = (pad, pad, width - 2 * pad, width - 2 * pad)
    # A marker is the coarsest, and so what fits where nothing else does.
    if not print_code(rng, surface, cell, kind, colours) and not print_code(rng, surface, cell, "marker", colours):
        paint.text_block(rng, surface.image, cell, colours[0])


def label(rng: Rng, surface: Surface) -> None:
    """A label or a page: a grid of texts, codes, tables and look-alikes on paper."""
    height, width = surface.image.shape[:2]
    colours = paint.ink(rng), paint.paper(rng)
    paint.fill(surface.image, colours[1])
    margin = max(3, round(min(height, width) * 0.04))
    ruled = chance(rng, 0.5)
    smallest = log_paper_cell(rng, surface)
    for cell in _split(rng, (margin, margin, width - 2 * margin, height - 2 * margin), smallest):
        _fill(rng, surface, cell, colours)
        if ruled:
            x, y, wide, high = cell
            cv2.rectangle(surface.image, (x, y), (x + wide, y + high), colours[0], 1)
    if chance(rng, 0.4):
        cv2.rectangle(surface.image, (0, 0), (width - 1, height - 1), colours[0], max(1, margin // 3))


def log_paper_cell(rng: Rng, surface: Surface) -> float:
    """A shortest side for the cells of a label, in surface pixels: large enough that codes fit."""
    return paint.log_uniform(rng, 40, 150) * surface.px_per_scene_px


def _split(rng: Rng, cell: Cell, smallest: float) -> list[Cell]:
    """Cut a cell in two, again and again, while both halves stay large enough."""
    x, y, width, height = cell
    along_x = width > height * rng.uniform(0.7, 1.8)
    extent = width if along_x else height
    if extent < 2 * smallest or (extent < 4 * smallest and chance(rng, 0.2)):
        return [cell]
    cut = round(extent * rng.uniform(0.35, 0.65))
    gap = 4
    if along_x:
        halves = [(x, y, cut - gap, height), (x + cut + gap, y, width - cut - gap, height)]
    else:
        halves = [(x, y, width, cut - gap), (x, y + cut + gap, width, height - cut - gap)]
    return [part for half in halves for part in _split(rng, half, smallest)]


def _fill(rng: Rng, surface: Surface, cell: Cell, colours: tuple[Bgr, Bgr]) -> None:
    """Put something into a cell: a code in about every second one."""
    x, y, width, height = cell
    if chance(rng, 0.52):
        slender = max(width, height) > 1.8 * min(width, height)
        weights = (0.15, 0.15, 0.7) if slender else (0.4, 0.32, 0.28)
        kind = KINDS[rng.choice(3, p=weights)]
        if print_code(rng, surface, cell, kind, colours):
            return
    inner = (x + 3, y + 3, width - 6, height - 6)
    if min(inner[2:]) < 8:
        return
    choice = rng.random()
    if choice < 0.45:
        paint.text_block(rng, surface.image, inner, colours[0])
    elif choice < 0.65:
        paint.headline(rng, surface.image, inner, colours[0] if chance(rng, 0.6) else paint.vivid(rng))
    elif choice < 0.95:
        look_alike(rng, surface.image, inner, colours)


def parcel(rng: Rng, surface: Surface) -> None:
    """A cardboard face: tape, printed signs, and labels stuck on."""
    height, width = surface.image.shape[:2]
    base = paint.kraft(rng) if chance(rng, 0.8) else paint.muted(rng)
    paint.fill(surface.image, base)
    streaks = rng.integers(0, 256, (3, max(8, width // 6)), dtype=np.uint8)
    surface.image = paint.mottle(
        surface.image, np.asarray(cv2.resize(streaks, (width, height)), np.uint8), rng.uniform(2, 9)
    )
    if chance(rng, 0.7):
        blue, green, red = (min(255.0, part * rng.uniform(0.85, 1.25)) for part in base)
        tape = blue, green, red
        if chance(rng, 0.5):
            left = round(width * rng.uniform(0.1, 0.7))
            surface.image[:, left : left + max(10, width // 8)] = tape
        else:
            top = round(height * rng.uniform(0.1, 0.7))
            surface.image[top : top + max(10, height // 8)] = tape
    dark = 0.35 * base[0], 0.35 * base[1], 0.35 * base[2]
    if chance(rng, 0.6):
        paint.headline(rng, surface.image, (width // 16, height // 24, width // 2, height // 7), dark)
    if chance(rng, 0.4):
        look_alike(rng, surface.image, (width * 3 // 4, height * 3 // 4, width // 5, height // 5), (dark, base))
    if chance(rng, 0.2):
        kind = KINDS[rng.integers(3)]
        print_code(rng, surface, (width // 20, height * 2 // 3, width // 3, height // 4), kind, (dark, base))
    _stick(rng, surface, label if chance(rng, 0.75) else _tag_any, rng.uniform(0.45, 0.85))


def package(rng: Rng, surface: Surface) -> None:
    """A product's face: colour blocks, a brand, and a code on a patch."""
    height, width = surface.image.shape[:2]
    first = paint.vivid(rng)
    surface.image[:] = paint.gradient(rng, height, width, first, paint.vivid(rng) if chance(rng, 0.5) else first)
    for _ in range(int(rng.integers(1, 5))):
        centre = int(rng.integers(width)), int(rng.integers(height))
        size, colour = int(min(height, width) * rng.uniform(0.1, 0.5)), paint.vivid(rng)
        if chance(rng, 0.5):
            cv2.circle(surface.image, centre, size // 2, colour, cv2.FILLED, cv2.LINE_AA)
        else:
            cv2.rectangle(surface.image, centre, (centre[0] + size, centre[1] + size // 2), colour, cv2.FILLED)
    pale = paint.hsv(rng.random(), 0.1, 1.0)
    paint.headline(rng, surface.image, (width // 12, height // 14, width * 5 // 6, height // 4), pale)
    if chance(rng, 0.5):
        cell = (width // 12, height * 2 // 5, width // 2, height // 5)
        paint.text_block(rng, surface.image, cell, pale)
    if chance(rng, 0.4):
        look_alike(rng, surface.image, (width * 2 // 3, height // 3, width // 4, height // 4), (paint.ink(rng), pale))
    _stick(rng, surface, _tag_any, rng.uniform(0.3, 0.6))


def poster(rng: Rng, surface: Surface) -> None:
    """A title, shapes, lines of text and a code to scan."""
    height, width = surface.image.shape[:2]
    bright = chance(rng, 0.5)
    ground = paint.hsv(rng.random(), rng.uniform(0.05, 0.3), 0.95) if bright else paint.vivid(rng)
    surface.image[:] = paint.gradient(rng, height, width, ground, paint.vivid(rng) if chance(rng, 0.4) else ground)
    for _ in range(int(rng.integers(2, 7))):
        points = rng.uniform(-0.2, 1.2, (int(rng.integers(3, 6)), 2)) * (width, height * 0.7)
        cv2.fillPoly(surface.image, [points.astype(np.int32)], paint.vivid(rng), cv2.LINE_AA)
    colour = paint.ink(rng) if bright else paint.hsv(rng.random(), 0.1, 1.0)
    paint.headline(rng, surface.image, (width // 14, height // 20, width * 6 // 7, height // 5), colour)
    paint.text_block(rng, surface.image, (width // 14, height // 3, width // 2, height // 4), colour)
    if chance(rng, 0.3):
        look_alike(rng, surface.image, (width * 5 // 8, height // 3, width // 3, width // 3), (paint.ink(rng), ground))
    _stick(rng, surface, _tag_any, rng.uniform(0.25, 0.6))
    if chance(rng, 0.35):
        _stick(rng, surface, _tag_any, rng.uniform(0.2, 0.4))


def _tag_any(rng: Rng, surface: Surface) -> None:
    tag(rng, surface, KINDS[rng.integers(3)])


def _stick(rng: Rng, surface: Surface, make: Callable[[Rng, Surface], None], share: float) -> None:
    """Paste a smaller surface where it covers no code yet."""
    height, width = surface.image.shape[:2]
    sticker_width = round(width * share)
    sticker_height = round(min(height * 0.9, sticker_width * rng.uniform(0.5, 1.3)))
    left, top = round((width - sticker_width) * rng.random()), round((height - sticker_height) * rng.uniform(0.3, 1.0))
    right, bottom = left + sticker_width, top + sticker_height
    for earlier in surface.prints:
        x1, y1, x2, y2 = earlier.rect_xyxy
        if left < x2 and x1 < right and top < y2 and y1 < bottom:
            return
    sticker = blank((sticker_height, sticker_width), surface.px_per_scene_px, surface.pool)
    make(rng, sticker)
    surface.image[top:bottom, left:right] = sticker.image
    for item in sticker.prints:
        x1, y1, x2, y2 = item.rect_xyxy
        surface.prints.append(Print(item.kind, item.text, (x1 + left, y1 + top, x2 + left, y2 + top), item.module_px))
