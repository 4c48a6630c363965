"""JPEG files of many kinds, made from noise that is smooth enough for JPEG, and damaged ones."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from helpers.images import segment

if TYPE_CHECKING:
    import numpy.typing as npt

SAMPLINGS = {"444": 0x111111, "422": 0x211111, "420": 0x221111}


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8 with edges, gradients and some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 8) + 1, -(-width // 8) + 1, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, 3)
    noise = rng.integers(-6, 7, image.shape)
    return np.asarray(np.clip(image.astype(np.int16) + noise, 0, 255), np.uint8)


def encoded(image: npt.NDArray[np.uint8], *, sampling: str = "420", quality: int = 90, **options: int) -> bytes:
    """A baseline JPEG as OpenCV writes it; options are OpenCV's, without their prefix."""
    chosen = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling]]
    for name, value in options.items():
        chosen += [getattr(cv2, f"IMWRITE_JPEG_{name.upper()}"), value]
    done, data = cv2.imencode(".jpg", image, chosen)
    assert done
    return bytes(data.tobytes())


def pillow(image: npt.NDArray[np.uint8], mode: str = "RGB", orientation: int = 1, **options: Any) -> bytes:
    """A JPEG as Pillow writes it, perhaps with an Exif orientation."""
    out = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image[:, :, ::-1])).convert(mode)
    if orientation != 1:
        exif = Image.Exif()
        exif[274] = orientation
        options["exif"] = exif
    picture.save(out, "JPEG", **options)
    return out.getvalue()


def for_the_engine() -> dict[str, bytes]:
    """Files that the JPEG engine decodes, by what is special about them."""
    made = {
        f"{sampling} {height}x{width}": encoded(picture(height, width, height), sampling=sampling)
        for sampling in SAMPLINGS
        for height, width in ((64, 96), (131, 77), (1, 1), (9, 200))
    }
    made["grey"] = pillow(picture(90, 61), "L")
    made["restart markers"] = encoded(picture(100, 150), rst_interval=3)
    made["optimised tables"] = encoded(picture(100, 150), optimize=1, quality=60)
    made["low quality"] = encoded(picture(100, 150), quality=5)
    whole, other = encoded(picture(70, 100)), encoded(picture(33, 40, 1))
    made["another image behind it"] = whole + other
    made["bytes behind its end"] = whole + bytes(range(256))
    made["zeros before its end"] = whole[:-2] + bytes(300) + whole[-2:]
    made["an image in its Exif data"] = whole[:2] + segment(0xE1, b"Exif\0\0" + other) + whole[2:]
    for orientation in range(2, 9):
        made[f"orientation {orientation}"] = pillow(picture(60, 110, orientation), orientation=orientation)
    return made


def for_the_host() -> dict[str, bytes]:
    """Sound files that the host's reader decodes, by what is special about them."""
    image = picture(80, 120)
    return {
        "progressive": encoded(image, progressive=1),
        "CMYK": pillow(image, "CMYK"),
        "RGB": pillow(image, keep_rgb=True),
        "PNG": bytes(cv2.imencode(".png", image)[1].tobytes()),
    }


def damaged() -> dict[str, bytes]:
    """Files with a sound header that the host's reader refuses."""
    whole = encoded(picture(120, 160), quality=95)
    middle = 2 * len(whole) // 3
    end = b"\xff\xd9"
    return {
        "cut": whole[:middle] + end,
        "gap": whole[: middle - 300] + whole[middle:],
        "marker": whole[:middle] + b"\xff\xd3" + whole[middle:],
        "nothing": whole[: len(whole) // 3] + end,
    }
