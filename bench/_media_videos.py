"""The parts of `gpu_media.py` that measure videos and cameras, with the way that decodes on the CPU beside them."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import _cameras
import _media_files as files
import cv2
import numpy as np
from _media_parts import LeftOut, Setting, network_rate

import yoloship
from yoloship.evaluate.bench_sources import BenchSources
from yoloship.evaluate.benchmark import BenchCase
from yoloship.evaluate.cameras import CameraOptions, CameraResult, most_streams
from yoloship.images import read_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from yoloship.detect.detector import Detector


_CLOSED_S = 1.0
"""The decoders of the videos before are closed by then, which no measurement counts."""


def _nvdec_alone(paths: Sequence[Path]) -> float:
    """Frames a second of the decoders alone, a thread for each file, from opening until the last frame is there."""
    import av

    from yoloship._util.cache import trusted_folder
    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.cuda.nvdec import Nvdec

    counts = [0] * len(paths)
    ends = [0.0] * len(paths)
    failures: list[BaseException] = []

    def work(place: int) -> None:
        try:
            with av.open(str(paths[place])) as container:
                video = container.streams.video[0]
                context = video.codec_context
                with nvdec.decoder(context.codec.canonical_name, context.extradata) as decoder:
                    for packet in container.demux(video):
                        if packet.size:
                            counts[place] += len(decoder.decode(packet))
                    counts[place] += len(decoder.decode(None))
                    ends[place] = time.perf_counter()
        except BaseException as error:
            failures.append(error)

    with (
        Device.open() as device,
        KernelSet(device, trusted_folder("kernels")) as kernels,
        Nvdec(device, kernels) as nvdec,
    ):
        time.sleep(_CLOSED_S)
        threads = [threading.Thread(target=work, args=(place,)) for place in range(len(paths))]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = max(ends) - began
    if failures:
        raise failures[0]
    return sum(counts) / took


def _videos(setting: Setting, count: int) -> list[Path]:
    if setting.videos is not None:
        given = sorted(path for path in setting.videos.iterdir() if path.suffix in {".mp4", ".mkv"})
        if not given:
            raise LeftOut(f"no .mp4 or .mkv in {setting.videos}")
        return (given * count)[:count]
    hw = (180, 320) if setting.smoke else (1080, 1920)
    frames = setting.pick(150, 12)
    first_one = files.encode(setting.folder / "0.mp4", files.views(setting.data, hw, frames), repeat=setting.pick(8, 1))
    paths = [first_one]
    for number in range(1, count):
        paths.append(setting.folder / f"{number}.mp4")
        paths[-1].write_bytes(first_one.read_bytes())
    return paths


def _video_rate(detector: Detector, paths: Sequence[Path]) -> tuple[float, int, list[str]]:
    from yoloship.sources import SourceOptions, open_source

    said: list[str] = []
    with open_source([str(path) for path in paths], SourceOptions(on_event=said.append)) as source:
        time.sleep(_CLOSED_S)
        began = time.perf_counter()
        count = sum(1 for outcome in detector.stream(source) if outcome.unwrap() is not None)
        return count / (time.perf_counter() - began), count, said


@contextmanager
def _decoders_watched(busy: list[float]) -> Iterator[None]:
    """Note how busy NVDEC is in percent, all its engines together; nothing without nvidia-smi."""
    command = [
        "nvidia-smi",
        "--query-gpu=utilization.decoder",
        "--format=csv,noheader,nounits",
        "--id=0",
        "-lms",
        "200",
    ]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        process.terminate()
        busy += [float(line) for line in process.communicate()[0].split() if line.isdigit()]


def video(setting: Setting) -> None:
    """Videos of 1080p from files, one and several at once, against the decoders alone; the first pass is not judged."""
    several = setting.pick(8, 2)
    paths = _videos(setting, several)
    with setting.load(decode="gpu") as detector, setting.load(decode="cpu") as host:  # auto leaves files to the CPU
        detector.prepare()
        setting.row("who decodes videos", 1, detector.video_decoding)
        network = network_rate(detector, 0.05 if setting.smoke else 0.5)
        setting.row("network alone, batch 32", network, "images/s")
        rates = {}
        for count in (1, several):
            first, frames, said = _video_rate(detector, paths[:count])
            setting.row(f"video, {count} files, first pass", first, "frames/s", frames=frames, said=said[:2])
            alone, ours = [], []
            busy_alone: list[float] = []
            busy: list[float] = []
            for _ in range(setting.pick(2, 1)):
                if setting.device != "cpu":
                    with _decoders_watched(busy_alone):
                        alone.append(_nvdec_alone(paths[:count]))
                with _decoders_watched(busy):
                    rate, frames, said = _video_rate(detector, paths[:count])
                ours.append(rate)
            rates[count] = max(ours)
            if alone:
                setting.row(
                    f"NVDEC alone, {count} files",
                    max(alone),
                    "frames/s",
                    rounds=alone,
                    decoders_busy_percent=busy_alone,
                )
            setting.row(
                f"video, {count} files", rates[count], "frames/s",
                frames=frames, said=said[:2], rounds=ours, decoders_busy_percent=busy,
            )  # fmt: skip
            if busy and busy_alone:
                setting.row(
                    f"NVDEC busy, {count} files", statistics.median(busy), "%", alone=statistics.median(busy_alone)
                )
            if alone:
                share = rates[count] / max(alone)
                setting.row(f"video over NVDEC alone, {count} files", share, at_least=0.9 if count > 1 else None)
                slower = min(max(alone), network)
                setting.row(f"video over the slower of NVDEC and network, {count} files", rates[count] / slower)
                if count > 1:
                    _by_float16(setting, paths, max(alone))
        host.prepare()
        rate, frames, _ = _video_rate(host, paths[: min(2, several)])
        setting.row("video, decoded by the CPU, 2 files", rate, "frames/s", frames=frames)
        setting.row("video over decoding by the CPU", rates[several] / rate, "×")


def _by_float16(setting: Setting, paths: Sequence[Path], alone: float) -> None:
    """The same with a network that is faster than the decoders."""
    model = setting.folder / "float16.onnx"
    yoloship.export(setting.model, model, precision="float16", batch="dynamic", imgsz=160 if setting.smoke else None)
    with setting.load(model, decode="gpu") as detector:
        detector.prepare()
        network = network_rate(detector, 0.05 if setting.smoke else 0.5)
        rates = [_video_rate(detector, paths)[0] for _ in range(3)]
    name = f"{len(paths)} files, network in float16"
    setting.row("network alone in float16, batch 32", network, "images/s")
    setting.row(f"video, {name}", max(rates[1:]), "frames/s", rounds=rates)
    setting.row(f"video over NVDEC alone, {name}", max(rates[1:]) / alone, at_least=0.9)


def cameras(setting: Setting) -> None:
    """1080p cameras at 30 frames a second: how many, by search, with the latency at each number that was tried.

    What is used for the first time is used before the search, and a number that is nearly carried is tried once more.
    """
    hw = (180, 320) if setting.smoke else (1080, 1920)
    group = _cameras.encoded_group(setting.data / files.PHOTOS[2], hw)
    seconds, most = setting.pick(4, 1), setting.pick(96, 2)
    for way in ("auto", "cpu") if setting.device != "cpu" else ("cpu",):
        how, first = ("decoded by the CPU", 8) if way == "cpu" else ("one GPU", 64)
        with setting.load(decode=way) as detector:
            detector.prepare()
            known: dict[int, _cameras.Load] = {}

            def probe(count: int) -> _cameras.Load | None:
                kept_s = 45 if way == "auto" else 0  # noqa: B023 - used within this turn
                for _ in range(2):
                    if setting.left_s < 12 + seconds + count / 8 + kept_s:
                        break
                    load = _cameras.measure(detector, count, group, seconds)
                    setting.row(f"{count} cameras, {how}, p99", load.complete_ms[2], "ms", **load.plain())  # noqa: B023
                    known[count] = load  # noqa: B023
                    if load.is_carried(complete=True) or not load.is_near:
                        break
                return known.get(count)  # noqa: B023

            begun = _cameras.measure(detector, min(most, first // 2), group, 1)
            setting.row(
                f"{begun.cameras} cameras, {how}, first use, the most", begun.complete_ms[3], "ms", **begun.plain()
            )  # fmt: skip
            count, is_done = _cameras.search(
                probe, lambda load: load.is_carried(complete=True), min(most, first), most
            )  # fmt: skip
            is_known = count > 0 or is_done  # else no number was tried
            setting.row(
                f"cameras at 30/s, p99 ≤ 50 ms, {how}", count, "cameras",
                at_least=1 if way == "auto" and is_known else None,
                search="to its end" if is_done else "its time was over",
                since_sent=max((n for n, load in known.items() if load.is_carried(complete=False)), default=0),
            )  # fmt: skip
            if count:
                best = known[count]
                p99_ms, is_judged = best.complete_ms[2], way == "auto"
                setting.row(f"p99 at that number, {how}", p99_ms, "ms", at_most=50 if is_judged else None)
                setting.row(f"frames lost at that number, {how}", best.lost, at_most=0 if is_judged else None)


def soak(setting: Setting) -> None:
    """10,000 frames from 8 streams at once: each says its number, every result must be that frame's, memory flat."""
    from gpu_pipeline import rss_bytes

    from yoloship.demo.run import checkpoint_bytes
    from yoloship.sources import open_source

    streams, each = setting.pick(8, 2), setting.pick(1250, 15)
    model = setting.folder / "codes.pt"
    model.write_bytes(checkpoint_bytes())
    paths = files.numbered_videos(setting.folder, streams, each)
    places = {str(path): number for number, path in enumerate(paths)}
    with setting.load(model, decode="gpu") as detector:
        detector.prepare()
        done, errors, on_device = 0, 0, 0
        wrong: list[str] = []
        seen: dict[int, list[int]] = {number: [] for number in range(streams)}
        marks: list[tuple[int, int, int]] = []
        began = time.perf_counter()
        with open_source(list(places)) as source:
            for outcome in detector.stream(source):
                frame = outcome.frame
                assert frame is not None
                if done % max(1, streams * each // 10) == 0:
                    marks.append((done, detector.device_bytes() or 0, rss_bytes()))
                done += 1
                on_device += hasattr(frame.image, "host")
                stream = places[frame.name.rsplit("#", 1)[0]]
                seen[stream].append(frame.index)
                if outcome.error is not None:
                    errors += 1
                    continue
                number = files.number_of(outcome.unwrap().boxes_xyxy)
                if number != 1 + stream * each + frame.index:
                    wrong.append(f"{frame.name}: {number}")
        took = time.perf_counter() - began
        marks.append((done, detector.device_bytes() or 0, rss_bytes()))
    out_of_order = sum(places_seen != list(range(each)) for places_seen in seen.values())
    middle, last = marks[len(marks) // 3], marks[-1]
    facts: dict[str, Any] = {"streams": streams, "seconds": round(took, 1), "on_device": on_device, "marks": marks}
    setting.row("frames of numbered videos", done, "frames", at_least=streams * each, **facts)
    setting.row("frames with another number", len(wrong), at_most=0, examples=wrong[:5])
    setting.row("frames with an error", errors, at_most=0)
    setting.row("videos with frames missing or out of order", out_of_order, at_most=0)
    setting.row("device memory grown after a third", (last[1] - middle[1]) / 1e6, "MB", at_most=32)
    setting.row("host memory grown after a third", (last[2] - middle[2]) / 1e6, "MB", at_most=64)


class _OverError(KeyboardInterrupt):
    """The time of a search is over, which then gives what it has found."""


def held(setting: Setting) -> None:
    """1080p at 30 frames a second without a network between, as `yoloship bench --fps` does it: how many, by search."""
    photo = cv2.resize(read_image(setting.data / files.PHOTOS[2]), (1920, 1080)).astype(np.uint8)
    jpeg = setting.folder / "frame.jpg"
    cv2.imwrite(str(jpeg), photo)
    videos = _videos(setting, 1)
    by_gpu, by_cpu = ("cpu", "cpu") if setting.device == "cpu" else ("gpu", "cpu")
    ways: list[tuple[str, BenchSources, str, int]] = [  # and after how many seconds no trial begins
        ("arrays", BenchSources([photo]), by_cpu, 18),
        ("videos", BenchSources([photo], "file", (), videos), by_gpu, 24),
        ("JPEG files", BenchSources([photo], "file", [jpeg]), by_gpu, 18),
        ("frames on the GPU", BenchSources([photo], "device"), by_cpu, 16),
        ("videos, decoded by the CPU", BenchSources([photo], "file", (), videos), by_cpu, 16),
    ]
    plan = CameraOptions(
        seconds=1.5 if not setting.smoke else 0.3, settle_s=0.3, most=setting.pick(1024, 2), first=setting.pick(16, 1)
    )
    for name, sources, decode, most_s in ways:
        if setting.device == "cpu" and name in {"frames on the GPU", "videos, decoded by the CPU"}:
            continue
        if setting.left_s < 15 and not setting.smoke:
            break
        ends = time.monotonic() + min(most_s, setting.left_s - 10)

        def tell(what: str, *_: object) -> None:
            if time.monotonic() > ends and what.endswith(("stream", "streams")):  # noqa: B023 - used within this turn
                raise _OverError
            print(f"    {what}", flush=True)

        case = BenchCase(name, setting.device, 1, 1, partial(setting.load, decode=decode))
        results: list[CameraResult] = []
        with suppress(_OverError):
            results = most_streams([case], sources, plan, tell, results.extend)
        (found,) = results
        best = found.carried
        setting.row(
            f"streams held at 30/s, p99 ≤ 50 ms: {name}", 0 if best is None else best.streams, "streams",
            p99_ms=best.latency.p99 if best and best.latency else None, decoded_by=found.decoded_by,
            search="to its end" if found.is_complete else "its time was over",
            trials=[asdict(one) for one in found.trials],
        )  # fmt: skip


PARTS = (
    ("video", video, 110, 1),
    ("cameras", cameras, 165, 2),
    ("soak", soak, 50, 2),
    ("held", held, 100, 1),
)
