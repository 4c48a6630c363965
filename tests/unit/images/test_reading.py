"""Reading images: every pixel form, every way a file can be wrong."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from helpers.images import chunk, smooth
from yoloship.errors import ImageError, InputError
from yoloship.images import ImageLimits, open_image, read_image
from yoloship.images.reading import bytes_of_file

Pixels = npt.NDArray[np.uint8]


def pil(image: Pixels) -> Image.Image:
    return Image.fromarray(image[:, :, ::-1])


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def encoded(suffix: str, array: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    done, data = cv2.imencode(suffix, array)
    assert done
    return bytes(data.tobytes())


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size; its data is far too short for it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_a_lossless_image_comes_back_exactly(kind: str) -> None:
    image = smooth()
    assert np.array_equal(read_image(saved(pil(image), kind)), image)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("AVIF", {})])
def test_a_lossy_image_comes_back_nearly(kind: str, options: dict[str, object]) -> None:
    image = smooth()
    read = read_image(saved(pil(image), kind, **options))
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).max() <= 24


def test_a_path_a_string_and_bytes_give_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(pil(smooth()), "PNG"))
    assert np.array_equal(read_image(path), read_image(str(path)))
    assert np.array_equal(read_image(path), read_image(path.read_bytes()))


def test_a_name_beyond_ascii_is_read(tmp_path: Path) -> None:
    path = tmp_path / "фото 照片 ü.png"
    path.write_bytes(saved(pil(smooth()), "PNG"))
    assert np.array_equal(read_image(path), smooth())


def test_the_content_decides_the_format_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(saved(pil(smooth()), "PNG"))
    assert np.array_equal(read_image(path), smooth())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = smooth()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"quality": 95} if kind in ("JPEG", "WEBP") else {})
    read = read_image(saved(pil(np.ascontiguousarray(stored)), kind, **options))
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).max() <= 24


def test_greyscale_is_repeated_over_three_channels() -> None:
    grey = smooth()[:, :, 0]
    assert np.array_equal(read_image(encoded(".png", grey)), np.dstack([grey] * 3))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_are_scaled_by_their_full_range(suffix: str) -> None:
    image = smooth()
    assert np.array_equal(read_image(encoded(suffix, image.astype(np.uint16) * 257)), image)


def test_alpha_is_dropped_and_the_colour_beneath_it_stays() -> None:
    image = smooth()
    with_alpha = np.dstack([image, np.zeros(image.shape[:2], np.uint8)])
    assert np.array_equal(read_image(encoded(".png", with_alpha)), image)


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    image = smooth()
    read = read_image(saved(pil(image).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(read.astype(int) - image).max() <= 24


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_of_several_images_in_a_file_the_first_counts(kind: str) -> None:
    first, second = Image.new("RGB", (20, 10), (250, 0, 0)), Image.new("RGB", (20, 10), (0, 0, 250))
    options = {"lossless": True} if kind == "WEBP" else {}
    read = read_image(saved(first, kind, save_all=True, append_images=[second], **options))
    assert read.shape == (10, 20, 3)
    assert np.abs(read[5, 5].astype(int) - (0, 0, 250)).max() <= 8


def test_one_pixel_is_an_image() -> None:
    assert read_image(encoded(".png", np.full((1, 1, 3), 77, np.uint8))).tolist() == [[[77, 77, 77]]]


def test_the_result_belongs_to_the_caller() -> None:
    read = read_image(saved(pil(smooth()), "PNG"))
    assert read.flags.writeable
    assert read.flags.c_contiguous


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "image bytes: is empty (0 bytes)"),
        (
            b"hello world\n",
            "image bytes: is not an image: expected JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, HEIC, JPEG 2000 or PPM, "
            "got a file that begins with 'hello world\\n'",
        ),
        (b"\x00\x01\x02\x03", "got a file that begins with 00 01 02 03"),
        (png(0, 50), "image bytes: PNG without a usable size in its header: got 0×50"),
        (png(50, 0), "image bytes: PNG without a usable size in its header: got 50×0"),
        (
            png(20_000, 20_000),
            "image bytes: image too large: expected at most 200 megapixels of PNG and 65535 a side, "
            "got 20000×20000 (400 megapixels); make it smaller, or cut it into tiles",
        ),
        (png(70_000, 10), "got 70000×10 (1 megapixels)"),
        (b"\xff\xd8\xff", "image bytes: JPEG is damaged or cut short: it has no end"),
        (b"BM" + bytes(12) + b"\x28" + bytes(39), "image bytes: BMP without a usable size in its header: got 0×0"),
    ],
)
def test_bytes_that_are_no_usable_image_get_one_clear_line(data: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_file_that_was_cut_short_is_refused(kind: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    data = saved(pil(noise), kind)
    with pytest.raises(ImageError):
        read_image(data[: int(len(data) * kept)])


def test_the_end_of_a_thumbnail_does_not_hide_that_the_jpeg_itself_is_cut() -> None:
    data = saved(pil(smooth(200, 200)), "JPEG")
    thumbnail = saved(pil(smooth(20, 20)), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = data[:2] + segment + data[2:]
    assert read_image(with_thumbnail).shape == (200, 200, 3)
    with pytest.raises(ImageError, match="JPEG is damaged or cut short: it has no end"):
        read_image(with_thumbnail[:-50])


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(saved(pil(smooth()), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    with pytest.raises(ImageError, match="PNG is damaged or cut short"):
        read_image(bytes(data))


def test_a_large_image_is_refused_before_it_takes_memory() -> None:
    from resource import RUSAGE_SELF, getrusage

    read_image(saved(pil(smooth()), "PNG"))
    before = getrusage(RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match="too large"):
        read_image(png(20_000, 20_000))
    assert getrusage(RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB; decoded it would be 1.2 million


def test_limits_are_the_callers_to_choose() -> None:
    data = saved(pil(smooth(48, 64)), "PNG")
    assert read_image(data, limits=ImageLimits(max_pixels=48 * 64, max_side_px=64)).shape == (48, 64, 3)
    with pytest.raises(ImageError, match="too large"):
        read_image(data, limits=ImageLimits(max_pixels=48 * 64 - 1))
    with pytest.raises(ImageError, match="too large"):
        read_image(data, limits=ImageLimits(max_side_px=63))


@pytest.mark.parametrize("name", ["max_pixels", "max_side_px", "max_file_bytes"])
def test_a_limit_below_one_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"ImageLimits.{name}: must be positive: got 0"):
        ImageLimits(**{name: 0})


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "no.jpg")
    assert str(caught.value) == f"{tmp_path / 'no.jpg'}: no such file"


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder, not an image"):
        read_image(tmp_path)


def test_a_null_character_in_the_name_is_one_clear_line() -> None:
    with pytest.raises(ImageError, match="not a valid file name"):
        read_image("a\0b.jpg")


def test_a_name_that_is_too_long_is_one_clear_line() -> None:
    with pytest.raises(ImageError, match="cannot be read: File name too long"):
        read_image("a" * 5000)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission_is_said_to_be_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(pil(smooth()), "PNG"))
    path.chmod(0)
    with pytest.raises(ImageError, match="cannot be read: Permission denied"):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(saved(pil(smooth()), "PNG"),))
    writer.start()
    try:
        assert np.array_equal(read_image(pipe), smooth())
    finally:
        writer.join()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero on this system")
def test_a_device_without_an_end_is_refused() -> None:
    with pytest.raises(ImageError, match="/dev/zero: is a device, not an image"):
        read_image("/dev/zero", limits=ImageLimits(max_file_bytes=5_000_000))


def test_a_missing_image_says_which_one_was_probably_meant(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "holyday.jpg")
    assert str(caught.value) == (
        f"{tmp_path / 'holyday.jpg'}: no such file; did you mean {str(tmp_path / 'holiday.jpg')!r}?"
    )
    with pytest.raises(ImageError, match=r"other\.png: no such file$"):
        read_image(tmp_path / "other.png")


def test_a_dash_says_how_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match="-: no such file; give /dev/stdin to read standard input"):
        read_image("-")


def test_an_open_file_that_gives_a_part_at_a_time_is_read_to_its_end(tmp_path: Path) -> None:
    class Slow:
        def __init__(self, data: bytes) -> None:
            self.left = data

        def read(self, count: int) -> bytes:
            part, self.left = self.left[: min(count, 1000)], self.left[min(count, 1000) :]
            return part

    assert bytes_of_file(Slow(bytes(range(256)) * 20)) == bytes(range(256)) * 20
    (tmp_path / "x.bin").write_bytes(b"\xff\xd8")
    with (tmp_path / "x.bin").open(encoding="utf-8") as text, pytest.raises(ImageError, match="open it with 'rb'"):
        bytes_of_file(text)


def test_opening_and_decoding_a_file_are_two_steps_with_the_result_of_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(".jpg", smooth(48, 64)))
    reserved: list[int] = []
    file = open_image(path, reserve=reserved.append)
    assert (file.subject, file.header.upright_hw, reserved) == (str(path), (48, 64), [len(file.data)])
    np.testing.assert_array_equal(read_image(file, reserve=reserved.append), read_image(path))
    assert reserved[1:] == [file.header.work_bytes]


def test_a_damaged_file_is_opened_and_then_refused_by_its_name() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = open_image(encoded(".jpg", noise)[:-400] + b"\xff\xd9")
    with pytest.raises(ImageError, match=r"^image bytes: JPEG is damaged"):
        read_image(file)
