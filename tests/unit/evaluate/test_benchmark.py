from __future__ import annotations

import _thread
import json
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.models import image_session, info, random_heads
from helpers.videos import Clip, write_clip
from yoloship.detect.detector import Detector, StageTimes
from yoloship.errors import ImageError, InputError, SessionError
from yoloship.evaluate.bench_sources import BenchSources, first_frames
from yoloship.evaluate.benchmark import BenchCase, BenchOptions, BenchResult, Spread, benchmark
from yoloship.evaluate.reports import bench_bars, bench_json, bench_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IMAGES = [np.random.default_rng(n).integers(0, 256, (50 + n, 120, 3), dtype=np.uint8) for n in range(2)]
SOURCES = BenchSources(IMAGES)
QUICK = BenchOptions(rounds=2, runs=3, throughput_s=0.02, gap_s=0)


class Counted:
    """Opens detectors, and remembers them."""

    def __init__(self, batch: int | None = 1, script: Any = None) -> None:
        self.detectors: list[Detector] = []
        self._record = info(batch=batch)
        self._script = script or (lambda feeds: random_heads(0, (64, 96), batch=len(feeds["images"])))

    def __call__(self) -> Detector:
        session = image_session(self._record, self._script)
        self.detectors.append(Detector(session))
        return self.detectors[-1]


def case(opened: Callable[[], Detector], batch: int = 1, streams: int = 1) -> BenchCase:
    return BenchCase("best.onnx", "cpu", batch, streams, opened)


def test_every_case_is_measured_whole_in_stages_and_as_the_network_alone() -> None:
    dynamic, fixed = Counted(None), Counted(1)
    results = benchmark([case(dynamic, 3), case(fixed, 2, streams=2)], SOURCES, QUICK)
    for result in results:
        assert result.total.runs == result.network.runs == 6
        assert 0 < result.total.p50 <= result.total.p90 <= result.total.p99
        assert result.network.p50 > 0
        assert list(result.stages) == ["letterbox", "network", "decode", "suppress"]
        assert all(spread.runs == 6 and spread.p50 > 0 for spread in result.stages.values())
        assert result.ratio > 0
        assert result.images_per_s > 0
        assert result.share > 0
        assert result.device_bytes is None
        assert result.load_ms > 0 < result.warm_up_ms
        assert result.backend == "scripted"


class Clocked:
    """A detector whose work takes as long as it says, by a clock of its own."""

    session = SimpleNamespace(name="clocked")

    def __init__(self) -> None:
        self.now = 0.0

    def detect_batch(self, images: Any) -> None:
        self.now += 4.0

    def profile(self, images: Any) -> StageTimes:
        return StageTimes({"network": 2.0}, 2.0)

    @contextmanager
    def network(self, images: int) -> Iterator[Callable[[], None]]:
        def run() -> None:
            self.now += 2.0

        yield run

    def device_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass


def test_the_ratio_is_that_of_a_batch_to_its_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked: Any = Clocked()
    monkeypatch.setattr("yoloship.evaluate.benchmark.time.perf_counter", lambda: clocked.now)
    plan = BenchOptions(rounds=2, runs=3, throughput_s=0, gap_s=0)
    (found,) = benchmark([BenchCase("m", "cpu", 1, 1, lambda: clocked)], SOURCES, plan)
    assert (found.total.p50, found.network.p50, found.ratio) == (4000, 2000, 2)


def test_the_network_alone_is_run_as_often_as_the_pipeline_runs_it() -> None:
    for batch, runs, shape in ((1, 4, (1, 64, 96, 3)), (None, 1, (4, 64, 96, 3)), (3, 2, (3, 64, 96, 3))):
        opened = Counted(batch)
        detector = opened()
        with detector.network(4) as network:
            network()
        session: Any = opened.detectors[0].session
        assert [call["images"].shape for call in session.calls] == [shape] * runs
        detector.profile([IMAGES[0]] * 4)
        assert [call["images"].shape for call in session.calls[runs:]] == [shape] * runs


def test_models_are_closed_also_where_one_fails() -> None:
    def fails(_: Any) -> Any:
        raise SessionError("on purpose")

    good, bad = Counted(), Counted(script=fails)
    with pytest.raises(SessionError, match="on purpose"):
        benchmark([case(good), case(bad)], SOURCES, QUICK)
    closed: list[Any] = [one.session for opened in (good, bad) for one in opened.detectors]
    assert all(session.closed for session in closed)
    assert len(closed) == 2


def test_a_failure_in_a_thread_ends_the_measurement() -> None:
    calls = iter(range(10**6))

    def fails(feeds: Any) -> Any:
        if next(calls) > 40:
            raise SessionError("on purpose")
        return random_heads(0, (64, 96), batch=len(feeds["images"]))

    with pytest.raises(SessionError, match="on purpose"):
        benchmark([case(Counted(script=fails), streams=3)], SOURCES, BenchOptions(1, 2, 5.0, 0))


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        benchmark([], SOURCES)
    for wrong in (
        {"rounds": 0},
        {"runs": 0},
        {"throughput_s": -1.0},
        {"throughput_s": float("inf")},
        {"gap_s": float("nan")},
    ):
        with pytest.raises(InputError, match=next(iter(wrong))):
            BenchOptions(**wrong)


def result(**changes: Any) -> BenchResult:
    stages = {"letterbox": Spread(1, 1, 1, 5), "network": Spread(6, 6, 6, 5), "decode": Spread(1, 1, 1, 5)}
    values: dict[str, Any] = {
        "case": BenchCase("best.onnx", "cuda:0", 32, 4, Counted()),
        "backend": "onnxruntime 1.32.0",
        "load_ms": 120.4,
        "warm_up_ms": 80.2,
        "total": Spread(10, 11, 12, 5),
        "network": Spread(8, 8.5, 9, 5),
        "stages": stages,
        "ratio": 1.25,
        "images_per_s": 1234.5,
        "network_images_per_s": 1500.0,
        "share": 0.823,
        "host_peak_bytes": 150_000_000,
        "device_bytes": 300_000_000,
    }
    return BenchResult(**{**values, **changes})


def test_the_table_has_the_times_the_ratio_and_the_memory() -> None:
    text = bench_table([result(), result(images_per_s=0.0, share=0.0, device_bytes=None)], SOURCES)
    lines = text.splitlines()
    assert lines[0].split() == [
        "model",
        "on",
        "batch",
        "streams",
        "p50",
        "ms",
        "p90",
        "p99",
        "network",
        "ratio",
        "images/s",
        "share",
    ]
    assert lines[1].split() == [
        "best.onnx",
        "cuda:0",
        "32",
        "4",
        "10.00",
        "11.00",
        "12.00",
        "8.00",
        "1.25",
        "1234.5",
        "0.82",
    ]
    assert lines[2].split()[-2:] == ["–", "–"]
    assert "stages p50 ms: letterbox 1.00, network 6.00, decode 1.00" in text
    assert "loading 120 ms, first results after another 80 ms, peak memory 150 MB, on the device 300 MB" in text


def test_rows_that_differ_in_their_streams_alone_can_be_told_apart() -> None:
    one, two = (result(case=BenchCase("best.onnx", "cpu", 1, streams, Counted())) for streams in (1, 2))
    lines = bench_table([one, two], SOURCES).splitlines()
    assert [line.split()[:4] for line in lines[1:3]] == [["best.onnx", "cpu", "1", count] for count in "12"]
    assert "best.onnx on cpu, batch 1: onnxruntime 1.32.0" in lines
    assert "best.onnx on cpu, batch 1, 2 streams: onnxruntime 1.32.0" in lines
    assert [bar.note for bar in bench_bars([one, two], SOURCES)] == ["cpu, batch 1", "cpu, batch 1, 2 streams"]


def test_the_json_has_the_conditions_and_every_figure() -> None:
    report = json.loads(bench_json([result()], QUICK, SOURCES))
    assert report["conditions"]["versions"]["numpy"] == np.__version__
    assert report["conditions"]["cores"] >= 1
    assert report["plan"] == {"rounds": 2, "runs": 3, "throughput_s": 0.02, "gap_s": 0}
    assert (report["from"], report["images_hw"]) == ("array", [[50, 120], [51, 120]])
    (row,) = report["results"]
    assert row["total_ms"] == {"p50": 10, "p90": 11, "p99": 12, "runs": 5}
    assert (row["ratio"], row["share"], row["streams"]) == (1.25, 0.823, 4)


def test_a_bar_is_as_long_as_the_whole_and_marks_the_network() -> None:
    (bar,) = bench_bars([result()], SOURCES)
    assert sum(value for _, value in bar.parts) == pytest.approx(10)
    assert [name for name, _ in bar.parts] == ["letterbox", "network", "decode"]
    assert bar.mark == 8
    assert bar.text == "10.00 ms, ×1.25, 1234/s"


def test_files_reach_the_detector_as_files(tmp_path: Path) -> None:
    import cv2

    files = [tmp_path / f"{number}.png" for number in range(2)]
    for file, image in zip(files, IMAGES, strict=True):
        cv2.imwrite(str(file), image)
    sources = BenchSources(IMAGES, "file", files)
    (result,) = benchmark([case(Counted(None), 2)], sources, QUICK)
    assert result.array is not None
    assert result.array.runs == result.total.runs == 6
    assert result.decoded_by == "cpu (the CPU prepares the images)"
    assert "  decoded by cpu (the CPU prepares the images)" in bench_table([result], sources)
    files[1].write_bytes(b"no image")  # a batch from memory alone would not notice
    with pytest.raises(ImageError):
        benchmark([case(Counted(None), 2)], sources, QUICK)


def test_videos_are_decoded_from_their_files_and_what_they_show_is_measured_from_memory_too(tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = write_clip(tmp_path / "clip.mp4", Clip(times_ms=(0, 40, 80, 120)))
    sources = BenchSources(first_frames([video], 2), "file", (), [video])
    opened = Counted(None)
    (result,) = benchmark([case(opened, 2, streams=2)], sources, QUICK)
    assert result.array is not None
    assert result.total.runs == result.array.runs == 6  # more frames than the video has
    assert result.images_per_s > 0
    assert result.decoded_by is not None
    session: Any = opened.detectors[0].session
    assert session.closed


def test_an_interruption_gives_what_was_measured_and_is_raised_on() -> None:
    kept: list[BenchResult] = []

    def interrupt(what: str, *_: float) -> None:
        if what.startswith("round 2"):
            raise KeyboardInterrupt

    opened = Counted(None)
    with pytest.raises(KeyboardInterrupt):
        benchmark([case(opened), case(Counted(None), 2)], SOURCES, QUICK, interrupt, kept.extend)
    assert [(one.case.batch, one.total.runs) for one in kept] == [(1, 3), (2, 3)]
    session: Any = opened.detectors[0].session
    assert session.closed


def test_an_interruption_in_a_measurement_of_throughput_ends_its_threads() -> None:
    once = iter([_thread.interrupt_main])

    def interrupts(feeds: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            next(once, lambda: None)()
        return random_heads(0, (64, 96), batch=len(feeds["images"]))

    before, kept = threading.active_count(), list[BenchResult]()
    plan = BenchOptions(rounds=1, runs=1, throughput_s=60.0, gap_s=0)
    with pytest.raises(KeyboardInterrupt):
        benchmark([case(Counted(None, interrupts), streams=2)], SOURCES, plan, on_interrupt=kept.extend)
    assert threading.active_count() == before
    assert kept == []  # its first round was not complete
