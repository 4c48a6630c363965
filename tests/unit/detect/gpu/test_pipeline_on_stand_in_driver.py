"""Without a GPU: the detector on the device, and its benchmark, on a stand-in for the driver that runs our kernels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.cuda_emulator import with_stand_in_driver
from helpers.shared import PHOTOS, TRAINED, require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[4]

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs Python with the stand-in for a driver; what it wrote on stdout."""
    usual = with_stand_in_driver(tmp_path_factory.mktemp("cache"))

    def python(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT, env={**usual, **(environment or {})}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout

    return python


@pytest.mark.timeout(0)  # each of its tests has a limit of its own
def test_the_detectors_own_tests_pass(run: Callable[..., str]) -> None:
    names = ("detector", "tasks", "small_networks", "other_exports", "integrated")
    files = [f"tests/gpu/test_{name}.py" for name in names]
    assert "passed" in run("-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *files)


@pytest.mark.timeout(0)  # each of its tests has a limit of its own
def test_they_pass_too_where_the_memory_of_the_gpu_is_the_hosts(run: Callable[..., str]) -> None:
    files = ("tests/gpu/test_integrated.py", "tests/gpu/test_detector.py")
    chosen = "integrated or byte or images_of_all_sizes or pinned or mixed or read_where or rgb_frames"
    command = ("-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *files, "-k", chosen)
    assert "passed" in run(*command, environment={"STAND_IN_INTEGRATED": "1"})


@pytest.mark.timeout(0)  # a CPU plays the GPU, as fast as it can
def test_the_benchmark_runs_and_its_boxes_are_those_of_the_cpu(run: Callable[..., str], tmp_path: Path) -> None:
    for path in (TRAINED / "coco-yolov5n.pt", *(PHOTOS / name for name in ("bus.jpg", "zidane.jpg", "street.jpg"))):
        (tmp_path / path.name).symlink_to(require(path))
    skipped = "article,throughput,soak"
    text = run("bench/gpu_pipeline.py", "--smoke", "--data", str(tmp_path), "--engines", "stand-in", "--skip", skipped)
    assert "one graph: True" in text
    assert "FAILED" not in text
    assert "stages batch 2" in text


@pytest.mark.timeout(0)  # likewise
def test_the_benchmark_of_the_tasks_runs_and_its_results_are_those_of_the_cpu(run: Callable[..., str]) -> None:
    text = run("bench/gpu_tasks.py", "--smoke")
    for task in ("detect", "segment", "pose", "obb", "classify"):
        assert f"\n{task} " in text
    assert text.count(" 20 objects") == text.count("\n") - 2  # all but the heading and the class of the image
