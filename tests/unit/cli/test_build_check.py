"""``yoloship build --check``, and what ``build`` refuses before it does any work."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.networks import float_network, require_rtx
from helpers.shared import GENERATED, require

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _needs_tensorrt() -> None:
    require_rtx()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    shutil.copy(require(GENERATED / "v7-yolov5n.pt"), path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (64, 96, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), noise)
    return folder


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a graph nor an engine is made."""

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("work was begun")

    monkeypatch.setattr("yoloship.models.building.build_engine", fail)
    monkeypatch.setattr("yoloship.graph.build_graph", fail)


def lines(text: str) -> dict[str, tuple[bool, str]]:
    found = {}
    for line in text.splitlines():
        name, _, words = line[6:].partition(": ")
        found[name] = (line.startswith("ok"), words)
    return found


def test_a_build_that_would_go_says_so_and_writes_nothing(checkpoint: Path, images: Path) -> None:
    options = ["--precision", "int8", "--calibrate", str(images), "--batch", "1:2:4", "--output", "nms"]
    ran = run("build", checkpoint, "--check", *options)
    assert ran.code == 0, ran
    found = lines(ran.out)
    assert list(found) == ["TensorRT", "model", "output", "names", "calibration"]
    assert all(passed for passed, _ in found.values())
    assert found["TensorRT"][1].startswith("tensorrt_rtx 1.")
    assert "images 1×3×640×640 to 2×3×640×640 to 4×3×640×640" in found["model"][1]
    assert "MB for a batch of 4 at 640×640, estimated" in found["model"][1]
    assert found["calibration"][1] == "3 images"
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["best.pt", "images"]


def test_a_check_says_all_that_is_wrong_at_once(checkpoint: Path, tmp_path: Path) -> None:
    ran = run(
        "build", checkpoint, "-o", tmp_path / "none" / "x.engine", "--check", "--precision", "float8",
        "--target", "8.6", "--calibrate", tmp_path / "missing", "--imgsz", "650",
    )  # fmt: skip
    assert ran.code == 1
    assert ran.err == ""
    found = lines(ran.out)
    assert found["TensorRT"] == (
        False,
        "target sm86: cannot compute float8: expected sm89 or newer; leave that target out, or choose another "
        "precision",
    )
    assert "650" in found["model"][1]
    assert "there is no such folder" in found["output"][1]
    assert "missing" in found["calibration"][1]
    assert not any(passed for passed, _ in found.values())


def test_a_check_of_an_onnx_file_looks_at_its_shapes_and_types(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(float_network().SerializeToString())
    assert run("build", path, "--check").code == 0
    ran = run("build", path, "--check", "--batch", "1:2:4")
    assert ran.code == 1
    assert "batch is fixed in the graph: expected 1, got 1:2:4" in lines(ran.out)["model"][1]
    assert "no output that NMS can be appended to" in run("build", path, "--check", "--output", "nms").out
    assert "has no float32 convolution" not in run("build", path, "--check", "--precision", "float16").out
    path.write_text("<html></html>")
    assert "web page" in lines(run("build", path, "--check").out)["model"][1]


def test_a_check_finds_taken_names_and_full_disks(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "best.engine.json").write_text("mine")
    found = lines(run("build", checkpoint, "--check").out)
    assert (found["output"][0], found["names"][0]) == (True, False)
    assert lines(run("build", checkpoint, "--check", "--overwrite").out)["names"][0]
    full = SimpleNamespace(total=10**9, used=10**9, free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    assert "has too little free space: expected about" in lines(run("build", checkpoint, "--check").out)["output"][1]


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "float8", "--calibrate", "IMAGES", "--target", "8.6"], "target sm86: cannot compute float8"),
        (["--precision", "bf16", "--target", "7.5"], "target sm75: cannot compute bfloat16: expected sm80 or newer"),
        (
            ["--optimization-level", "3"],
            "option optimization_level has no effect here: every level",
        ),
        (["--version-compatible"], "option version_compatible has no effect here"),
        (["--target", "current"], "target current needs an NVIDIA GPU"),
        (["--flavour", "tensorrt"], "tensorrt: is not installed; install it with: pip install"),
        (
            ["--precision", "int8", "--calibrate", "missing"],
            "calibrate (--calibrate): missing: is not a file or",
        ),
        (["--precision", "int8", "--calibrate", "EMPTY"], "empty: has no images"),
        (["--precision", "int8", "--calibrate", "IMAGES", "--labels", "EMPTY"], "holds no labels of these images"),
        (["--batch", "4:2:8"], "--batch: bad range"),
        (["--batch", "0"], "--batch: bad range"),
        (["--imgsz", "320:640"], "is not a size"),
        (["--workspace", "12"], "--workspace: bad build option"),
        (["--max-drop", "0.1"], "--max-drop: only for --precision int8 and float8"),
        (["--precision", "int8"], "needs images like those in production: --calibrate DIR"),
        (["--precision", "float16", "--calibrate", "IMAGES"], "--calibrate: only for --precision int8 and float8"),
        (["--conf", "0.3"], "need --output nms"),
    ],
)
def test_what_the_arguments_decide_is_refused_before_any_work(
    checkpoint: Path, images: Path, tmp_path: Path, options: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--flavour" not in options:
        options = ["--flavour", "rtx", *options]
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setattr("yoloship.engine.flavours.find_spec", lambda name: None if name == "tensorrt" else name)
    places = {"IMAGES": str(images), "EMPTY": str(empty)}
    ran = run("build", checkpoint, *[places.get(option, option) for option in options])
    assert ran.code in {1, 2}, ran
    assert words in " ".join(ran.err.split())
    assert len(ran.err.splitlines()) == (1 if ran.code == 1 else 4), ran
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "empty", "images"]


def test_no_message_names_a_temporary_file(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yoloship.errors import EngineError

    seen: list[str] = []

    def broken(onnx: Path, *_: Any, **__: Any) -> Any:
        seen.append(str(onnx))
        raise EngineError(f"fails on {onnx}", subject=str(onnx), expected=f"{onnx}", got=f"{onnx}", hint=f"see {onnx}")

    monkeypatch.setattr("yoloship.models.building.build_engine", broken)
    error = run("build", checkpoint).error
    assert error == f"{checkpoint}: fails on {checkpoint}: expected {checkpoint}, got {checkpoint}; see {checkpoint}"
    assert str(checkpoint) not in seen


def test_a_full_temporary_folder_is_one_clear_line(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert run("build", checkpoint).error == (
        f"{tmp_path / 'gone'}: a temporary file cannot be written: No such file or directory; free some space there, "
        "or set TMPDIR to another folder"
    )


def test_errors_name_the_file_that_was_given_and_not_the_graph_inside(checkpoint: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    assert run("export", checkpoint, "-o", half, "--precision", "bf16").code == 0
    assert run("build", half, "--precision", "fp16").error.startswith(f"{half}: is in lower precision already")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "best.engine"], "best.engine: is a TensorRT engine, not an ONNX model"),
        (["export", "best.onnx"], "best.onnx: is an ONNX model, not a checkpoint"),
        (["export", "best.pt", "-o", "x.engine"], "export writes ONNX files; 'yoloship build best.pt' writes engines"),
        (["build", "best.pt", "-o", "x.onnx"], "build writes engines; 'yoloship export best.pt' writes ONNX files"),
        (["build", "best.pt", "--optimization-level", "9"], "9 is not in the range"),
        (["export", "best.pt", "-o", "y.onnx", "--imgsz", "641"], "--imgsz: input size is not a multiple of 32"),
        (
            ["export", "best.pt", "-o", "y.onnx", "--output", "nms", "--max-det", "5000"],
            "--max-det: cannot have this value",
        ),
        (["export", "input_hw"], "input_hw: no such file"),
    ],
)
def test_what_is_wrong_is_named_as_the_user_wrote_it(
    checkpoint: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    (checkpoint.parent / "best.onnx").write_bytes(float_network().SerializeToString())
    (checkpoint.parent / "best.engine").write_bytes(b"vtrt" + bytes(60))
    ran = run(*arguments)
    assert ran.code in {1, 2}
    assert words in " ".join(ran.err.split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--imgsz", "330:640:1280"],
            "height is not a multiple of the model's stride: expected a multiple of 32, got 330",
        ),
        (["--imgsz", "650"], "650"),
    ],
)
def test_shapes_that_cannot_be_are_refused_before_anything_is_calibrated(
    checkpoint: Path, images: Path, options: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("calibration was begun")

    monkeypatch.setattr("yoloship.precision.lowering.in_precision", fail)
    ran = run("build", checkpoint, "--precision", "int8", "--calibrate", images, *options)
    assert words in ran.error


def test_a_range_for_a_fixed_graph_is_refused_before_anything_is_calibrated(
    checkpoint: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fixed.onnx"
    assert run("export", checkpoint, "-o", path, "--imgsz", "64").code == 0

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("calibration was begun")

    monkeypatch.setattr("yoloship.precision.lowering.in_precision", fail)
    ran = run("build", path, "--precision", "int8", "--calibrate", images, "--batch", "1:2:4")
    assert "batch is fixed in the graph: expected 1, got 1:2:4" in ran.error
