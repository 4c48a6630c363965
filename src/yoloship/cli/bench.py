"""``yoloship bench``: measure models on this machine, side by side and stage by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from yoloship.cli import options
from yoloship.cli.command import COUNT, FILE, SOURCE, Number, argument, command, option
from yoloship.cli.options import is_dash, is_stdout, named_images, outputs_for
from yoloship.cli.output import print_bytes, print_err, print_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from yoloship.evaluate.benchmark import BenchResult
    from yoloship.images import DecodeChoice

PLOT_SUFFIXES = (".svg", ".png")

MAX_IMAGE_BYTES = 4 << 30
"""Largest total size of the decoded images, because a benchmark holds all of them at once."""


@command(
    examples=(
        "yoloship bench best.pt",
        "yoloship bench best.pt best.engine --device cuda --batch 1,32 --streams 4 --plot bench.svg",
        "yoloship bench a.onnx b.onnx --source photos/ --json bench.json",
        "yoloship bench best.pt --runtime onnxruntime,openvino,openvino:bfloat16",
    )
)
@argument("models", metavar="MODEL...", many=True, help="Checkpoints, ONNX files, engines, release names.")
@option(
    "--source",
    type=SOURCE,
    multiple=True,
    metavar="SOURCE",
    help="Images, folders or patterns; may be repeated. Only as many as the largest batch takes are used. Default: one "
    "random image.",
)
@option(
    "--from",
    "origin",
    type=click.Choice(("array", "file")),
    default="array",
    help="Where a batch begins: array is images in memory; file is the files of --source, read and decoded each time, "
    "with the array's time beside it.",
)
@options.decode
@option("--batch", metavar="1,32", default="1", help="Batch sizes to measure.")
@option("--streams", metavar="1,4", default="1", help="Numbers of threads to measure throughput with.")
@option(
    "--device",
    metavar="cpu,cuda[:N|:all]",
    help="Where to run, one after the other; cuda:all is all GPUs together. Default: cpu, or the first GPU for an "
    "engine.",
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
@option("--rounds", type=COUNT, metavar="N", default=5, help="Rounds; each round measures every case once.")
@option("--runs", type=COUNT, metavar="N", default=5, help="Measured runs of a case per round.")
@option(
    "--seconds",
    type=Number(min=0),
    metavar="FLOAT",
    default=1.0,
    help="Seconds per throughput measurement; 0 skips it.",
)
@options.json_file
@option("--plot", type=FILE, metavar="FILE", help="Draw the results as .svg or .png.")
@options.overwrite
@options.recursive
def bench(  # noqa: PLR0913, PLR0917 - one parameter an option
    models: tuple[str, ...],
    source: tuple[str, ...],
    origin: str,
    decode: DecodeChoice,
    batch: str,
    streams: str,
    device: str | None,
    runtime: str | None,
    imgsz: tuple[int, int] | None,
    transform: str | None,
    names: tuple[str, ...] | None,
    names_from: tuple[str, ...] | None,
    rounds: int,
    runs: int,
    seconds: float,
    json_path: Path | None,
    plot: Path | None,
    overwrite: bool,
    recursive: bool,
) -> None:
    """Measure how fast models run on this machine, side by side.

    For each model it measures the time of a batch from images in memory to results, the time of each stage, the time
    of the network alone, and the images per second of several threads. --from file includes reading and decoding.
    """
    batches, threads = _numbers(batch, "--batch"), _numbers(streams, "--streams")
    if threads != (1,) and not seconds:
        raise click.UsageError("--streams is for throughput, which --seconds 0 skips")
    if origin == "file" and not source:
        raise click.UsageError("--from file needs files: --source photos/")
    if origin == "array" and decode != "auto":
        raise click.UsageError(f"--decode {decode} is for --from file: images in memory are decoded already")
    devices: tuple[str | None, ...] = (None,) if device is None else _words(device, "--device")
    if plot is not None and plot.suffix.lower() not in PLOT_SUFFIXES:
        raise click.UsageError(f"{plot} is not a plot: give a name that ends in {' or '.join(PLOT_SUFFIXES)}")
    places = named_images(source, recursive=recursive) if source else ()
    outputs = outputs_for(models, images=places, overwrite=overwrite)
    for path in (json_path, plot):
        if path is not None and not is_dash(path):
            outputs.claim(path)

    from yoloship._util.writing import write_bytes
    from yoloship.evaluate.bench_cases import BenchRuntime, bench_cases
    from yoloship.evaluate.benchmark import BenchOptions, benchmark
    from yoloship.evaluate.reports import bench_json, bench_table

    runtimes = (None,) if runtime is None else tuple(map(BenchRuntime.parse, _words(runtime, "--runtime")))
    class_names = options.chosen_names(names, names_from)
    cases = bench_cases(models, devices, runtimes, batches, threads, imgsz, transform, class_names, decode)
    if len(places) > (used := max(batches)):
        print_err(
            f"note: only the first {used} of {len(places)} images are measured, as many as the largest batch takes"
        )
    images = _read_images(places[:used])
    files = places[:used] if origin == "file" else ()
    plan = BenchOptions(rounds=rounds, runs=runs, throughput_s=seconds)
    results = benchmark(cases, images, plan, lambda what, _done, _total: print_err(what), files)
    data = bench_json(results, plan, [image.shape[:2] for image in images])
    if is_dash(json_path):
        print_bytes(data)
    elif json_path is not None:
        write_bytes(json_path, data, overwrite=overwrite)
    if not is_stdout(json_path) and not is_stdout(plot):
        print_text(bench_table(results))
    if plot is not None:
        write_bytes(plot, _drawn(results, plot), overwrite=overwrite)


def _read_images(places: Sequence[Path]) -> list[Any]:
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

    return [np.random.default_rng(0).integers(0, 256, (1080, 810, 3), dtype=np.uint8)]


def _drawn(results: Sequence[BenchResult], plot: Path) -> bytes:
    from yoloship.evaluate.reports import bench_bars, chart_pixels, chart_svg

    origin = "images in memory" if results[0].array is None else "files"
    subtitle = f"median of a batch, from {origin} to results; the black line is the network alone"
    words = ("yoloship bench", subtitle, "ms", bench_bars(results))
    if plot.suffix.lower() == ".svg":
        return chart_svg(*words).encode()
    import cv2

    _, encoded = cv2.imencode(".png", chart_pixels(*words))
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
