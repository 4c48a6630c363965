from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from yoloship.doctor import run_trial, trials
from yoloship.doctor.examination import CAPABILITIES, MARK
from yoloship.errors import DependencyError
from yoloship.runtime.openvino import OpenVino


def test_a_trial_answers_with_what_it_found_out() -> None:
    result = run_trial("export")
    assert result.works
    assert result.problem == ""
    assert "onnx" in result.facts
    assert result.elapsed_s > 0


def test_a_trial_that_raises_answers_with_the_reason() -> None:
    result = run_trial("nothing of that name")
    assert not result.works
    assert result.problem == "KeyError: 'nothing of that name'"


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_a_trial_that_crashes_does_not_take_us_along() -> None:
    result = run_trial("x", program="import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert (result.works, result.problem) == (False, "the process that tried it crashed (SIGSEGV)")


def test_a_trial_that_hangs_is_ended() -> None:
    result = run_trial("x", program="import time; time.sleep(60)", timeout_s=0.5)
    assert (result.works, result.problem) == (False, "did not answer within 0.5 s")


def test_a_trial_that_leaves_early_is_no_success() -> None:
    result = run_trial("x", program="import sys; sys.exit('out of paper')")
    assert (result.works, result.problem) == (False, "the process that tried it ended with code 1: out of paper")


def test_an_answer_before_a_crash_does_not_count() -> None:
    answer = MARK + '{"facts": {}, "problem": ""}'
    result = run_trial("x", program=f"import sys; print({answer!r}); sys.exit(3)")
    assert not result.works


def test_a_file_in_the_working_directory_that_is_named_like_a_library_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx.py").write_text("raise SystemExit('the wrong one')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run_trial("export").works


def test_each_extra_of_the_package_is_a_capability() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    table = text.split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", table, re.MULTILINE)) - {"dev", "docs"}
    assert extras - {"rtx", "cuda12", "gpu-media12"} <= set(CAPABILITIES)  # others speak of them


def test_an_image_of_an_iphone_is_written_and_read() -> None:
    pytest.importorskip("pillow_heif")
    assert "pillow-heif" in trials.heic()


def test_a_video_is_written_and_read() -> None:
    assert "av" in trials.video()


@pytest.mark.parametrize("name", ["export", "onnxruntime", "opencv", "quantize"])
def test_what_a_plain_installation_must_do_works_here(name: str) -> None:
    assert trials.TRIALS[name]()


@pytest.mark.skipif(not OpenVino.is_installed(), reason="openvino is not installed")
def test_openvino_is_tried_in_each_precision_that_the_processor_has() -> None:
    found = trials.TRIALS["openvino"]()
    assert found["precisions"][0] == "float32"
    assert found["openvino"].startswith("20")


def test_without_openvino_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVino, "is_installed", classmethod(lambda _: False))
    with pytest.raises(DependencyError, match=r"pip install 'yoloship\[openvino\]'"):
        trials.TRIALS["openvino"]()


@pytest.mark.skipif(sys.platform != "linux", reason="only the wheels for Linux write it")
def test_no_trial_leaves_the_device_id_of_a_runtime_in_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)  # the runtime looks at it, and writes nothing then
    for name in ("onnxruntime", "quantize"):
        assert run_trial(name).works
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
