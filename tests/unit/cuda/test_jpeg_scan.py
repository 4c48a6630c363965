from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageCms

from helpers.images import saved, segment, smooth
from yoloship.cuda.jpeg_scan import TABLE_BYTES, ScanHeader, scan_header

if TYPE_CHECKING:
    from collections.abc import Callable

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(smooth(40, 50)).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


def read(data: bytes) -> ScanHeader:
    header = scan_header(data)
    assert header is not None
    return header


@pytest.mark.parametrize(
    ("subsampling", "sampling", "mcus", "blocks", "chroma"),
    [(0, (1, 1), 35, 3, 0b110), (1, (2, 1), 20, 4, 0b1100), (2, (2, 2), 12, 6, 0b110000)],
)
def test_what_the_reader_has_to_know_is_in_the_header(
    subsampling: int, sampling: tuple[int, int], mcus: int, blocks: int, chroma: int
) -> None:
    data = jpeg(subsampling=subsampling, restart_marker_blocks=3)
    header = read(data)
    assert (header.width, header.height, header.components) == (50, 40, 3)
    assert (header.sampling, header.mcus, header.mcu_blocks, header.restart_mcus) == (sampling, mcus, blocks, 3)
    assert (header.dc_tables, header.ac_tables) == (chroma, chroma)
    assert header.data_at == data.index(b"\xff\xda") + 14
    assert header.data_at + header.data_bytes == len(data)
    assert len(header.tables) == 4 * TABLE_BYTES
    assert header.tables[:29] == bytes.fromhex(
        "00010501010101010100000000000000000102030405060708090a0b00"
    )  # T.81, K.3


def test_a_grey_image_has_one_block_in_an_mcu_and_two_tables() -> None:
    header = read(jpeg("L"))
    assert (header.components, header.sampling, header.mcus, header.mcu_blocks) == (1, (1, 1), 35, 1)
    assert (header.dc_tables, header.ac_tables, header.restart_mcus) == (0, 0, 0)
    assert header.tables[TABLE_BYTES : 2 * TABLE_BYTES] == bytes(TABLE_BYTES)


def test_memory_of_another_owner_is_read_in_place() -> None:
    data = jpeg()
    assert scan_header(memoryview(bytearray(data))) == scan_header(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        saved(smooth(), "PNG"),
        jpeg("CMYK"),
        jpeg(progressive=True),
        jpeg(keep_rgb=True),
        jpeg()[: jpeg().index(b"\xff\xda") + 14],
        jpeg()[:300],
    ],
    ids=["nothing", "start", "png", "cmyk", "progressive", "rgb", "no data", "cut in the header"],
)
def test_what_hardware_does_not_decode_or_decodes_otherwise_has_no_header(data: bytes) -> None:
    assert scan_header(data) is None


def before(marker: int, *added: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        at = data.index(bytes([0xFF, marker]))
        return data[:at] + b"".join(added) + data[at:]

    return change


def patched(marker: int, offset: int, *values: int) -> Callable[[bytes], bytes]:
    """Bytes of the body of a segment replaced."""

    def change(data: bytes) -> bytes:
        at = data.index(bytes([0xFF, marker])) + 4 + offset
        return data[:at] + bytes(values) + data[at + len(values) :]

    return change


def adobe(transform: int) -> bytes:
    return segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


def profile(*parts: tuple[int, int]) -> tuple[bytes, ...]:
    return tuple(segment(0xE2, b"ICC_PROFILE\0" + bytes(part) + b"something") for part in parts)


@pytest.mark.parametrize(
    "change",
    [
        patched(0xC0, 0, 12),
        patched(0xC0, 1, 0, 0),
        patched(0xC0, 1, 0xFF, 0xFF),
        patched(0xC0, 6, ord("R")),
        patched(0xC0, 7, 0x12),
        patched(0xC0, 7, 0x41),
        patched(0xC0, 10, 0x21),
        patched(0xC0, 8, 3),
        patched(0xDA, 0, 1),
        patched(0xDA, 1, 3),
        patched(0xDA, 2, 0x20),
        patched(0xDA, 7, 1),
        patched(0xDA, 8, 5),
        patched(0xDA, 9, 0x10),
        patched(0xDB, 0, 0x10),
        patched(0xC4, 0, 4),
        patched(0xC4, 1, 3),
        patched(0xC4, 17, 16),
        patched(0xE0, 5, 2),
        before(0xDB, adobe(0)),
        before(0xDB, adobe(2)),
        before(0xDB, segment(0xEE, b"Adobe\0d")),
        before(0xDB, *profile((1, 2))),
        before(0xDB, *profile((1, 2), (1, 2))),
        before(0xDB, *profile((0, 1))),
        before(0xDB, segment(0xDD, b"\0\1\0")),
        before(0xDB, segment(0xCC, b"\0\0")),
        before(0xDB, segment(0xDC, b"\0\1")),
        before(0xDB, b"\xff"),
        before(0xDB, b"\0"),
        before(0xDA, segment(0xC0, bytes.fromhex("080028003203012200021101031101"))),
        before(0xC0, segment(0xC0, b"")),
        before(0xDA, segment(0xDB, b"\0" + b"\7" * 64)),
        before(0xDA, segment(0xDB, b"\2" + b"\7" * 64 + b"\2" + b"\5" * 64)),
        before(0xDA, segment(0xDB, b"\2" + b"\7" * 63 + b"\0")),
        before(0xDA, segment(0xC4, b"\0" + b"\0\2" + bytes(14) + b"\5\6")),
        before(0xDA, segment(0xDD, b"\0\1"), segment(0xDD, b"\0\2")),
        before(0xDA, adobe(1), adobe(0)),
        before(0xDA, adobe(0), adobe(1)),
        before(0xDB, *[segment(0xFE, b"words")] * 300),
    ],
)  # fmt: skip
def test_an_unusual_header_is_left_to_the_host(change: Callable[[bytes], bytes]) -> None:
    assert scan_header(change(jpeg())) is None


@pytest.mark.parametrize(
    "change",
    [
        before(0xDB, adobe(1)),
        before(0xDB, *profile((2, 2), (1, 2))),
        before(0xDB, segment(0xE1, b"Exif\0\0" + bytes(500)), segment(0xFE, b"words"), segment(0xED, b"")),
        before(0xDA, segment(0xDD, b"\0\0")),
        patched(0xC0, -3, 0xC1),
        lambda data: data[:2] + data[2 : data.index(b"\xff\xc0")] + data[2:],
        before(0xDA, segment(0xDB, b"\2" + b"\7" * 64)),
    ],
    ids=["adobe", "profile", "other segments", "restarts switched off", "extended", "twice the same", "spare table"],
)
def test_usual_segments_change_nothing(change: Callable[[bytes], bytes]) -> None:
    header = read(change(jpeg()))
    assert (header.width, header.height, header.mcus, header.restart_mcus) == (50, 40, 12, 0)


def test_a_file_with_a_profile_as_written_by_others_is_read() -> None:
    assert read(jpeg(icc_profile=PROFILE * 40)).mcus == 12  # of two segments


def test_images_whose_sums_could_overflow_are_left_to_the_host() -> None:
    wide = patched(0xC0, 1, 0xFF, 0x00, 0xFF, 0x00)
    assert scan_header(wide(jpeg())) is None
