"""What a frame of a video costs Python on its way from a decoder of the GPU to its result, measured without a GPU.

    python bench/video_cost.py                            # 1 and 8 files, decoders as an H100's and without limit
    python bench/video_cost.py --files 8 --decoder-us 360 --profile

The GPU is the stand-in of `frame_cost.py`, which takes its time without a processor. A decoder is one, too: its frames
take `--decoder-us` of one of seven engines each, in which a thread sleeps without Python's lock. Containers are opened
and taken apart by PyAV, as they are in truth. So the processor time of this process is what Python and the bindings
take. "Alone" is the same decoders with nothing behind them, a thread for each file.

For each number of files: frames a second, the share of the decoders alone, microseconds of processor time for each
frame, and how often a thread waited or lost the processor (per frame, as Linux counts them). Rounds alternate.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests"), str(HERE.parent / "src")]

from frame_cost import detector_on, measured  # noqa: E402 - the path above leads to it

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINES = 7
SIZE = (192, 160)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default="1,8")
    parser.add_argument("--frames", type=int, default=400, help="of each file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--decoder-us", default="2000,0", help="of an engine for a frame; 0 takes no time")
    parser.add_argument("--run-us", default="300,20,500", help="of a batch, of an image in it; GB/s of copies")
    parser.add_argument("--profile", action="store_true", help="print where the time goes; distorts the figures")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments)))
        return
    from helpers.cuda_emulator import with_stand_in_driver

    with tempfile.TemporaryDirectory() as cache:
        environment = {**with_stand_in_driver(Path(cache)), "STAND_IN_IDLE": arguments.run_us}
        command = [sys.executable, __file__, *sys.argv[1:], "--child"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    rows = json.loads(done.stdout.splitlines()[-1])
    print(f"{'':34}{'frames/s':>9}{'share':>7}{'µs a frame':>12}{'waits':>8}{'taken':>7}")
    for row in rows:
        what = f"{row['files']} files, {row['decoder_us']} µs, {row['way']}"
        print(
            f"{what:34}{row['rate']:9.0f}{row['share']:7.2f}{row['all_us']:12.1f}{row['waits']:8.2f}{row['taken']:7.2f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def child(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from helpers.kept import compiled_kernels
    from helpers.videos import Clip, write_clip
    from yoloship.cuda import nvdec
    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.detect.gpu.video_decoding import VideoDecoding

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, detector_on(1) as detector, Device.open() as device:
        clip = Clip(times_ms=tuple(range(0, 40 * arguments.frames, 40)), size=SIZE, gop=30)
        first = write_clip(Path(folder) / "0.mp4", clip)
        most = max(map(int, arguments.files.split(",")))
        paths = [first, *(Path(folder) / f"{number}.mp4" for number in range(1, most))]
        for path in paths[1:]:
            path.write_bytes(first.read_bytes())
        kernels = KernelSet(device, compiled_kernels())
        pipeline: Any = detector._pipeline
        pipeline._videos = VideoDecoding(device, kernels, "gpu", "model")
        module: Any = nvdec
        for decoder_us in map(int, arguments.decoder_us.split(",")):
            stand_in = StillAv(decoder_us / 1e6)
            module.load_av = lambda _name, made=stand_in: made
            for files in map(int, arguments.files.split(",")):
                given = paths[:files]
                ways: dict[str, Callable[[], None]] = {
                    "alone": lambda given=given: alone(given, arguments.frames),  # type: ignore[misc]
                    "detector": lambda given=given: streamed(detector, given, arguments.frames),  # type: ignore[misc]
                }
                found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
                for turn in range(arguments.rounds + 1):
                    for way, work in ways.items():
                        row = measured(work, files * arguments.frames)
                        if turn:
                            found[way].append(row)
                if arguments.profile:
                    profiled(ways["detector"])
                medians = {
                    way: {key: statistics.median(row[key] for row in some) for key in some[0]}
                    for way, some in found.items()
                }
                for way, row in medians.items():
                    share = row["rate"] / medians["alone"]["rate"]
                    rows.append({"files": files, "decoder_us": decoder_us, "way": way, "share": share, **row})
        pipeline._videos.close()
        kernels.close()
    return rows


def streamed(detector: Any, paths: list[Path], each: int) -> None:
    from yoloship.sources import open_source

    with open_source([str(path) for path in paths]) as source:
        assert sum(len(outcome.unwrap()) == 5 for outcome in detector.stream(source)) == each * len(paths)


def alone(paths: list[Path], each: int) -> None:
    """The decoders with nothing behind them."""
    import av

    from yoloship.cuda import nvdec

    counts = [0] * len(paths)

    def work(place: int) -> None:
        context = nvdec.load_av("").CodecContext.create("h264", "r", None)
        with av.open(str(paths[place])) as container:
            for packet in container.demux(container.streams.video[0]):
                counts[place] += len(context.decode(packet if packet.size else None))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(paths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [each] * len(paths)


class StillAv:
    """Looks like the module `av` where `yoloship.cuda.nvdec` uses it. Its decoders wait instead of decoding.

    Args:
        frame_s: Of an engine for a frame.
    """

    def __init__(self, frame_s: float) -> None:
        self.frame_s = frame_s
        self.engines = threading.Semaphore(ENGINES)
        self.CodecContext = SimpleNamespace(create=lambda _codec, _mode, _hwaccel=None, **_how: StillDecoder(self))
        self.codec = SimpleNamespace(
            hwaccel=SimpleNamespace(HWAccel=lambda *_, **__: None, hwdevices_available=lambda: ["cuda"])
        )

    def __getattr__(self, name: str) -> Any:
        import av

        return getattr(av, name)


class StillDecoder:
    """Gives a frame for each packet, all at the same address."""

    is_hwaccel = True

    def __init__(self, owner: StillAv) -> None:
        from yoloship.cuda.buffers import DeviceBuffer
        from yoloship.cuda.device import Device

        pitch = 256
        with Device.open() as device:
            self._memory = DeviceBuffer(device, pitch * SIZE[1] * 2)
        self._owner = owner
        chroma = self._memory.pointer + pitch * SIZE[1]
        self._planes = (
            SimpleNamespace(buffer_ptr=self._memory.pointer, line_size=pitch),
            SimpleNamespace(buffer_ptr=chroma, line_size=pitch),
        )

    def __del__(self) -> None:
        self._memory.close()

    def decode(self, packet: Any) -> list[Any]:
        if packet is None or not packet.size:
            return []
        if self._owner.frame_s:
            with self._owner.engines:
                time.sleep(self._owner.frame_s)
        return [StillFrame(packet.pts, self._planes)]


class StillFrame:
    """A frame on the stand-in device."""

    __slots__ = ("planes", "pts")
    format = SimpleNamespace(name="cuda")
    sw_format = SimpleNamespace(name="nv12")
    width, height = SIZE
    colorspace, color_range, rotation = 2, 0, 0
    is_corrupt = False
    side_data: dict[str, Any] = {}  # noqa: RUF012 - as PyAV has it, of each frame

    def __init__(self, pts: int, planes: Any) -> None:
        self.pts, self.planes = pts, planes


def profiled(work: Callable[[], None]) -> None:
    """Print where threads spend their time: the caller's, one that decodes, and one that runs batches."""
    profiles: dict[str, cProfile.Profile] = {}
    original = threading.Thread.run

    def watched(self: threading.Thread) -> None:
        profile = profiles.setdefault(self.name, cProfile.Profile(time.thread_time))
        profile.runcall(original, self)

    threading.Thread.run = watched  # type: ignore[method-assign]
    own = profiles["MainThread"] = cProfile.Profile(time.thread_time)
    try:
        own.runcall(work)
    finally:
        threading.Thread.run = original  # type: ignore[method-assign]
    for name, profile in sorted(profiles.items())[:2]:
        print(f"--- {name}", file=sys.stderr)
        profile.create_stats()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
