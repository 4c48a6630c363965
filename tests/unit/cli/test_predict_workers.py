"""``--workers``: how many cores a run keeps busy, and that it says how they are shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cli import run
from helpers.images import saved, smooth
from helpers.models import finds_a_cat
from yoloship import InputError, load
from yoloship._util.cores import usable_cores
from yoloship.runtime.onnxruntime.cpu import MAX_RUNS
from yoloship.runtime.session import Session

HW = (64, 96)


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.onnx").write_bytes(finds_a_cat(HW).SerializeToString())
    Path("in").mkdir()
    for index in range(6):
        Path("in", f"{index}.png").write_bytes(saved(smooth(*HW), "PNG"))


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        ("1", "workers: one image at a time, 1 thread each, in batches of 1; "),
        ("3", "workers: 3 images at the same time, 1 thread each, in batches of 1; "),
        ("40", f"workers: {MAX_RUNS} images at the same time, 2 threads each, in batches of 1; "),
        ("auto", f"this process may use {usable_cores()} core"),
    ],
)
def test_it_says_once_how_the_cores_are_shared_and_finds_the_same(workers: str, said: str) -> None:
    plain = run("detect", "two.onnx", "in", "--no-draw", "--json", "-")
    ran = run("detect", "two.onnx", "in", "--no-draw", "--json", "-", "--workers", workers)
    assert (ran.code, ran.out) == (0, plain.out)
    assert ran.err.count("workers: ") == 1
    assert said in ran.err
    assert plain.err == ""
    assert run("detect", "two.onnx", "in", "--no-draw", "--workers", workers, "-q").err == ""


@pytest.mark.parametrize("workers", ["0", "-1", "two", "1.5", "10000"])
def test_what_is_not_a_number_of_cores_is_refused(workers: str) -> None:
    ran = run("detect", "two.onnx", "in", "--workers", workers)
    assert ran.code == 2
    assert f"'{workers}' is not a number of cores: give 1 to 999, or auto" in ran.err


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_python_refuses_it_too(workers: object) -> None:
    with pytest.raises(InputError, match="workers: out of range: expected 1 or more cores, got"):
        load("two.onnx", workers=workers)  # type: ignore[arg-type]


@pytest.mark.parametrize(("tuned_for", "runs", "threads"), [("latency", 1, 3), ("throughput", 3, 1)])
def test_python_shares_the_cores_by_what_it_is_tuned_for(tuned_for: str, runs: int, threads: int) -> None:
    with load("two.onnx", workers=3, tuned_for=tuned_for) as detector:  # type: ignore[arg-type]
        session = detector.session
        assert isinstance(session, Session)
        assert (session.concurrent_runs, session.run_threads) == (runs, threads)
