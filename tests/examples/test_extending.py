"""The packages in `examples/extending`: the pages of the documentation show them, and they work once installed."""

from __future__ import annotations

import io
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import yoloship
from helpers.cli import run
from helpers.plugins import install
from yoloship.demo.scene import make_scene
from yoloship.errors import GraphError, InputError, SessionError
from yoloship.model import METADATA_KEY, ModelInfo
from yoloship.runtime import RunOptions, open_session

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
        cv2.imwrite(name, make_scene(number, (720, 1280)).image)
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


def test_the_source_reads_images_out_of_a_database(installed: Callable[[str], None]) -> None:
    installed("source")
    names = scenes(0, 1)
    with closing(sqlite3.connect("scenes.db")) as database, database:
        database.execute("CREATE TABLE photos (name TEXT, image BLOB)")
        images = [(name, Path(name).read_bytes()) for name in names]
        database.executemany("INSERT INTO photos VALUES (?, ?)", [*images, ("broken.jpg", b"")])
    ran = run("detect", CODES, "sqlite:scenes.db", "--no-draw", "--csv", "-")
    assert ran.code == 1
    assert "broken.jpg" in ran.err
    assert {line.partition(",")[0] for line in ran.out.splitlines()[1:]} == {f'"{name}"' for name in names}
    assert "scene-0.png: has no images" in run("detect", CODES, "sqlite:scene-0.png").error
    assert "no.db: cannot be opened" in run("detect", CODES, "sqlite:no.db").error


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
        with pytest.raises(InputError, match="OpenCV cannot compute in bfloat16"):
            yoloship.load(CODES, runtime="opencv", runtime_precision="bfloat16")
    with pytest.raises(SessionError, match=r"^best\.onnx: is not an ONNX file, or is damaged$"):
        open_session(b"\x08\x08:y\n", RunOptions(model_name="best.onnx"), runtime="opencv")


def acme_checkpoint() -> bytes:
    """The bundled checkpoint as a fork would have saved it: the same tensors, its own class paths."""
    names = {
        b"cmodels.yolo\nDetectionModel\n": b"cacme.nets\nDetector\n",
        b"cmodels.yolo\n": b"cacme.nets\n",
        b"cmodels.common\n": b"cacme.layers\n",
    }
    written = io.BytesIO()
    with ZipFile(CODES) as original, ZipFile(written, "w") as fork:
        for member in original.namelist():
            data = original.read(member)
            if member.endswith("/data.pkl"):
                for official, own in names.items():
                    data = data.replace(official, own)
            fork.writestr(member, data)
    return written.getvalue()


def test_the_family_reads_the_checkpoint_of_a_fork(installed: Callable[[str], None]) -> None:
    [name] = scenes(0)
    with pytest.raises(GraphError, match=r"acme\.nets\.Detector.*is not the model of an official"):
        yoloship.load(acme_checkpoint())
    installed("family")
    with yoloship.load(CODES) as usual, yoloship.load(acme_checkpoint()) as fork:
        assert fork.info.family == "acme"
        np.testing.assert_array_equal(fork(name).boxes_xyxy, usual(name).boxes_xyxy)


def tagging_model() -> bytes:
    """A network that tags an image as bright or dark by its mean."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "weights"], ["scaled"]),
        helper.make_node("Add", ["scaled", "biases"], ["scores"]),
    ]
    constants = {
        "axis": np.array([1]),
        "weights": np.array([[1, -1]], np.float32),
        "biases": np.array([0, 1], np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "tags",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    info = ModelInfo("tag", "acme", ("bright", "dark"), (32,), (), "float", "scores", (64, 64), 1)
    helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    return bytes(model.SerializeToString())


def test_the_task_tags_images(installed: Callable[[str], None]) -> None:
    white = np.full((64, 64, 3), 230, np.uint8)
    with pytest.raises(SessionError, match="a model for the task 'tag' cannot be run here"):
        yoloship.load(tagging_model())
    installed("task")
    with yoloship.load(tagging_model()) as detector:
        assert list(detector(white).scores) == ["bright"]
        assert list(detector(white, score_threshold=0.05).scores) == ["bright", "dark"]
        assert list(detector(white, score_threshold=0.05, classes=["dark"]).scores) == ["dark"]
        assert detector(white).image_hw == (64, 64)
