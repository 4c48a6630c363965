"""What `gpu_media.py` measures on: JPEGs of all kinds from photos, and videos whose frames say which they are."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from yoloship.images import read_image

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests")]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]

PHOTOS = ("bus.jpg", "zidane.jpg", "street.jpg")
RATE = 30
GRID = (4, 6)
BITS, CHECK = 16, 7
"""A frame says its number by which cells of a grid have a code: 16 bits, and the number modulo 7 in 3 more."""


def folder_of_photos(data: Path, folder: Path, count: int) -> list[Path]:
    """Files that take the three photos in turn; each is a file of its own."""
    photos = [(data / name).read_bytes() for name in PHOTOS]
    names = [folder / f"{number:05}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        name.write_bytes(photos[number % len(photos)])
    return names


def all_kinds(data: Path, folder: Path, count: int) -> list[tuple[str, Path]]:
    """JPEGs of every kind: sizes, samplings, qualities, forms that the GPU does not take, orientations, damage."""
    photos = [read_image(data / name) for name in PHOTOS]
    rng = np.random.default_rng(0)
    orders = [(number, int(rng.integers(1 << 30))) for number in range(count)]

    def made(order: tuple[int, int]) -> tuple[str, Path]:
        number, seed = order
        kind, file = _one_kind(photos[number % len(photos)], number // len(photos), np.random.default_rng(seed))
        path = folder / f"{number:05}.jpg"
        path.write_bytes(file)
        return kind, path

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(made, orders))


def _one_kind(photo: Image, number: int, rng: np.random.Generator) -> tuple[str, bytes]:
    from helpers import jpegs

    scale = float(rng.uniform(0.2, 1.2))
    high, wide = (max(8, round(side * scale) - int(rng.integers(2))) for side in photo.shape[:2])
    image = cv2.resize(photo, (wide, high), interpolation=cv2.INTER_AREA).astype(np.uint8)
    sampling = ("420", "422", "444")[int(rng.integers(3))]
    quality = int(rng.integers(30, 100))
    plain: Callable[..., bytes] = lambda **how: jpegs.encoded(image, sampling=sampling, quality=quality, **how)  # noqa: E731
    kinds: tuple[tuple[str, Callable[[], bytes]], ...] = (
        (sampling, plain),
        (sampling, plain),
        ("restart markers", lambda: plain(rst_interval=int(rng.integers(1, 40)))),
        ("optimised tables", lambda: plain(optimize=1)),
        ("grey", lambda: jpegs.pillow(image, "L")),
        ("progressive", lambda: plain(progressive=1)),
        ("CMYK", lambda: jpegs.pillow(image, "CMYK")),
        ("RGB", lambda: jpegs.pillow(image, keep_rgb=True)),
        ("turned", lambda: jpegs.pillow(image, orientation=int(rng.integers(2, 9)))),
        ("cut", lambda: _cut(plain(), rng)),
        ("flipped bit", lambda: _flipped(plain(), rng)),
    )
    kind, make = kinds[number % len(kinds)]
    return kind, make()


def _cut(file: bytes, rng: np.random.Generator) -> bytes:
    return file[: int(rng.integers(len(file) // 2, len(file) - 2))]


def _flipped(file: bytes, rng: np.random.Generator) -> bytes:
    """One bit of the entropy-coded data is another: some such files are sound, and decode to something else."""
    data = bytearray(file)
    data[int(rng.integers(max(640, len(data) // 3), len(data) - 2))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def views(data: Path, hw: tuple[int, int], count: int) -> Iterator[Image]:
    """A camera that moves over the street, with its noise."""
    photo = read_image(data / PHOTOS[2])
    high, wide = hw
    large = cv2.resize(photo, (wide + 300, high + 200)).astype(np.float32)
    noisy = np.clip(large + np.random.default_rng(3).normal(0, 5, large.shape), 0, 255).astype(np.uint8)
    for number in range(count):
        top, left = number % 200, 2 * number % 300
        yield np.ascontiguousarray(noisy[top : top + high, left : left + wide])


def encode(path: Path, frames: Iterable[Image], *, repeat: int = 1, preset: str = "veryfast", crf: int = 23) -> Path:
    """Write H.264 at 30 frames a second, a key frame a second; `repeat` writes all packets that often.

    B-frames are left out where packets repeat, so that times go on evenly.
    """
    import av

    coming = iter(frames)
    first = next(coming)
    packets: list[Any] = []
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE, options={"preset": preset, "crf": str(crf)})
        video.height, video.width = first.shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, RATE)
        video.codec_context.gop_size = RATE
        if repeat > 1:
            video.codec_context.max_b_frames = 0
        count = 0
        for image in _with_first(first, coming):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = count, Fraction(1, RATE)
            packets += [packet for packet in video.encode(frame) if packet.size]
            count += 1
        packets += [packet for packet in video.encode(None) if packet.size]
        for turn in range(repeat):
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.pts, again.dts = packet.pts + turn * count, packet.dts + turn * count
                again.time_base, again.is_keyframe, again.stream = packet.time_base, packet.is_keyframe, video
                out.mux(again)
    return path


def _with_first(first: Image, rest: Iterator[Image]) -> Iterator[Image]:
    yield first
    yield from rest


def numbered_frames(first: int, count: int) -> Iterator[Image]:
    """Frames of 480×640 that say their numbers by codes that the model in the package finds."""
    from helpers.code_videos import HW, codes

    pieces = codes(5, (45, 70))
    ground = np.random.default_rng(1).integers(105, 150, (12, 16, 3), np.uint8)
    backdrop = cv2.resize(ground, (HW[1], HW[0]), interpolation=cv2.INTER_CUBIC)
    for number in range(first, first + count):
        image = backdrop.copy()
        for cell in np.flatnonzero(_bits_of(number)).tolist():
            piece = pieces[cell % len(pieces)]
            top, left = _corner(cell, (piece.shape[0], piece.shape[1]))
            image[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
        yield image


def number_of(boxes_xyxy: npt.NDArray[np.float32]) -> int | None:
    """The number that a frame says; None if its check is wrong, or two boxes share a cell."""
    cells = [
        int((y1 + y2) / 2 // (480 / GRID[0])) * GRID[1] + int((x1 + x2) / 2 // (640 / GRID[1]))
        for x1, y1, x2, y2 in boxes_xyxy.tolist()
    ]
    if len(set(cells)) != len(cells):
        return None
    number = sum(1 << cell for cell in cells if cell < BITS)
    return number if set(cells) == set(np.flatnonzero(_bits_of(number)).tolist()) else None


def _bits_of(number: int) -> list[int]:
    return [number >> bit & 1 for bit in range(BITS)] + [number % CHECK >> bit & 1 for bit in range(3)]


def _corner(cell: int, piece_hw: tuple[int, int]) -> tuple[int, int]:
    row, column = divmod(cell, GRID[1])
    top = round((row + 0.5) * 480 / GRID[0] - piece_hw[0] / 2)
    left = round((column + 0.5) * 640 / GRID[1] - piece_hw[1] / 2)
    return max(0, min(top, 480 - piece_hw[0])), max(0, min(left, 640 - piece_hw[1]))


def numbered_videos(folder: Path, streams: int, each: int) -> list[Path]:
    """Videos whose frames count on from one video to the next. 1 is the first, so that no frame is empty."""

    def made(stream: int) -> Path:
        return encode(
            folder / f"numbered{stream}.mp4", numbered_frames(1 + stream * each, each), preset="ultrafast", crf=18
        )

    list(islice(numbered_frames(1, 1), 1))  # the codes are cut out once
    with ThreadPoolExecutor(streams) as pool:
        return list(pool.map(made, range(streams)))
