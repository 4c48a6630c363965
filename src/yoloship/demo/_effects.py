"""What lies over a scene: shadows, tape and stickers, and what light, lens, sensor and JPEG do to a picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from yoloship.demo import _paint as paint
from yoloship.demo._paint import Picture, Rng, chance

_Polygon = npt.NDArray[np.float64]
"""(N, 2) corners in scene pixels."""


def blend(below: Picture, above: Picture, alpha: npt.NDArray[np.uint8]) -> Picture:
    """Put one picture over another.

    Args:
        below: Read only.
        above: The same size; read only.
        alpha: (height, width) uint8, 255 where only `above` shows.
    """
    weight = cv2.cvtColor(alpha, cv2.COLOR_GRAY2BGR)
    over = cv2.multiply(above, weight, scale=1 / 255)
    under = cv2.multiply(below, cv2.bitwise_not(weight), scale=1 / 255)
    return np.asarray(cv2.add(over, under), np.uint8)


def drop_shadow(rng: Rng, picture: Picture, outline: _Polygon) -> None:
    """Darken what lies beside a surface; writes into the picture."""
    height, width = picture.shape[:2]
    depth = paint.log_uniform(rng, 2, 12)
    moved = (outline + rng.uniform(-1, 1, 2) * depth) / 4
    shade = np.full((height // 4 + 1, width // 4 + 1), 255, np.uint8)
    cv2.fillConvexPoly(shade, np.round(moved).astype(np.int32), int(rng.integers(90, 190)), cv2.LINE_AA)
    size = int(depth / 2) + 1
    shade = np.asarray(cv2.resize(cv2.blur(shade, (size, size)), (width, height)), np.uint8)
    picture[:] = cv2.multiply(picture, cv2.cvtColor(shade, cv2.COLOR_GRAY2BGR), scale=1 / 255)


def cover_shape(rng: Rng, quad: _Polygon) -> _Polygon:
    """The outline of something that lies partly over a code."""
    centre, reach = quad.mean(0), float(np.linalg.norm(quad - quad.mean(0), axis=1).max())
    target = centre + rng.uniform(-1, 1, 2) * reach * 0.8
    if chance(rng, 0.6):  # a strip: tape, cable, scratch
        angle = rng.uniform(0, np.pi)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]]) * reach * paint.log_uniform(rng, 0.02, 0.25)
        length = reach * rng.uniform(0.8, 4.0)
        ends = target - along * length, target + along * length
        return np.array([ends[0] - across, ends[1] - across, ends[1] + across, ends[0] + across])
    radius = reach * rng.uniform(0.15, 0.5)  # a sticker, a stain, a fingertip
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    stretch = rng.uniform(0.6, 1.0, 2)
    return np.asarray(target + np.column_stack([np.cos(angles), np.sin(angles)]) * radius * stretch)


def cover(rng: Rng, picture: Picture, mask: npt.NDArray[np.uint8]) -> None:
    """Paint a mask in a colour of tape, paper, rubber or skin; writes into the picture.

    Args:
        rng: Decides the material.
        picture: Written into.
        mask: (height, width) uint8, 255 inside.
    """
    x, y, width, height = cv2.boundingRect(mask)
    if not width or not height:
        return
    colours = (paint.kraft, paint.vivid, paint.paper, paint.muted, paint.ink, _skin)
    colour = colours[rng.integers(len(colours))](rng)
    above = paint.mottle(paint.flat(height, width, colour), paint.field(rng, height, width, 5), rng.uniform(3, 25))
    area = picture[y : y + height, x : x + width]
    opacity = 1.0 if chance(rng, 0.65) else rng.uniform(0.45, 0.9)
    alpha = np.asarray(cv2.convertScaleAbs(mask[y : y + height, x : x + width], alpha=opacity), np.uint8)
    area[:] = blend(area, above, alpha)


def _skin(rng: Rng) -> paint.Bgr:
    return paint.hsv(rng.uniform(0.03, 0.07), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.95))


def photograph(rng: Rng, picture: Picture, finest_module_px: float) -> Picture:
    """Light, lens, sensor and compression, each often absent.

    Args:
        rng: Decides what happens.
        picture: Read only.
        finest_module_px: The finest module of any code in the scene; blur stays within what it bears.
    """
    if chance(rng, 0.75):
        picture = _light(rng, picture)
    if chance(rng, 0.5):
        picture = _tone(rng, picture)
    if chance(rng, 0.5):
        picture = _blur(rng, picture, min(2.2, 0.3 + 0.55 * finest_module_px))
    if chance(rng, 0.6):
        picture = _sensor_noise(rng, picture, paint.log_uniform(rng, 2, 14))
    if chance(rng, 0.6):
        picture = _jpeg(picture, int(rng.integers(30, 96)))
    return picture


def _light(rng: Rng, picture: Picture) -> Picture:
    """A lamp to one side, hard shadows, glare."""
    height, width = picture.shape[:2]
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
    return np.asarray(cv2.multiply(picture, field, scale=1 / 165), np.uint8)


def _tone(rng: Rng, picture: Picture) -> Picture:
    """Contrast, brightness, and a cast of colour."""
    gain = rng.uniform(0.45, 1.15) * rng.uniform(0.93, 1.07, 3)
    lift = rng.uniform(-15, 70) if gain.mean() < 0.8 else rng.uniform(-20, 20)
    ramp = np.arange(256)[:, None] * gain + lift
    table = np.clip(ramp, 0, 255).astype(np.uint8)
    if chance(rng, 0.08):
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        picture = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    return np.asarray(cv2.LUT(picture, table[:, None, :].reshape(1, 256, 3)), np.uint8)


def _blur(rng: Rng, picture: Picture, most_px: float) -> Picture:
    """Out of focus, or shaken."""
    if chance(rng, 0.7):
        sigma = rng.uniform(0.3, most_px)
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), float(sigma)), np.uint8)
    length = int(rng.uniform(2, 1 + 2.5 * most_px))
    kernel = np.zeros((2 * length + 1,) * 2, np.float32)
    angle = rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    for step in np.linspace(-1, 1, 4 * length):
        x, y = np.round(length + step * reach).astype(int)
        kernel[y, x] = 1
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.uint8)


def _sensor_noise(rng: Rng, picture: Picture, sigma: float) -> Picture:
    """Uniform noise of this standard deviation: of brightness, or of each channel."""
    height, width = picture.shape[:2]
    scale = sigma / 73.9  # the deviation of uniform bytes
    if chance(rng, 0.5):
        noise = np.asarray(cv2.cvtColor(paint.grain(rng, height, width), cv2.COLOR_GRAY2BGR), np.uint8)
    else:
        noise = paint.grain(rng, height, width * 3).reshape(height, width, 3)
    return np.asarray(cv2.addWeighted(picture, 1.0, noise, scale, -127.5 * scale), np.uint8)


def _jpeg(picture: Picture, quality: int) -> Picture:
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
