"""Every program in `examples/` runs, offline, in an empty folder, and leaves what it says."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

import yoloship
from helpers.doc_blocks import has_gpu
from helpers.networks import has_rtx_wheel
from helpers.samples import sample
from helpers.shared import IN_CI
from yoloship.demo.scene import make_scene
from yoloship.errors import DependencyError
from yoloship.graph import GraphConfig, build_graph, graph_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True, slots=True)
class Ran:
    """An example that has run.

    Attributes:
        folder: Where it ran, empty before.
        out: What it printed.
    """

    folder: Path
    out: str

    def image(self, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        image = cv2.imread(str(self.folder / name))
        assert image is not None, name
        return np.asarray(image, np.uint8)


CHECKS: dict[str, Callable[[Ran], None]] = {}


def check(function: Callable[[Ran], None]) -> Callable[[Ran], None]:
    """Register what the example of this name must leave."""
    CHECKS[function.__name__.removeprefix("check_") + ".py"] = function
    return function


@check
def check_first_detection(ran: Ran) -> None:
    rows = [line.split() for line in ran.out.splitlines()]
    names = [row[0] for row in rows]
    assert sorted(names) == sorted(["qr_code", "barcode", "marker", "marker", "marker"])
    truth = make_scene(0, (720, 1280)).boxes_xyxy
    boxes = np.array([row[2:] for row in rows], np.float32)
    for box in truth:
        assert np.abs(boxes - box).max(axis=1).min() < 12, f"no box near {box}"
    drawn = np.abs(ran.image("found.jpg").astype(int) - ran.image("images/scene-0.jpg")).max(axis=2) > 60
    assert 0.002 < drawn.mean() < 0.5


@check
def check_folder_to_csv(ran: Ran) -> None:
    with (ran.folder / "objects.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = json.loads((ran.folder / "objects.json").read_text(encoding="utf-8"))
    assert [Path(image["input"]).stem for image in images] == [
        "scene-0", "scene-1", "scene-2", "broken", "scene-3", "scene-4", "scene-5"
    ]  # fmt: skip
    assert [image["input"] for image in images if "error" in image] == [str(Path("images/broken.jpg"))]
    assert len(rows) == sum(len(image.get("detections", ())) for image in images) == 31
    assert {row["class_name"] for row in rows} == {"qr_code", "marker", "barcode"}
    assert len(ran.out.splitlines()) == 7


@check
def check_stream_and_batch(ran: Ran) -> None:
    assert [line.split(":")[0] for line in ran.out.splitlines()] == [
        str(Path(f"images/scene-{n}.jpg")) for n in range(8)
    ]


@check
def check_threads(ran: Ran) -> None:
    assert ran.out == "20 of 20 frames with the boxes of their own camera\n"


@check
def check_rgb_frames(ran: Ran) -> None:
    said, mistaken = ran.out.splitlines()
    assert said == "RGB, as said: 5 objects, the same as from BGR"
    assert mistaken.endswith("the same: False")


@check
def check_crops(ran: Ran) -> None:
    crops = sorted(path.name for path in (ran.folder / "crops").iterdir())
    assert len(crops) == int(ran.out.split()[0]) >= 4
    image = ran.image("images/scene-0.jpg")
    crop = ran.image(f"crops/{crops[0]}")
    _, _, (left, top), _ = cv2.minMaxLoc(cv2.matchTemplate(image, crop, cv2.TM_SQDIFF))
    height, width = crop.shape[:2]
    np.testing.assert_array_equal(image[top : top + height, left : left + width], crop)


@check
def check_count_objects(ran: Ran) -> None:
    counts = re.findall(r"^\d\.\d\d s: (\d) in, 0 out$", ran.out, re.MULTILINE)
    assert len(counts) == len(ran.out.splitlines())
    first, width = make_scene(0, (720, 1280)).boxes_xyxy, 640
    assert counts[-1] == str(int((first[:, ::2].mean(axis=1) > width / 2).sum()))
    assert ran.image("counted.jpg").shape == (720, width, 3)


@check
def check_verify_models(ran: Ran) -> None:
    assert len(ran.out.splitlines()) >= 4
    assert all(line.startswith("pass") for line in ran.out.splitlines())


@check
def check_onnxruntime_by_hand(ran: Ran) -> None:
    assert re.findall(r"(\d+) boxes, the same as yoloship's", ran.out) == ["5", "7", "7"]
    assert (ran.folder / "codes.onnx").stat().st_size > 1_000_000


@check
def check_build_engine(ran: Ran) -> None:
    about = json.loads((ran.folder / "codes.engine.json").read_text(encoding="utf-8"))
    assert (ran.folder / "codes.engine").stat().st_size == about["plan_bytes"]
    assert "float16" in about["dtypes"]
    [profile] = about["profiles"]
    assert "images: float32" in ran.out
    assert [profile[bound][0] for bound in ("minimum", "optimum", "maximum")] == [1, 4, 16]


@check
def check_openvino_runtime(ran: Ran) -> None:
    count, overlap = re.findall(r"[\d.]+", ran.out)
    assert int(count) == 21
    assert float(overlap) > 0.99


@check
def check_gpu_pipeline(ran: Ran) -> None:
    counts = dict(re.findall(r"^(\w+): (\d+) objects", ran.out, re.MULTILINE))
    assert set(counts) == {"pinned", "submit", "stream"}
    assert int(counts["submit"]) == 8 * int(counts["stream"]) > 0


@check
def check_classify(ran: Ran) -> None:
    rows = [line.split() for line in ran.out.splitlines()]
    assert sorted(row[0] for row in rows) == sorted(["qr_code", "barcode", "marker", "marker", "marker"])
    assert all(float(row[1]) > 0.9 for row in rows)
    assert ran.image("kinds.jpg").shape == (720, 1280, 3)


@check
def check_segment(ran: Ran) -> None:
    rows = re.findall(r"^(\w+) +([\d.]+)  (\d+) px in (\d+) parts, (\d+) corners$", ran.out, re.MULTILINE)
    assert len(rows) == len(ran.out.splitlines()) > 0
    with yoloship.load(ran.folder / "segment.onnx") as segmenter:
        found = segmenter(ran.folder / "photo.png")
    assert [int(row[2]) for row in rows] == found.masks.area_px.tolist()
    cut_out = cv2.imread(str(ran.folder / "object.png"), cv2.IMREAD_UNCHANGED)
    assert cut_out is not None
    assert set(np.unique(cut_out[:, :, 3])) <= {0, 255}
    assert np.count_nonzero(cut_out[:, :, 3]) == found.masks.area_px[0]


@check
def check_pose(ran: Ran) -> None:
    with yoloship.load(ran.folder / "pose.onnx") as poser:
        found = poser(ran.folder / "photo.png")
    seen = np.count_nonzero(found.keypoints[..., 2] >= 0.5)
    assert len(re.findall(r"^  point \d+ at [\d.]+ [\d.]+$", ran.out, re.MULTILINE)) == seen
    assert len(ran.out.splitlines()) == len(found) + seen > 0
    np.testing.assert_array_equal(ran.image("found.jpg").shape, (96, 128, 3))


@check
def check_oriented_boxes(ran: Ran) -> None:
    width, height = re.findall(r"(\d+)×(\d+) px around", ran.out)[0]
    assert ran.image("object.png").shape == (int(height), int(width), 3)
    assert all(line.endswith("° clockwise") for line in ran.out.splitlines())


NEEDS: dict[str, Callable[[], str | None]] = {
    "build_engine.py": lambda: None if find_spec("tensorrt_rtx") else "TensorRT-RTX is not installed",
    "openvino_runtime.py": lambda: None if find_spec("openvino") else "OpenVINO is not installed",
}
"""Why an example cannot run on this machine; None if it can."""


ARGUMENTS = {"gpu_pipeline.py": () if has_gpu() else ("cpu",)}
TASKS = {"segment.py": "segment", "pose.py": "pose", "oriented_boxes.py": "obb"}
"""The examples that take a model of a task and an image."""


def arguments(name: str, folder: Path) -> tuple[str, ...]:
    """The arguments of an example; the files that they name are made in the folder."""
    if name not in TASKS:
        return ARGUMENTS.get(name, ())
    task = TASKS[name]
    graph = build_graph(sample("ultralytics", task), GraphConfig((64, 96), 1))
    (folder / f"{task}.onnx").write_bytes(graph_bytes(graph))
    noise = np.random.default_rng(5).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    assert cv2.imwrite(str(folder / "photo.png"), noise)
    return f"{task}.onnx", "photo.png"


@pytest.mark.parametrize("name", TASKS)
def test_an_example_without_its_model_says_how_to_run_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name)])
    with pytest.raises(SystemExit, match=f"python examples/{name} best-"):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_the_gpu_example_says_why_it_cannot_run(tmp_path: Path) -> None:
    if has_gpu():
        pytest.skip("there is a GPU here")
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "gpu_pipeline.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 1
    assert re.fullmatch(r"cannot run here: .+\n", ran.stderr), ran.stderr


def test_each_example_is_checked() -> None:
    programs = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")}
    packages = {name for name in programs if name.startswith("extending/")}  # test_extending.py has these
    assert programs - packages - {"_demo.py"} == set(CHECKS)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_each_example_says_what_it_shows_and_how_to_run_it(name: str) -> None:
    header = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))) or ""
    assert re.match(r".+\.\n\n", header), "the first line is a sentence"
    assert re.search(rf"^    python examples/{re.escape(name)}( best-\w+\.pt photo\.jpg)?$", header, re.MULTILINE)


def test_each_example_is_listed() -> None:
    listed = re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(CHECKS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_example_runs_and_leaves_what_it_says(
    name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, as `python examples/NAME.py` would; `test_an_example_is_a_program` starts one for real."""
    problem = NEEDS[name]() if name in NEEDS else None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOSHIP_CACHE", str(cache))
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *arguments(name, tmp_path)])
    printed = io.StringIO()
    with redirect_stdout(printed):
        if problem is not None:
            with pytest.raises((DependencyError, SystemExit)):
                runpy.run_path(str(EXAMPLES / name), run_name="__main__")
            assert not (IN_CI and has_rtx_wheel()), f"{problem}; CI must have it"
            pytest.skip(f"{name}: {problem}")
        code: object = None
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as end:
            code = end.code
        finally:
            sys.modules.pop("_demo", None)
    assert not code, code
    CHECKS[name](Ran(tmp_path, printed.getvalue()))


def test_an_example_is_a_program(tmp_path: Path, cache: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", EXAMPLES / "first_detection.py"],
        cwd=tmp_path,
        env={**os.environ, "YOLOSHIP_CACHE": str(cache)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    check_first_detection(Ran(tmp_path, ran.stdout))
