"""AVIF and HEIC: sizes, rotations, crops and grids."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from helpers.images import box, heif, saved, sized, smooth, with_property
from helpers.shared import IN_CI
from yoloship.errors import DependencyError, ImageError
from yoloship.images import image_size, read_header, read_image

Pixels = npt.NDArray[np.uint8]

TURNED = {
    0: lambda pixels: pixels,
    1: lambda pixels: np.rot90(pixels, 1),
    2: lambda pixels: np.rot90(pixels, 2),
    3: lambda pixels: np.rot90(pixels, 3),
}
MIRRORED = {None: lambda pixels: pixels, 0: np.flipud, 1: np.fliplr}


def near(read: Pixels, expected: Pixels) -> bool:
    return read.shape == expected.shape and int(np.abs(read.astype(int) - expected).max()) <= 24


@pytest.fixture
def pillow_heif(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Writes HEIC files; CI has it."""
    if not IN_CI:
        pytest.importorskip("pillow_heif")
    import pillow_heif

    pillow_heif.register_heif_opener()
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 0)
    assert isinstance(pillow_heif, ModuleType)
    return pillow_heif


@pytest.mark.parametrize("mirror", [None, 0, 1])
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror_first", [False, True])
def test_the_rotation_of_an_avif_is_applied(turns: int, mirror: int | None, mirror_first: bool) -> None:
    data, expected = saved(smooth(), "AVIF", quality=95), smooth()
    steps = [("irot", turns), ("imir", mirror)]
    for name, value in reversed(steps) if mirror_first else steps:
        if value is not None:
            data = with_property(data, box(name.encode(), bytes([value])))
            expected = (TURNED if name == "irot" else MIRRORED)[value](expected)
    assert near(read_image(data), expected)
    assert image_size(data) == expected.shape[:2]


@pytest.mark.parametrize("mirror", [None, 0, 1])
@pytest.mark.parametrize("turns", range(4))
def test_the_rotation_of_a_heic_is_applied(pillow_heif: ModuleType, turns: int, mirror: int | None) -> None:
    data, expected = saved(smooth(64, 96), "HEIF", quality=95), TURNED[turns](smooth(64, 96))
    data = with_property(data, box(b"irot", bytes([turns])))
    if mirror is not None:
        data = with_property(data, box(b"imir", bytes([mirror])))
    expected = MIRRORED[mirror](expected)
    assert near(read_image(data), expected)
    assert image_size(data) == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_that_pillow_turned_stands_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = {
        1: smooth(),
        2: smooth()[:, ::-1],
        3: smooth()[::-1, ::-1],
        4: smooth()[::-1],
        5: smooth().transpose(1, 0, 2),
        6: np.rot90(smooth(), 1),
        7: smooth()[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(smooth(), -1),
    }[orientation]
    data = saved(np.ascontiguousarray(stored), "AVIF", quality=95, exif=exif)
    assert near(read_image(data), smooth())


@pytest.mark.parametrize("hw", [(48, 64), (47, 63), (1, 1), (1100, 1500)])
def test_a_heic_is_read(pillow_heif: ModuleType, hw: tuple[int, int]) -> None:
    data = saved(smooth(*hw), "HEIF", quality=95)
    assert near(read_image(data), smooth(*hw))
    assert image_size(data) == hw


def test_a_heic_of_tiles_is_read(pillow_heif: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 512)
    data = saved(smooth(700, 900), "HEIF", quality=90)
    assert b"grid" in data
    assert near(read_image(data), smooth(700, 900))


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_a_heic_in_grey_or_with_alpha_becomes_colour(pillow_heif: ModuleType, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    image = Image.fromarray(np.ascontiguousarray(smooth()[:, :, ::-1])).convert(mode)
    image.save(path, quality=95)
    expected = np.asarray(image.convert("RGB"))[:, :, ::-1]
    assert near(read_image(path), expected)


def test_a_heic_without_its_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DependencyError) as caught:
        read_image(heif([sized(20, 10)]))
    assert str(caught.value) == "image bytes: HEIC images need pillow-heif; pip install 'yoloship[heic]'"


def test_a_heic_that_holds_nothing_is_refused(pillow_heif: ModuleType) -> None:
    with pytest.raises(ImageError, match="HEIC cannot be decoded"):
        read_image(heif([sized(20, 10)]))


@pytest.mark.parametrize(
    ("brand", "name"), [(b"heic", "HEIC"), (b"heix", "HEIC"), (b"avif", "AVIF"), (b"avis", "AVIF")]
)
def test_brands_name_the_format(brand: bytes, name: str) -> None:
    general = bytearray(heif([sized(20, 10)], brand=brand))
    for data in (bytes(general), bytes(general).replace(b"ftyp" + brand, b"ftypmif1", 1)):
        header = read_header(data)
        assert header is not None
        assert header.format == name


def test_the_main_image_is_the_one_that_the_file_names() -> None:
    """A thumbnail stands beside it with a size of its own."""
    data = heif([sized(300, 200), sized(30, 20)])
    at = data.index(b"ipma") + 4 + 4 + 4 + 2
    assert data[at : at + 3] == b"\2\1\2"
    for index, size in ((1, (300, 200)), (2, (30, 20))):
        header = read_header(data[:at] + b"\1" + bytes([index]) + data[at + 2 :])
        assert header is not None
        assert (header.width, header.height) == size
