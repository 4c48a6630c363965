"""``yoloship bench``: measure models on this machine, side by side and stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from yoloship.cli import options
from yoloship.cli.command import COUNT, FILE, SOURCE, Number, argument, command, option
from yoloship.cli.options import is_dash, is_stdout, named_images, outputs_for
from yoloship.cli.output import print_bytes, print_err, print_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from yoloship.evaluate.bench_sources import BenchSources, Origin
    from yoloship.evaluate.benchmark import BenchCase, BenchResult
    from yoloship.evaluate.cameras import CameraResult
    from yoloship.evaluate.reports import Bar
    from yoloship.images import DecodeChoice

PLOT_SUFFIXES = (".svg", ".png")
_BEGINS = MappingProxyType(
    {"array": "from images in memory", "file": "from files", "device": "from images in the memory of the GPU"}
)

MAX_IMAGE_BYTES = 4 << 30
"""Largest total size of the decoded images, because a benchmark holds all of them at once."""


@command(
    examples=(
        "yoloship bench best.pt",
        "yoloship bench best.pt best.engine --device cuda --batch 1,32 --streams 4 --plot bench.svg",
        "yoloship bench a.onnx b.onnx --source photos/ --json bench.json",
        "yoloship bench best.pt --runtime onnxruntime,openvino,openvino:bfloat16",
        "yoloship bench best.pt --from file --source clip.mp4",
        "yoloship bench best.pt --fps 30 --plot cameras.png",
        "yoloship bench best.pt --fps 30 --from file --source clip.mp4 --device cuda --decode gpu",
    )
)
@argument("models", metavar="MODEL...", many=True, help="Checkpoints, ONNX files, engines, release names.")
@option(
    "--source",
    type=SOURCE,
    multiple=True,
    metavar="SOURCE",
    help="Images, folders, patterns or videos; may be repeated. Only as many images as fit into the largest batch "
    "are used. Default: one random image, in 1080p with --fps.",
)
@option(
    "--from",
    "origin",
    type=click.Choice(("array", "file", "device")),
    default="array",
    help="Where a measurement starts. array: images in memory. file: the files of --source, read and decoded each "
    "time. device: images in GPU memory. For file and device, the time from memory is measured as well.",
)
@option(
    "--fps",
    type=Number(min=0, min_open=True),
    metavar="N",
    help="Find how many cameras with N frames a second a model can handle without losing a frame, with a p99 latency "
    "within --max-latency. The number is doubled until it fails, then numbers in between are tried. With --from "
    "file, videos are played in real time.",
)
@option(
    "--max-latency",
    type=Number(min=0, min_open=True),
    metavar="MS",
    help="With --fps: maximum time from when a frame is due to its result, for 99 of 100 frames. Default: 50.",
)
@options.decode
@option("--batch", metavar="1,32", help="Batch sizes to measure. Default: 1.")
@option("--streams", metavar="1,4", help="Numbers of threads to measure throughput with. Default: 1.")
@option(
    "--device",
    metavar="cpu,cuda[:N|:all]",
    help="Where to run; several are measured one after the other, and cuda:all is all GPUs together. Default: cpu, "
    "or the first GPU for an engine.",
)
@option(
    "--runtime",
    metavar="NAME[:PRECISION],…",
    help="Libraries that run the network: onnxruntime, openvino, openvino:bfloat16, or tensorrt, which builds an "
    "engine first. Default: onnxruntime, or tensorrt for an engine.",
)
@options.imgsz
@options.transform
@options.names
@options.names_from
@option("--rounds", type=COUNT, metavar="N", help="Number of rounds; each round measures every case once. Default: 5.")
@option("--runs", type=COUNT, metavar="N", help="Measured runs per case and round. Default: 5.")
@option(
    "--seconds",
    type=Number(min=0),
    metavar="FLOAT",
    help="Seconds per throughput measurement (default 1; 0 skips it), or per trial of --fps (default 3).",
)
@options.json_file
@option("--plot", type=FILE, metavar="FILE", help="Plot the results as .svg or .png.")
@options.overwrite
@options.recursive
def bench(  # noqa: PLR0913, PLR0917 - one parameter an option
    models: tuple[str, ...],
    source: tuple[str, ...],
    origin: Origin,
    fps: float | None,
    max_latency: float | None,
    decode: DecodeChoice,
    batch: str | None,
    streams: str | None,
    device: str | None,
    runtime: str | None,
    imgsz: tuple[int, int] | None,
    transform: str | None,
    names: tuple[str, ...] | None,
    names_from: tuple[str, ...] | None,
    rounds: int | None,
    runs: int | None,
    seconds: float | None,
    json_path: Path | None,
    plot: Path | None,
    overwrite: bool,
    recursive: bool,
) -> None:
    """Measure how fast models run on this machine, side by side.

    For each model it measures the time of a batch from images in memory to results, the time of each stage, the time of
    the network alone, and the images per second of several threads. --from file includes reading and decoding. With
    --fps it measures instead how many cameras the model can handle. If you stop it, the results so far are written.
    """
    _refuse_without_effect(
        fps, {"--batch": batch, "--streams": streams, "--rounds": rounds, "--runs": runs}, max_latency
    )
    batches, threads = _numbers(batch or "1", "--batch"), _numbers(streams or "1", "--streams")
    if threads != (1,) and seconds == 0:
        raise click.UsageError("--streams is for throughput, which --seconds 0 skips")
    if origin == "file" and not source:
        raise click.UsageError("--from file needs files: --source photos/")
    if origin != "file" and decode != "auto":
        raise click.UsageError(f"--decode {decode} is for --from file: otherwise images are decoded already")
    devices: tuple[str | None, ...] = (None,) if device is None else _words(device, "--device")
    if plot is not None and plot.suffix.lower() not in PLOT_SUFFIXES:
        raise click.UsageError(f"{plot} is not a plot: give a name that ends in {' or '.join(PLOT_SUFFIXES)}")
    videos, places = _found(source, recursive=recursive)
    outputs = outputs_for(models, images=(*places, *videos), overwrite=overwrite)
    for path in (json_path, plot):
        if path is not None and not is_dash(path):
            outputs.claim(path)

    from yoloship.evaluate.bench_cases import BenchRuntime, bench_cases, check_origin

    runtimes = (None,) if runtime is None else tuple(map(BenchRuntime.parse, _words(runtime, "--runtime")))
    class_names = options.chosen_names(names, names_from)
    cases = bench_cases(models, devices, runtimes, batches, threads, imgsz, transform, class_names, decode)
    check_origin(cases, origin)
    used = max(batches) if fps is None else len(places)
    if len(places) > used:
        print_err(
            f"note: only the first {used} of {len(places)} images are measured, as many as the largest batch takes"
        )
    sources = _read(places[:used], videos, origin, used=used, is_camera=fps is not None)
    report = _Report(json_path, plot, overwrite)
    if fps is None:
        _measure(cases, sources, (rounds, runs, seconds), report)
    else:
        _search(cases, sources, (fps, max_latency, seconds), report)


def _measure(
    cases: Sequence[BenchCase],
    sources: BenchSources,
    settings: tuple[int | None, int | None, float | None],
    to: _Report,
) -> None:
    from yoloship.evaluate.benchmark import BenchOptions, benchmark
    from yoloship.evaluate.reports import bench_bars, bench_json, bench_table

    rounds, runs, seconds = settings
    plan = BenchOptions(rounds=rounds or 5, runs=runs or 5, throughput_s=1.0 if seconds is None else seconds)

    def write(results: Sequence[BenchResult]) -> None:
        if not results:
            return
        subtitle = f"median of a batch, {_BEGINS[sources.origin]} to results; the black line is the network alone"
        to.write(
            bench_json(results, plan, sources),
            lambda: bench_table(results, sources),
            ("yoloship bench", subtitle, "ms", bench_bars(results, sources)),
        )

    write(benchmark(cases, sources, plan, _progress, write))


def _search(
    cases: Sequence[BenchCase], sources: BenchSources, settings: tuple[float, float | None, float | None], to: _Report
) -> None:
    from yoloship.evaluate.cameras import CameraOptions, cameras_bars, cameras_json, cameras_table, most_streams

    fps, max_latency, seconds = settings
    plan = CameraOptions(
        fps=fps,
        max_latency_ms=50.0 if max_latency is None else max_latency,
        seconds=3.0 if seconds is None else seconds,
    )

    def write(results: Sequence[CameraResult]) -> None:
        results = [result for result in results if result.trials]
        if not results:
            return
        subtitle = f"latency of streams of {fps:g} frames a second, {_BEGINS[sources.origin]} to results; "
        subtitle += "the black line is the limit"
        to.write(
            cameras_json(results, plan, sources),
            lambda: cameras_table(results, plan),
            ("yoloship bench: cameras", subtitle, "ms", cameras_bars(results, plan)),
        )

    write(most_streams(cases, sources, plan, _progress, write))


@dataclass(frozen=True, slots=True)
class _Report:
    """Where results go."""

    json_path: Path | None
    plot: Path | None
    overwrite: bool

    def write(self, data: bytes, table: Callable[[], str], chart: tuple[str, str, str, Sequence[Bar]]) -> None:
        from yoloship._util.writing import write_bytes

        if is_dash(self.json_path):
            print_bytes(data)
        elif self.json_path is not None:
            write_bytes(self.json_path, data, overwrite=self.overwrite)
        if not is_stdout(self.json_path) and not is_stdout(self.plot):
            print_text(table())
        if self.plot is not None:
            write_bytes(self.plot, _drawn(self.plot, *chart), overwrite=self.overwrite)


def _progress(what: str, _done: float, _total: float) -> None:
    print_err(what)


def _refuse_without_effect(fps: float | None, of_batches: dict[str, object], max_latency: float | None) -> None:
    if fps is None and max_latency is not None:
        raise click.UsageError("--max-latency is for --fps")
    given = [name for name, value in of_batches.items() if value is not None]
    if fps is not None and given:
        raise click.UsageError(
            f"{given[0]} has no effect with --fps, which searches for the number of streams that a model can handle"
        )


def _found(source: tuple[str, ...], *, recursive: bool) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Videos, or images."""
    from yoloship.sources.recognise import recognise
    from yoloship.sources.video import VideoFiles

    videos = [text for text in source if recognise(text) == "video"]
    if not videos:
        return (), named_images(source, recursive=recursive) if source else ()
    if len(videos) < len(source):
        raise click.UsageError("--source has videos and images: measure one after the other")
    return tuple(VideoFiles.open(videos).paths), ()


def _read(
    places: Sequence[Path], videos: Sequence[Path], origin: Origin, *, used: int, is_camera: bool
) -> BenchSources:
    from yoloship.evaluate.bench_sources import BenchSources, first_frames

    if videos:
        return BenchSources(first_frames(videos, len(videos) if is_camera else used), origin, (), videos)
    files = places if origin == "file" else ()
    return BenchSources(_read_images(places, (1080, 1920) if is_camera else (1080, 810)), origin, files)


def _read_images(places: Sequence[Path], usual_hw: tuple[int, int]) -> list[Any]:
    from yoloship.images import read_image

    if places:
        images, held_bytes = [], 0
        for path in places:
            images.append(read_image(path))
            held_bytes += images[-1].nbytes
            if held_bytes > MAX_IMAGE_BYTES:
                raise click.UsageError(f"the images take more than {MAX_IMAGE_BYTES >> 30} GiB of memory; name fewer")
        return images
    import numpy as np

    return [np.random.default_rng(0).integers(0, 256, (*usual_hw, 3), dtype=np.uint8)]


def _drawn(plot: Path, *chart: Any) -> bytes:
    from yoloship.evaluate.reports import chart_pixels, chart_svg

    if plot.suffix.lower() == ".svg":
        return chart_svg(*chart).encode()
    import cv2

    _, encoded = cv2.imencode(".png", chart_pixels(*chart))
    return bytes(encoded.tobytes())


def _numbers(text: str, option: str) -> tuple[int, ...]:
    words = _words(text, option)
    if not all(word.isascii() and word.isdecimal() and 0 < int(word) < 100_000 for word in words):
        raise click.BadParameter(f"{text!r} is not a list of numbers: give {option} 1, or 1,4", param_hint=option)
    return tuple(dict.fromkeys(map(int, words)))


def _words(text: str, option: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise click.BadParameter("there is nothing between the commas", param_hint=option)
    return words
