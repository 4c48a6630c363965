from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from helpers.models import image_session, info, random_heads
from yoloship.detect.detector import Detector
from yoloship.errors import InputError, SessionError
from yoloship.evaluate import cameras
from yoloship.evaluate.bench_sources import BenchSources
from yoloship.evaluate.benchmark import BenchCase, Spread
from yoloship.evaluate.cameras import (
    CameraOptions,
    CameraResult,
    CameraTrial,
    cameras_bars,
    cameras_json,
    cameras_table,
    most_streams,
    search,
)

SOURCES = BenchSources([np.zeros((50, 120, 3), np.uint8)])
QUICK = CameraOptions(fps=25, max_latency_ms=60_000, seconds=0.2, settle_s=0.04, most=2)


def opened(script: Any = None) -> Detector:
    answer = script or (lambda feeds: random_heads(0, (64, 96), batch=len(feeds["images"])))
    return Detector(image_session(info(batch=None), answer))


CASE = BenchCase("best.onnx", "cpu", 1, 1, opened)


@pytest.mark.parametrize("first", [1, 16])
@pytest.mark.parametrize("most", [16, 64, 1000])
@pytest.mark.parametrize("truth", [0, 1, 2, 3, 7, 8, 31, 64, 100, 999])
def test_the_search_finds_the_number_to_a_part_in_32(truth: int, most: int, first: int) -> None:
    tried: list[int] = []

    def is_carried(count: int) -> bool:
        tried.append(count)
        return count <= truth

    found, wanted = search(is_carried, most, first), min(truth, most)
    assert wanted - max(0, wanted // 32) <= found <= wanted
    assert len(tried) == len(set(tried)) <= 18
    assert max(tried) <= most


def test_each_number_is_run_through_the_detector_and_measured() -> None:
    progress: list[str] = []
    (found,) = most_streams([CASE], SOURCES, QUICK, lambda what, *_: progress.append(what))
    first = found.trials[0]
    assert (first.streams, first.frames) == (1, 5)
    assert first.latency is not None
    assert first.latency.runs == first.frames - first.lost
    assert first.latency.p50 > 0
    assert (found.backend, found.decoded_by, found.is_complete) == ("scripted", None, True)
    assert progress[:2] == ["loading best.onnx on cpu", "best.onnx on cpu: 1 stream"]


def trial(streams: int, p99: float, *, lost: int = 0, is_carried: bool = True) -> CameraTrial:
    return CameraTrial(streams, Spread(p99 / 2, p99, p99, 90), 30 * streams, lost, 30.0 * streams, is_carried)


def test_a_number_that_fails_narrowly_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        1: [trial(1, 60, is_carried=False), trial(1, 40)],
        2: [trial(2, 40, lost=20, is_carried=False)],
    }  # fmt: skip
    monkeypatch.setattr(cameras, "trial", lambda *arguments: answers[arguments[3]].pop(0))
    (found,) = most_streams([CASE], SOURCES, CameraOptions(most=2))
    assert [one.streams for one in found.trials] == [1, 1, 2]
    assert found.carried == trial(1, 40)


def test_an_error_of_the_model_ends_the_search() -> None:
    def fails(_: Any) -> Any:
        raise SessionError("on purpose")

    with pytest.raises(SessionError, match="on purpose"):
        most_streams([BenchCase("m", "cpu", 1, 1, lambda: opened(fails))], SOURCES, QUICK)


def test_an_interruption_gives_the_trials_so_far_and_is_raised_on() -> None:
    kept: list[CameraResult] = []

    def interrupt(what: str, *_: float) -> None:
        if "none lost" in what or "lost" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        most_streams([CASE], SOURCES, QUICK, interrupt, kept.extend)
    (one,) = kept
    assert ([found.streams for found in one.trials], one.is_complete) == ([1], False)


def test_what_is_out_of_range_is_refused() -> None:
    for wrong in (
        {"fps": 0.0},
        {"max_latency_ms": 0.0},
        {"seconds": 0.0},
        {"settle_s": -1.0},
        {"most": 0},
        {"first": 5, "most": 4},
    ):
        with pytest.raises(InputError, match=next(iter(wrong))):
            CameraOptions(**wrong)
    with pytest.raises(InputError, match="nothing to measure"):
        most_streams([], SOURCES)


RESULTS = [
    CameraResult(
        CASE, "onnxruntime 1.32.0", "gpu (nvJPEG 13.0)",
        (
            trial(1, 20), trial(2, 30), trial(4, 80, lost=7, is_carried=False), trial(3, 60, is_carried=False),
            trial(3, 45),
        ),
        is_complete=True,
    )
]  # fmt: skip


def test_the_table_answers_first_and_lists_what_was_tried() -> None:
    lines = cameras_table(RESULTS, CameraOptions()).splitlines()
    assert lines[0] == "streams of 30 frames a second, p99 latency at most 50 ms, no frame lost:"
    assert lines[1] == "  best.onnx on cpu: 3, p50 22.5 ms, p99 45.0 ms, none lost, 90 frames/s"
    assert "  decoded by gpu (nvJPEG 13.0)" in lines
    assert lines[-1] == "      4  p50 40.0 ms, p99 80.0 ms, 7 of 120 frames lost"
    none = CameraResult(CASE, "o", None, (trial(1, 80, is_carried=False),), is_complete=True)
    assert "  best.onnx on cpu: none" in cameras_table([none], CameraOptions())


def test_the_json_has_the_criterion_and_every_trial() -> None:
    report = json.loads(cameras_json(RESULTS, CameraOptions(), SOURCES))
    assert (report["plan"]["fps"], report["plan"]["max_latency_ms"], report["from"]) == (30, 50, "array")
    (row,) = report["cameras"]
    assert (row["streams"], row["decoded_by"], row["is_complete"]) == (3, "gpu (nvJPEG 13.0)", True)
    assert [one["streams"] for one in row["trials"]] == [1, 2, 4, 3, 3]
    assert row["trials"][2]["lost"] == 7


def test_a_bar_ends_at_the_99th_percentile_and_marks_the_limit() -> None:
    bars = cameras_bars(RESULTS, CameraOptions())
    assert [bar.label for bar in bars] == ["1 stream, cpu", "2 streams, cpu", "3 streams, cpu", "4 streams, cpu"]
    assert bars[2].parts == (("p50", 22.5), ("to p99", 22.5))
    assert [bar.mark for bar in bars] == [50.0] * 4
    assert bars[3].note == "120 frames/s, 7 of 120 lost"
