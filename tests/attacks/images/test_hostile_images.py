"""Images made to cost memory or time, or to be decoded as something other than was checked."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from helpers.images import box, chunk, heif, jpeg_scans, png, saved, segment, sized, smooth, with_property
from helpers.shared import SHARED, require
from yoloship.errors import ImageError
from yoloship.images import ImageLimits, read_header, read_image

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(120)
SMALL = ImageLimits(max_pixels=1_000_000)


def refusal(data: bytes, limits: ImageLimits | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(data, limits=limits or ImageLimits())
    return str(caught.value)


def progressive(side: int) -> bytes:
    return saved(smooth(side, side), "JPEG", progressive=True, quality=90)


# JPEG


def test_a_small_file_that_claims_a_large_image_is_refused() -> None:
    data = bytearray(saved(smooth(16, 16), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 14_000, 14_000)
    assert "JPEG is damaged or cut short: its data is too short for its size" in refusal(bytes(data))


def test_the_claim_among_the_shared_cases_is_refused() -> None:
    assert "its data is too short for its size" in refusal((require(SHARED / "cases/hostile/claim.jpg")).read_bytes())


def test_a_flat_image_compresses_as_far_as_that_check_allows() -> None:
    flat = np.full((2000, 3000, 3), 90, np.uint8)
    for options in ({}, {"progressive": True}, {"optimize": True, "quality": 1}, {"subsampling": 0}):
        assert read_image(saved(flat, "JPEG", **options)).shape == flat.shape
    grey = io.BytesIO()
    Image.new("L", (3000, 2000), 90).save(grey, "JPEG", progressive=True, quality=1)
    assert read_image(grey.getvalue()).shape == flat.shape


def test_scans_are_counted_against_the_pixels_that_they_go_through() -> None:
    data = progressive(1600)
    start, end = jpeg_scans(data)[-1]
    ending = data.index(b"\xff\xd9", end - 2)
    bomb = data[:ending] + data[start:end] * 1300 + data[ending:]
    assert "JPEG would take too long to decode: it has 1310 scans" in refusal(bomb)
    assert read_image(data).shape == (1600, 1600, 3)


def test_a_sequential_image_whose_only_scan_is_repeated_is_refused() -> None:
    data = saved(smooth(400, 400), "JPEG")
    ((start, end),) = jpeg_scans(data)
    repeated = data[:end] + data[start:end] * 5000 + data[end:]
    header = read_header(repeated)
    assert header is not None
    assert header.problem == ""  # the decoder stops behind the first scan, so the others cost nothing
    assert "JPEG" in refusal(repeated)


def test_endless_segments_behind_the_only_scan_are_refused_like_other_damage() -> None:
    data = saved(smooth(400, 400), "JPEG")
    assert "JPEG" in refusal(data[:-2] + segment(0xFE, b"") * 5000 + b"\1\1\1" + data[-2:])


def test_a_sequential_image_that_is_cut_short_is_refused_though_its_thumbnail_has_an_end() -> None:
    data = saved(smooth(400, 400), "JPEG")
    thumbnail = segment(0xE1, b"Exif\0\0" + saved(smooth(8, 8), "JPEG"))
    assert "it has no end" in refusal(data[:2] + thumbnail + data[2:-300])


def test_a_file_of_endless_segments_is_refused() -> None:
    data = saved(smooth(), "JPEG")
    assert "JPEG has more than 4096 segments" in refusal(data[:2] + segment(0xFE, b"") * 100_000 + data[2:])


@pytest.mark.parametrize("filler", [b"\xff", b"\x00", b"\xff\x00", b"\xff\xd0", b"\xff\x01"])
def test_fill_between_markers_is_skipped_at_once(filler: bytes) -> None:
    data = saved(smooth(), "JPEG")
    header = read_header(data[:20] + filler * (1 << 23) + data[20:])
    assert header is not None
    assert (header.width, header.height, header.problem) == (64, 48, "")


def test_the_thumbnail_is_not_taken_for_the_image() -> None:
    thumbnail = saved(smooth(8, 8), "JPEG")
    data = saved(smooth(), "JPEG")
    assert read_image(data[:2] + segment(0xE1, b"Exif\0\0" + thumbnail) + data[2:]).shape == (48, 64, 3)


def test_of_two_frame_headers_no_decoder_takes_the_second() -> None:
    data = saved(smooth(), "JPEG")
    at = data.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", data, at + 2)
    frame = bytearray(data[at : at + 2 + length])
    frame[5:9] = struct.pack(">HH", 8, 8)
    assert "JPEG is damaged" in refusal(data[:at] + bytes(frame) + data[at:])


def test_an_image_that_is_damaged_inside_is_refused_without_a_word_from_libjpeg(
    capfd: pytest.CaptureFixture[str],
) -> None:
    data = bytearray(saved(smooth(400, 400), "JPEG"))
    (_, end), *_ = jpeg_scans(bytes(data))
    data[end - 800 : end - 200] = b"\xff\xd0" * 300
    assert "JPEG is damaged" in refusal(bytes(data))
    assert capfd.readouterr() == ("", "")


def test_what_libjpeg_remarks_on_without_loss_is_read_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    data = saved(smooth(), "JPEG")
    ending = len(data) - 2
    assert np.array_equal(read_image(data[:ending] + bytes(3000) + data[ending:]), read_image(data))
    assert "JPEG is damaged" in refusal(data[:ending] + b"left over" + data[ending:])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "pixel_bytes"), [({}, 6), ({"progressive": True}, 9), ({"progressive": True, "subsampling": 0}, 9)]
)
def test_progressive_images_count_with_the_coefficients_that_are_kept(
    options: dict[str, object], pixel_bytes: int
) -> None:
    header = read_header(saved(smooth(), "JPEG", **options))
    assert header is not None
    assert header.work_bytes == 48 * 64 * pixel_bytes


# PNG


def test_damaged_text_and_profiles_in_a_png_are_read_past_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    bomb = zlib.compress(bytes(50_000_000))
    extra = [
        chunk(b"iCCP", b"x\0\0" + zlib.compress(b"junk" * 40)),
        chunk(b"sBIT", b"\0"),
        chunk(b"zTXt", b"Comment\0\0" + bomb),
        chunk(b"tEXt", b"\0"),
        chunk(b"tIME", b"\xff" * 7),
        b"\0\0\0\4tEXtxxxx\0\0\0\0",  # a wrong checksum
    ]
    assert read_image(png(8, 6, *extra)).shape == (6, 8, 3)
    assert capfd.readouterr() == ("", "")


def test_the_further_images_of_an_animated_png_are_not_decoded() -> None:
    frames = [Image.fromarray(np.full((10, 20, 3), value, np.uint8)) for value in (10, 200)]
    out = io.BytesIO()
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:])
    assert np.array_equal(read_image(out.getvalue()), np.full((10, 20, 3), 10, np.uint8))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (png(20_000, 9000, data=zlib.compress(b"\0" * 64)), "PNG is damaged or cut short"),
        (png(8, 6, chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))), "does not begin with its header"),
        (png(8, 6, chunk(b"ABCD", b"")), "has an unknown critical chunk"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"a\0b") + png(8, 6)[8:], "does not begin with its header"),
        (png(8, 6)[:-12], "PNG is damaged or cut short"),
    ],
    ids=["claim", "two headers", "critical", "late header", "no end"],
)
def test_a_png_that_cannot_be_what_it_says_is_refused(data: bytes, problem: str) -> None:
    assert problem in refusal(data)


def test_a_png_as_compressed_as_deflate_allows_is_read() -> None:
    assert read_image(png(4000, 3000, depth=1, color=0)).shape == (3000, 4000, 3)


# GIF, TIFF, WebP, JPEG 2000


def test_a_gif_frame_outside_its_canvas_is_refused() -> None:
    data = bytearray(saved(smooth(), "GIF"))
    data[6:10] = struct.pack("<HH", 30, 30)
    assert "cannot be decoded" in refusal(bytes(data))


def test_a_gif_canvas_over_the_limit_is_refused_though_its_frame_is_small() -> None:
    data = bytearray(saved(smooth(), "GIF"))
    data[6:10] = struct.pack("<HH", 30_000, 30_000)
    assert "image too large" in refusal(bytes(data))


def tiff(*entries: tuple[int, int, int, int]) -> bytes:
    tags = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + tags + bytes(4)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (tiff((256, 4, 1, 10), (256, 4, 1, 60_000), (257, 4, 1, 10)), "TIFF states its size twice"),
        (tiff((256, 4, 2, 10), (257, 4, 1, 10)), "TIFF states its size in an unusual form"),
        (tiff((256, 5, 1, 10), (257, 4, 1, 10)), "TIFF states its size in an unusual form"),
        (tiff((256, 4, 1, 10), (257, 4, 1, 10), (322, 4, 1, 60_000), (323, 4, 1, 60_000)), "image too large"),
        (tiff((256, 4, 1, 10), (257, 4, 1, 10), (277, 3, 1, 60_000)), "TIFF has 60000 samples for each pixel"),
        (tiff(*[(300 + place, 4, 1, 1) for place in range(5000)]), "TIFF has more than 4096 tags"),
    ],
    ids=["two widths", "two numbers", "rational", "tiles", "samples", "tags"],
)
def test_a_tiff_whose_size_is_in_doubt_is_refused(data: bytes, problem: str) -> None:
    assert problem in refusal(data)


def test_only_the_first_page_of_a_tiff_counts() -> None:
    out = io.BytesIO()
    pages = [Image.new("RGB", size) for size in ((20, 10), (3000, 3000))]
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    assert read_image(out.getvalue(), limits=ImageLimits(max_pixels=200)).shape == (10, 20, 3)


@pytest.mark.parametrize("size", [(10, 48), (64, 49), (9000, 48)])
def test_a_webp_canvas_that_is_not_its_frame_is_refused(size: tuple[int, int]) -> None:
    data = bytearray(saved(smooth(), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))
    assert data[12:16] == b"VP8X"
    data[24:27], data[27:30] = ((side - 1).to_bytes(3, "little") for side in size)
    assert "image bytes: " in refusal(bytes(data))


@pytest.mark.parametrize(("mark", "offset"), [(b"ihdr", 4), (b"\xff\x4f\xff\x51", 8)])
def test_a_jpeg_2000_box_that_contradicts_its_codestream_is_refused(mark: bytes, offset: int) -> None:
    data = bytearray(saved(smooth(), "JPEG2000"))
    struct.pack_into(">II", data, data.index(mark) + offset, 60, 60)
    assert "JPEG 2000 states two sizes" in refusal(bytes(data))


def test_a_jpeg_2000_box_without_a_size_is_refused() -> None:
    data = saved(smooth(), "JPEG2000")
    assert "JPEG 2000 without a usable size" in refusal(data.replace(b"ihdr", b"ihdx"))


@pytest.mark.parametrize(
    ("offset", "form", "value", "problem"),
    [
        (24, ">II", (1, 1), "JPEG 2000 has too many tiles (3072)"),
        (24, ">II", (0, 0), "JPEG 2000 without a usable size"),
        (40, ">H", (16_384,), "JPEG 2000 has 16384 components"),
        (8, ">II", (60_000, 60_000), "JPEG 2000 has too many"),
    ],
)
def test_a_jpeg_2000_codestream_of_endless_parts_is_refused(
    offset: int, form: str, value: tuple[int, ...], problem: str
) -> None:
    data = bytearray(saved(smooth(), "JPEG2000", no_jp2=True))
    struct.pack_into(form, data, offset, *value)
    assert problem in refusal(bytes(data))


@pytest.mark.parametrize(
    ("change", "precincts", "problem"),
    [
        ({4: b"\1"}, b"\x11" * 6, "JPEG 2000 has too many precincts"),
        ({10: b"\0", 11: b"\0"}, b"", "JPEG 2000 has code blocks of 4×4"),
        ({9: b"\x40"}, b"", "JPEG 2000 has 64 levels"),
        ({4: b"\1", 6: b"\xff\xff"}, b"\x55" * 6, "JPEG 2000 has too many packets"),
        ({4: b"\1"}, b"", "JPEG 2000 is damaged or cut short"),
    ],
)
@pytest.mark.parametrize("in_a_tile", [False, True])
def test_a_jpeg_2000_that_is_cut_into_endless_parts_is_refused(
    change: dict[int, bytes], precincts: bytes, problem: str, in_a_tile: bool
) -> None:
    data = saved(smooth(480, 640), "JPEG2000", no_jp2=True)
    at = data.index(b"\xff\x52")
    coding = bytearray(data[at : at + 14] + precincts)
    for offset, value in change.items():
        coding[offset : offset + len(value)] = value
    struct.pack_into(">H", coding, 2, len(coding) - 2)
    if not in_a_tile:
        assert problem in refusal(data[:at] + bytes(coding) + data[at + 14 :])
        return
    tile = data.index(b"\xff\x90")
    (length,) = struct.unpack_from(">I", data, tile + 6)
    header = bytearray(data[tile : tile + 12])
    struct.pack_into(">I", header, 6, length + len(coding))
    assert problem in refusal(data[:tile] + bytes(header) + bytes(coding) + data[tile + 12 :])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile_size": (64, 64)},
        {"tile_size": (200, 100), "num_resolutions": 3},
        {"num_resolutions": 1},
        {"codeblock_size": (16, 16), "precinct_size": (64, 64)},
        {"precinct_size": (128, 128), "progression": "RPCL"},
        {"quality_mode": "rates", "quality_layers": [40, 20, 10, 1], "irreversible": True},
        {"no_jp2": True},
    ],
)
def test_what_encoders_write_is_within_those_bounds(options: dict[str, object]) -> None:
    data = saved(smooth(480, 640), "JPEG2000", **options)
    assert read_image(data).shape == (480, 640, 3)
    assert np.abs(read_image(data).astype(int) - smooth(480, 640)).max() <= 24


# AVIF and HEIC


@pytest.mark.parametrize("size", [(10, 10), (640, 480), (64, 40)])
def test_an_avif_item_that_states_another_size_than_its_codec_is_refused(size: tuple[int, int]) -> None:
    data = bytearray(saved(smooth(), "AVIF"))
    struct.pack_into(">II", data, data.index(b"ispe") + 8, *size)
    assert "AVIF states two sizes" in refusal(bytes(data))


def test_an_animation_whose_track_states_another_size_is_refused() -> None:
    out = io.BytesIO()
    frames = [Image.new("RGB", (64, 48), (value, 0, 0)) for value in (0, 90, 200)]
    frames[0].save(out, "AVIF", save_all=True, append_images=frames[1:])
    data = bytearray(out.getvalue())
    assert read_image(bytes(data)).shape == (48, 64, 3)
    at = data.index(b"av01", data.index(b"stsd"))
    struct.pack_into(">HH", data, at + 28, 32, 24)
    assert "AVIF states two sizes" in refusal(bytes(data))


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ([sized(64, 48)], "states a property twice"),
        ([box(b"irot", b"\1"), box(b"irot", b"\2")], "states a property twice"),
        ([box(b"clap", struct.pack(">8I", 65, 1, 48, 1, 0, 1, 0, 1))], "has a crop that is larger than the image"),
        ([box(b"clap", struct.pack(">8I", 63, 2, 48, 1, 0, 1, 0, 1))], "has a crop that does not end on whole pixels"),
        ([box(b"clap", struct.pack(">8I", 63, 0, 48, 1, 0, 1, 0, 1))], "has a crop that does not end on whole pixels"),
        ([box(b"clap", struct.pack(">8I", 32, 1, 24, 1, 0, 1, 0, 1))], "of a different size than its header states"),
    ],
)
def test_avif_properties_that_cannot_be_applied_are_refused(added: list[bytes], problem: str) -> None:
    data = saved(smooth(), "AVIF")
    for one in added:
        data = with_property(data, one)
    assert problem in refusal(data)


def sps(width: int, height: int) -> bytes:
    """An hvcC box whose sequence parameter set states a size."""

    def golomb(number: int) -> str:
        digits = f"{number + 1:b}"
        return "0" * (len(digits) - 1) + digits

    bits = "0100001000000001" + "0000" + "000" + "1" + "0" * 96 + golomb(0) + golomb(1) + golomb(width) + golomb(height)
    bits += "1" + "0" * (-(len(bits) + 1) % 8)
    unit = int(bits, 2).to_bytes(len(bits) // 8, "big")
    unit = unit.replace(b"\0\0\0", b"\0\0\3\0").replace(b"\0\0\1", b"\0\0\3\1")
    return box(b"hvcC", bytes(22), b"\1", b"\x21", struct.pack(">HH", 1, len(unit)), unit)


def test_a_heic_item_whose_codec_states_a_large_size_is_refused_before_it_is_decoded() -> None:
    header = read_header(heif([sps(30_000, 20_000), sized(10, 10)]))
    assert header is not None
    assert (header.width, header.height, header.held_pixels) == (10, 10, 600_000_000)
    assert "image too large" in refusal(heif([sps(30_000, 20_000), sized(10, 10)]))


@pytest.mark.parametrize(
    "data",
    [
        heif([]),
        heif([sized(10, 10)])[:60],
        heif([sized(0, 0)]),
        box(b"ftyp", b"heic", bytes(4)) + box(b"meta", bytes(4)) * 100,
        box(b"ftyp", b"avif", bytes(4)) + box(b"free") * 200_000,
        box(b"ftyp", b"avif", bytes(4)) + b"\xff\xff\xff\xffmeta",
        box(b"ftyp", b"avif", bytes(4)) + b"\0\0\0\1meta\0\0\0\0\0\0\0\0",
        box(b"ftyp", b"avif", bytes(4))
        + box(b"meta", bytes(4), box(b"iprp", box(b"ipma", bytes(4), b"\xff\xff\xff\xff", bytes(1 << 20)))),
        box(b"ftyp", b"avif", bytes(4)) + box(b"meta", bytes(4), box(b"iloc", b"\2\0\0\0\x44\x44\xff\xff\xff\xff")),
        box(b"ftyp", b"mif1", bytes(4), b"avif") + box(b"moov", *[box(b"trak")] * 1000),
    ],
)
def test_broken_boxes_are_refused(data: bytes) -> None:
    assert "image bytes: " in refusal(data)


def test_boxes_that_hold_one_another_endlessly_are_refused() -> None:
    nested = b""
    for _ in range(3000):
        nested = box(b"trak", nested)
    assert "image bytes: " in refusal(box(b"ftyp", b"avif", bytes(4)) + box(b"moov", nested))


# All of them


CLAIMS: dict[str, Callable[[], bytes]] = {
    "BMP": lambda: b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 30_000, 30_000, 1, 24) + bytes(24),
    "GIF": lambda: b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + bytes(20),
    "WebP": lambda: b"RIFF\x30\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\0\xff\xff\0" + bytes(20),
    "TIFF": lambda: tiff((256, 4, 1, 60_000), (257, 4, 1, 60_000)),
    "AVIF": lambda: heif([sized(60_000, 60_000)], brand=b"avif", item=b"none"),
    "HEIC": lambda: heif([sized(60_000, 60_000)]),
    "Netpbm": lambda: b"P6\n60000 60000\n255\n",
    "PNG": lambda: png(60_000, 60_000, data=b""),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_of_gigabytes_is_refused_before_it_takes_memory(name: str) -> None:
    data = CLAIMS[name]()
    tracemalloc.start()
    try:
        assert "image too large" in refusal(data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_limits_hold_for_what_a_decoder_would_have_to_hold() -> None:
    assert "image too large" in refusal(progressive(1600), SMALL)


def test_the_white_gigapixel_among_the_shared_cases_says_what_decoding_takes(tmp_path: Path) -> None:
    path = require(SHARED / "cases/hostile/g1.png")
    asked: list[int] = []

    def refuse(wanted_bytes: int) -> None:
        asked.append(wanted_bytes)
        if len(asked) == 2:
            raise ImageError("not now")

    with pytest.raises(ImageError, match="not now"):
        read_image(path, reserve=refuse)
    assert asked[0] == path.stat().st_size
    assert 14_142 * 14_142 * 3 <= asked[1] <= 14_142 * 14_142 * 10
