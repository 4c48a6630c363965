"""What stands behind: walls, floors, wood, bricks, belts and clutter. None of it bears a code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from yoloship.demo._paint import (
    Picture,
    Rng,
    chance,
    field,
    flat,
    gradient,
    grain,
    headline,
    hsv,
    kraft,
    log_uniform,
    mottle,
    muted,
    vivid,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def backdrop(rng: Rng, height: int, width: int) -> Picture:
    """A background of a random kind."""
    return _BACKDROPS[rng.integers(len(_BACKDROPS))](rng, height, width)


def wall(rng: Rng, height: int, width: int) -> Picture:
    """Plaster or paint: a slow gradient with stains."""
    first, second = muted(rng), muted(rng)
    picture = gradient(rng, height, width, first, second)
    picture = mottle(picture, field(rng, height, width, int(rng.integers(3, 30))), rng.uniform(3, 25))
    return mottle(picture, grain(rng, height, width), rng.uniform(0, 8))


def concrete(rng: Rng, height: int, width: int) -> Picture:
    """Noise of several octaves."""
    picture = flat(height, width, hsv(rng.random(), rng.uniform(0, 0.12), rng.uniform(0.3, 0.75)))
    for cells in (4, 16, 64):
        picture = mottle(picture, field(rng, height, width, cells), rng.uniform(8, 22))
    return mottle(picture, grain(rng, height, width), rng.uniform(4, 14))


def wood(rng: Rng, height: int, width: int) -> Picture:
    """Planks with grain along them."""
    picture = flat(height, width, hsv(rng.uniform(0.04, 0.1), rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.8)))
    fibres = rng.integers(0, 256, (height // 2, 5), dtype=np.uint8)
    picture = mottle(
        picture, np.asarray(cv2.resize(fibres, (width, height), interpolation=cv2.INTER_LINEAR)), rng.uniform(8, 25)
    )
    step = int(rng.integers(50, 200))
    for top in range(int(rng.integers(step)), height, step):
        cv2.line(picture, (0, top), (width, top), (20, 25, 30), int(rng.integers(1, 4)), cv2.LINE_AA)
    turned = chance(rng, 0.5) and height == width
    return np.ascontiguousarray(picture.transpose(1, 0, 2)) if turned else picture


def bricks(rng: Rng, height: int, width: int) -> Picture:
    """Bricks or tiles in rows, each of its own shade."""
    base = np.array(hsv(rng.uniform(0, 0.12), rng.uniform(0.05, 0.6), rng.uniform(0.35, 0.8)))
    picture = flat(height, width, muted(rng))
    tall, gap = int(rng.integers(18, 70)), int(rng.integers(1, 5))
    wide = int(tall * rng.uniform(1.0, 3.0))
    offset = wide // 2 if chance(rng, 0.7) else 0
    for row, top in enumerate(range(0, height, tall)):
        for left in range(-(row % 2) * offset, width, wide):
            shade = tuple(np.clip(base * rng.uniform(0.85, 1.12), 0, 255).tolist())
            cv2.rectangle(picture, (left, top), (left + wide - gap - 1, top + tall - gap - 1), shade, cv2.FILLED)
    return mottle(picture, field(rng, height, width, 40), rng.uniform(4, 18))


def belt(rng: Rng, height: int, width: int) -> Picture:
    """A conveyor belt or a road: dark, with bands and hazard stripes."""
    picture = flat(height, width, hsv(rng.random(), 0.1, rng.uniform(0.12, 0.35)))
    edge = int(width * rng.uniform(0.05, 0.25))
    rail = hsv(rng.random(), 0.1, rng.uniform(0.4, 0.8))
    cv2.rectangle(picture, (0, 0), (edge, height), rail, cv2.FILLED)
    cv2.rectangle(picture, (width - edge, 0), (width, height), rail, cv2.FILLED)
    if chance(rng, 0.5):
        step = int(rng.integers(24, 60))
        for top in range(-edge, height + edge, 2 * step):
            stripe = np.array([(0, top), (edge, top - edge), (edge, top - edge + step), (0, top + step)], np.int32)
            cv2.fillPoly(picture, [stripe], (20, 200, 240))
    for top in range(int(rng.integers(40)), height, int(rng.integers(40, 160))):
        cv2.line(picture, (edge, top), (width - edge, top), (25, 25, 25), 2, cv2.LINE_AA)
    return mottle(picture, field(rng, height, width, 60), rng.uniform(4, 14))


def clutter(rng: Rng, height: int, width: int) -> Picture:
    """Boxes, discs and strokes in the colours of a shop out of focus."""
    picture = gradient(rng, height, width, muted(rng), muted(rng))
    for _ in range(int(rng.integers(8, 30))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size = int(log_uniform(rng, 12, 220))
        colour = vivid(rng) if chance(rng, 0.5) else muted(rng)
        kind = rng.integers(3)
        if kind == 0:
            cv2.rectangle(picture, (x, y), (x + size, y + int(size * rng.uniform(0.3, 2))), colour, cv2.FILLED)
        elif kind == 1:
            cv2.circle(picture, (x, y), size // 2, colour, cv2.FILLED, cv2.LINE_AA)
        else:
            cv2.line(picture, (x, y), (int(rng.integers(width)), int(rng.integers(height))), colour, size // 8 + 1)
    if chance(rng, 0.6):
        picture = np.asarray(cv2.blur(picture, (int(rng.integers(3, 25)),) * 2), np.uint8)
    return mottle(picture, grain(rng, height, width), rng.uniform(0, 8))


def shelves(rng: Rng, height: int, width: int) -> Picture:
    """Boards with packages on them, seen from the front."""
    picture = flat(height, width, hsv(rng.random(), 0.15, rng.uniform(0.12, 0.45)))
    board = hsv(rng.random(), rng.uniform(0, 0.3), rng.uniform(0.5, 0.9))
    step, thick = int(rng.integers(110, 260)), int(rng.integers(8, 24))
    for bottom in range(int(rng.integers(40, step)), height + step, step):
        x = int(rng.integers(-40, 20))
        while x < width:
            wide, tall = int(rng.integers(40, 150)), int(step * rng.uniform(0.45, 0.88))
            colour = kraft(rng) if chance(rng, 0.4) else vivid(rng)
            top, right = bottom - tall, x + wide - 3
            cv2.rectangle(picture, (x, top), (right, bottom), colour, cv2.FILLED)
            side = tuple(0.7 * part for part in colour)
            cv2.rectangle(picture, (right - wide // 8, top), (right, bottom), side, cv2.FILLED)
            if chance(rng, 0.6):
                blue, green, red = (255 - 0.2 * (255 - part) for part in colour)
                headline(rng, picture, (x + 6, top + tall // 6, wide * 2 // 3, tall // 4), (blue, green, red))
            if chance(rng, 0.4):
                band = vivid(rng)
                cv2.rectangle(picture, (x, bottom - tall // 3), (right, bottom - tall // 5), band, cv2.FILLED)
            x += wide + int(rng.integers(0, 26))
        cv2.rectangle(picture, (0, bottom), (width, bottom + thick), board, cv2.FILLED)
        cv2.rectangle(picture, (0, bottom + thick), (width, bottom + thick + 6), (20, 20, 20), cv2.FILLED)
    return mottle(picture, field(rng, height, width, 12), rng.uniform(4, 20))


_BACKDROPS: tuple[Callable[[Rng, int, int], Picture], ...] = (
    wall,
    concrete,
    wood,
    bricks,
    belt,
    clutter,
    shelves,
    shelves,
)
