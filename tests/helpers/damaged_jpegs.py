"""JPEGs of all the kinds that the GPU may decode, damaged in all the ways that occur, from a seed."""

from __future__ import annotations

import io
import random
import struct
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from helpers.images import segment
from yoloship.cuda.jpeg_scan import scan_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helpers.images import Pixels

END: Final = b"\xff\xd9"


def host_takes(data: bytes) -> bool:
    """Whether the host's reader decodes the file."""
    from yoloship.errors import ImageError
    from yoloship.images.reading import _jpeg

    try:
        _jpeg(data, "file")
    except ImageError:
        return False
    return True


def with_equal_tables(grey: bytes) -> bytes:
    """A grey file as one of three components, a third as wide, whose two DC and two AC tables are the same.

    Args:
        grey: Its width is a multiple of 24, so that three of its blocks become the blocks of an MCU.
    """
    frame, tables, scan = (grey.index(bytes([0xFF, marker])) for marker in (0xC0, 0xC4, 0xDA))
    height, width = struct.unpack_from(">HH", grey, frame + 5)
    assert width % 24 == 0
    first = grey[tables:scan]  # segments of one table each
    second = b"".join(b"\xff\xc4" + one[:2] + bytes([one[2] | 1]) + one[3:] for one in first.split(b"\xff\xc4")[1:])
    components = bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    return b"".join(
        [
            grey[:frame],
            segment(0xC0, struct.pack(">BHHB", 8, height, width // 3, 3) + components),
            first,
            second,
            segment(0xDA, bytes([3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0])),
            grey[scan + 10 :],
        ]
    )


class Jpegs:
    """Sound files, and damaged copies of them.

    Args:
        seed: The same one gives the same files.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.noise = np.random.default_rng(seed)

    def sound(self) -> bytes:
        """A small file: photo-like, flat, or noise; grey or in colour; with or without restart markers."""
        choice = self.random.choice
        options: dict[str, object] = {
            "quality": choice([5, 30, 60, 75, 90, 95, 100]),
            "optimize": choice([True, False, False]),
        }
        image = Image.fromarray(self._pixels())
        if choice([True, False, False, False, False]):
            image = image.convert("L")
        else:
            options["subsampling"] = choice([0, 1, 2])
        restarts = choice(["", "", "restart_marker_blocks", "restart_marker_rows"])
        if restarts:
            options[restarts] = choice([1, 2, 3, 5, 17, 40] if restarts.endswith("blocks") else [1, 2])
        out = io.BytesIO()
        try:
            image.save(out, "JPEG", **options)
        except OSError:  # Pillow's buffer is too small for some of them
            return self.sound()
        return out.getvalue()

    def _pixels(self) -> Pixels:
        height, width = self.random.randint(1, 300), self.random.randint(1, 300)
        kind = self.random.random()
        if kind < 0.2:
            return np.full((height, width, 3), self.random.randint(0, 255), np.uint8)
        if kind < 0.4:
            drawn = np.zeros((height, width, 3), np.uint8)
            drawn[height // 2 :, width // 3 :] = (200, 30, 90)
            drawn[::7] = 255
            return drawn
        grain = self.noise.integers(0, 256, (height, width, 3), np.uint8)
        if kind < 0.5:
            return grain
        coarse = self.noise.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        return np.asarray(smooth * 0.9 + grain * self.random.choice([0.0, 0.02, 0.1]), np.uint8)

    def large(self, height: int, width: int) -> bytes:
        """Noise, in color, without restart markers."""
        return _saved(self.noise.integers(0, 256, (height, width, 3), np.uint8), quality=75)

    def grey(self, height: int, width: int) -> bytes:
        """Noise without color."""
        return _saved(self.noise.integers(0, 256, (height, width), np.uint8), quality=75)

    def flat(self, height: int, width: int) -> bytes:
        """One color."""
        return _saved(np.full((height, width, 3), self.random.randint(0, 255), np.uint8), quality=75)

    def damaged(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """Copies of a file, each with one fault or peculiarity, and its name. The data is hit at random places."""
        header = scan_header(data)
        assert header is not None
        for name, change in _CHANGES.items():
            at = self.random.randint(header.data_at, max(header.data_at, len(data) - 3))
            yield name, change(self.random, data, at)


def _saved(pixels: Pixels, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


def _restarts(data: bytes, after: int) -> list[int]:
    return [at for at in range(after, len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]


def _bit(random: random.Random, data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << random.randint(0, 7)]) + data[at + 1 :]


def _zeros(random: random.Random, data: bytes, at: int) -> bytes:
    end = min(at + random.randint(1, 50), len(data))
    return data[:at] + bytes(end - at) + data[end:]


def _restart_number(random: random.Random, data: bytes, at: int) -> bytes:
    found = _restarts(data, at) or [len(data) - 2]
    place = random.choice(found)
    return data[: place + 1] + bytes([0xD0 + random.randint(0, 7)]) + data[place + 2 :]


def _restart_padding(random: random.Random, data: bytes, at: int) -> bytes:
    found = _restarts(data, at)
    if not found:
        return data
    place = random.choice(found)
    return data[:place] + bytes(random.choice([1, 2, 9])) + data[place:]


def _size(random: random.Random, data: bytes, at: int) -> bytes:
    del at
    return _bit(random, data, data.find(b"\xff\xc0") + 5 + random.randint(0, 3))


def _header(random: random.Random, data: bytes, at: int) -> bytes:
    del at
    return _bit(random, data, random.randint(2, data.find(b"\xff\xda") + 8))


_CHANGES: Final[dict[str, Callable[[random.Random, bytes, int], bytes]]] = {
    "sound": lambda _random, data, _at: data,
    "cut": lambda _random, data, at: data[:at],
    "cut, with an end": lambda _random, data, at: data[:at] + END,
    "without an end": lambda _random, data, _at: data[:-2],
    "bit": _bit,
    "zeros": _zeros,
    "gap": lambda random, data, at: data[:at] + data[at + random.choice([1, 1, 2, 10, 300]) :],
    "inserted": lambda random, data, at: data[:at] + random.randbytes(random.choice([1, 2, 9, 100])) + data[at:],
    "marker": lambda random, data, at: data[:at] + bytes([0xFF, random.randint(0xC0, 0xFF)]) + data[at:],
    "0xFF": lambda _random, data, at: data[:at] + b"\xff" + data[at + 1 :],
    "padded with zeros": lambda random, data, _at: data[:-2] + bytes(random.choice([1, 9, 300, 5000])) + END,
    "padded with others": lambda random, data, _at: data[:-2] + random.randbytes(random.choice([1, 9, 300])) + END,
    "more behind the end": lambda random, data, _at: data + random.randbytes(random.choice([1, 100, 3000])),
    "fill bytes": lambda random, data, _at: data[:-2] + b"\xff" * random.choice([1, 2, 3]) + END,
    "restart at the end": lambda random, data, _at: data[:-2] + bytes([0xFF, 0xD0 + random.randint(0, 7)]) + END,
    "restart number": _restart_number,
    "restart padding": _restart_padding,
    "size": _size,
    "header": _header,
}
