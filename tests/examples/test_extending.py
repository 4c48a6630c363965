"""The packages in `examples/extending`: the pages of the documentation show them, and they work once installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import cv2
import numpy as np
import pytest

import yoloship
from helpers.cli import run
from helpers.plugins import install
from yoloship.demo.scene import make_scene
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
EXTENDING = ROOT / "examples" / "extending"
PAGES = sorted((ROOT / "docs" / "extending").glob("*.md"))
PACKAGES = sorted(path.parent.name for path in EXTENDING.glob("*/pyproject.toml"))
SHOWN = re.compile(r"<!-- file: (?P<file>\S+) -->\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(
    r'^\[project\.entry-points\."(?P<group>[\w.]+)"\]\n(?P<name>\w+) = "(?P<place>\w+:\w+)"$', re.MULTILINE
)
CODES = ROOT / "src" / "yoloship" / "demo" / "codes-yolov5n.pt"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Install one of the packages until the test ends."""

    def of(package: str) -> None:
        folder = EXTENDING / package
        entry = ENTRY.search((folder / "pyproject.toml").read_text(encoding="utf-8"))
        assert entry is not None
        modules = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
        install(monkeypatch, tmp_path / "installed", entry["group"], {entry["name"]: entry["place"]}, modules=modules)

    return of


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))


def scenes(*numbers: int) -> list[str]:
    """Write scenes as images, and give their names."""
    names = [f"scene-{number}.png" for number in numbers]
    for number, name in zip(numbers, names, strict=True):
        cv2.imwrite(name, make_scene(number, (720, 1280)).picture)
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_a_page_shows_each_file_of_a_package_as_it_is(package: str) -> None:
    page = (ROOT / "docs" / "extending" / f"{package}.md").read_text(encoding="utf-8")
    shown = {match["file"]: match["text"] for match in SHOWN.finditer(page)}
    files = [path for path in sorted((EXTENDING / package).iterdir()) if path.is_file()]
    assert shown == {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def test_each_package_has_a_page_and_each_page_a_package() -> None:
    assert [page.stem for page in PAGES if page.stem != "index"] == PACKAGES


def test_the_sink_counts_the_objects_of_each_image(installed: Callable[[str], None]) -> None:
    installed("sink")
    names = scenes(0, 1)
    Path("broken.png").write_bytes(b"")
    ran = run("detect", CODES, *names, "broken.png", "--no-draw", "--counts", "counts.txt")
    assert ran.code == 1  # the broken image
    assert Path("counts.txt").read_text(encoding="utf-8").splitlines()[0] == (
        "scene-0.png: 3 marker, 1 qr_code, 1 barcode"
    )
    assert len(Path("counts.txt").read_text(encoding="utf-8").splitlines()) == 2
    assert "--counts FILE" in run("detect", "--help").out


def test_the_source_reads_images_out_of_an_archive(installed: Callable[[str], None]) -> None:
    installed("source")
    names = scenes(0, 1)
    with ZipFile("scenes.zip", "w") as archive:
        for name in names:
            archive.write(name, f"inside/{name}")
        archive.writestr("inside/broken.jpg", b"")
        archive.writestr("readme.txt", "not an image")
    ran = run("detect", CODES, "zip:scenes.zip", "--no-draw", "--csv", "-")
    assert ran.code == 1
    assert "inside/broken.jpg" in ran.err
    assert {line.partition(",")[0] for line in ran.out.splitlines()[1:]} == {f'"inside/{name}"' for name in names}
    assert "is not a zip archive" in run("detect", CODES, "zip:scene-0.png").error


def test_the_runtime_finds_the_same_boxes_as_the_default(installed: Callable[[str], None]) -> None:
    installed("runtime")
    names = scenes(0, 1)
    with yoloship.load(CODES) as usual, yoloship.load(CODES, runtime="opencv") as other:
        for name in names:
            expected, found = usual(name), other(name)
            assert len(expected) > 0
            np.testing.assert_array_equal(found.class_ids, expected.class_ids)
            np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.01)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        with pytest.raises(InputError, match="OpenCV cannot be told to compute in bfloat16"):
            yoloship.load(CODES, runtime="opencv", runtime_precision="bfloat16")
