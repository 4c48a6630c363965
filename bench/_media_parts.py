"""The parts of `gpu_media.py` that measure images: each one thing, with the way that decodes on the CPU beside it.

Another module `_media_*.py` with `PARTS` brings its own: a function of a `Setting` that notes figures by `Setting.row`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _media_files as files
from _before import before

import yoloship
from yoloship.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.detect.detector import Detector

HERE = Path(__file__).resolve().parent


class LeftOut(Exception):  # noqa: N818 - it is not an error
    """This part cannot be measured here; the message says why."""


@dataclass
class Setting:
    """How a part runs.

    Attributes:
        data: Folder with the checkpoint and the photos.
        device: ``cuda`` or ``cpu``; on the CPU everything that needs a GPU is left out.
        smoke: Small and quick: whether it runs, not how fast.
        rows_path: Where its rows go, one line of JSON each.
        folder: For files that are made.
        ends: When its time is over, by `time.monotonic`.
        videos: Folder with H.264 videos to use instead of those that are made; None makes them.
        part: Its name.
        before: Folder with the `src` of an older commit; None leaves the comparison out.
        facts: What one function of a part leaves for another.
    """

    data: Path
    device: str
    smoke: bool
    rows_path: Path
    folder: Path
    ends: float
    videos: Path | None = None
    part: str = ""
    before: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        return self.data / "coco-yolov5n.pt"

    @property
    def left_s(self) -> float:
        return self.ends - time.monotonic()

    def pick(self, usual: int, smoke: int) -> int:
        return smoke if self.smoke else usual

    def row(
        self, name: str, value: float, unit: str = "", *, at_least: float | None = None, at_most: float | None = None,
        **facts: Any,
    ) -> None:  # fmt: skip
        """Note a figure at once, so that a part that is cut off leaves what it has."""
        row = {"name": name, "value": round(float(value), 4), "unit": unit, "at_least": at_least, "at_most": at_most}
        with self.rows_path.open("a") as out:
            out.write(json.dumps({"part": self.part, **row, "facts": facts}, default=str) + "\n")
        print(f"  {name}: {value:.6g} {unit} {facts or ''}", flush=True)

    def load(self, model: Path | None = None, *, decode: str = "auto", device: str | None = None) -> Detector:
        device = device or self.device
        how: dict[str, Any] = {} if device == "cpu" else {"decode": decode}
        if self.smoke and model is None:
            how["imgsz"] = 160
        if self.smoke and device != "cpu":
            how["cuda_tuning"] = yoloship.CudaTuning(slots=2, max_batch=4)
        return yoloship.load(model or self.model, device=device, **how)

    def need_gpu(self, what: str) -> None:
        if self.device == "cpu":
            raise LeftOut(f"{what} cannot be had without a GPU")


def streamed(detector: Detector, sources: Any) -> tuple[float, list[Any]]:
    """Images a second, and the results; an error is an error here."""
    began = time.perf_counter()
    found = [outcome.unwrap() for outcome in detector.stream(sources)]
    return len(found) / (time.perf_counter() - began), found


def network_rate(detector: Detector, seconds: float) -> float:
    """Images a second of the network alone, in its largest batches: the better of one and two streams."""
    from gpu_pipeline import network_rate as measured

    batch = max(detector.batches)
    return max(measured(detector, batch, streams, seconds) for streams in (1, 2))


def p50_ms(work: Callable[[], object], runs: int) -> float:
    for _ in range(3):
        work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def _decoder_alone(setting: Setting, data: list[bytes], seconds: float) -> None:
    """nvJPEG in batches of 32, without and with the check of what it decodes."""
    from yoloship._util.cache import trusted_folder
    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.detect.gpu.jpeg_engine import JpegEngine, jpeg_file
    from yoloship.images import open_image

    with (
        Device.open() as device,
        KernelSet(device, trusted_folder("kernels")) as kernels,
        JpegEngine(device, kernels) as engine,
    ):
        opened = [jpeg_file(open_image(one)) for one in data]
        batch = [one for one in (opened * 32)[:32] if one is not None]

        def decode() -> None:
            blocks = engine.memory.take([one.decoded_bytes for one in batch])
            for image in engine.decode(batch, [block for block in blocks if block is not None]):
                assert image is not None
                image.close()

        usual = engine._decoder.decode
        spent = 0.0

        def timed(*arguments: Any) -> None:
            nonlocal spent
            began = time.perf_counter()
            try:
                usual(*arguments)
            finally:
                spent += time.perf_counter() - began

        decode()
        object.__setattr__(engine._decoder, "decode", timed)
        began, rounds = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            decode()
            rounds += 1
        whole = time.perf_counter() - began
    setting.facts["decoder"] = rounds * len(batch) / spent
    setting.row("JPEG decoder alone, batch 32", setting.facts["decoder"], "images/s")
    setting.row("JPEG decoder with the check, batch 32", rounds * len(batch) / whole, "images/s")


def folder(setting: Setting) -> None:
    """A folder of JPEGs of the three photos; with `--before`, beside an older commit that runs a fifth of them."""
    count, seconds = setting.pick(3000, 24), 0.05 if setting.smoke else 0.5
    names = files.folder_of_photos(setting.data, setting.folder, count)
    if setting.device != "cpu":
        try:
            _decoder_alone(setting, [name.read_bytes() for name in names[:3]], seconds)
        except yoloship.YoloshipError as error:  # the rest is worth measuring where there is no engine
            print(f"  no JPEG decoder here: {error}", flush=True)
    with setting.load() as detector, setting.load(decode="cpu") as host, ExitStack() as stack:
        for one in (detector, host):
            one.prepare()
        older = None
        if setting.before is not None:
            some = names[: max(24, count // 5)]
            device = "cpu" if "stand-ins" in setting.facts else setting.device
            older_one = before(setting.before, setting.model, some, device, 160 if setting.smoke else None)
            try:
                older = stack.enter_context(older_one)
            except RuntimeError as error:  # the rest is worth measuring without it
                print(f"  {error}", flush=True)
        setting.row("who decodes", 1, detector.decoding.images, reason=detector.decoding.reason)
        network = network_rate(detector, seconds)
        setting.row("network alone at first, batch 32", network, "images/s")
        arrays = [read_image(name) for name in names[:3]] * (count // 3)
        few = names[: max(24, count // 4)]
        streamed(detector, names[:300])
        streamed(host, few)
        fast, slow, held, past = [], [], [], []
        expected = [len(one) for one in streamed(host, names[:3])[1]]
        wrong, took = 0, 0.0
        for turn in range(1, setting.pick(3, 1) + 1):
            if setting.left_s < took + 4:
                break
            began = time.monotonic()
            rate, found = streamed(detector, names)
            wrong += sum(len(one) != expected[place % 3] for place, one in enumerate(found))
            fast.append(rate)
            setting.row(f"folder, round {turn}", rate, "images/s")
            slow.append(streamed(host, few)[0])
            setting.row(f"folder, decoded by the CPU, round {turn}", slow[-1], "images/s")
            if older is not None:
                then = older()
                past.append(then.pop("rate"))
                agreed = sum(len(one) == boxes for one, boxes in zip(found, then.pop("boxes"), strict=False))
                setting.row(f"folder, the way before, round {turn}", past[-1], "images/s", agreed=agreed, **then)
            held.append(streamed(detector, arrays)[0])
            took = time.monotonic() - began
        network = max(network, network_rate(detector, seconds))
        rate, by_cpu = statistics.median(fast), statistics.median(slow)
        rounds = {"gpu": fast, "cpu": slow, "arrays": held, "before": past}
        setting.row("network alone, batch 32", network, "images/s")
        setting.row("folder, decoded by the CPU", by_cpu, "images/s", images=len(few))
        setting.row("folder", rate, "images/s", images=count, rounds=rounds)
        setting.row("arrays", statistics.median(held), "images/s")
        setting.row("folder: images with another number of boxes", wrong, at_most=0)
        setting.row("folder over decoding by the CPU", rate / by_cpu, "×", at_least=None if past else 3.5)
        if setting.before is not None and past:
            then_rate = statistics.median(past)
            setting.row(f"folder over the way before ({setting.before.name})", rate / then_rate, "×", at_least=3.5)
        setting.row(
            "folder over the slower of decoder and network",
            rate / min(network, setting.facts.get("decoder", network)), at_least=0.85,
        )  # fmt: skip


def file(setting: Setting) -> None:
    """One JPEG file at a time, over the same photo in memory; and how long it takes until the GPU decodes."""
    runs = setting.pick(100, 3)
    with setting.load() as detector, setting.load(decode="cpu") as host:
        path = setting.data / files.PHOTOS[0]
        began = time.perf_counter()
        detector(path)
        setting.row("first file after loading", 1e3 * (time.perf_counter() - began), "ms")
        decoding = detector.decoding  # waits until it is open
        opened = time.perf_counter() - began
        setting.row("GPU decodes files, after loading", opened, "s", decoding=decoding.images, reason=decoding.reason)
        for name in files.PHOTOS:
            path = setting.data / name
            image = read_image(path)
            array, one, slow = (
                p50_ms(lambda: detector(image), runs),  # noqa: B023 - called at once
                p50_ms(lambda: detector(path), runs),  # noqa: B023
                p50_ms(lambda: host(path), max(3, runs // 4)),  # noqa: B023
            )
            is_judged = image.shape[:2] == (1080, 810)
            label = f"{image.shape[1]}×{image.shape[0]}"
            setting.row(f"array {label}", array, "ms")
            setting.row(f"file {label}, decoded by the CPU", slow, "ms")
            setting.row(f"file {label}", one, "ms")
            setting.row(f"file over array {label}", one / array, "×", at_most=2.2 if is_judged else None)


def first(setting: Setting) -> None:
    """The first folder run of a process, nothing made ready before, over the second; and device memory."""
    names = files.folder_of_photos(setting.data, setting.folder, setting.pick(3000, 24))
    began = time.perf_counter()
    with setting.load() as detector:
        setting.row("loading", time.perf_counter() - began, "s")
        memory = {"loaded": detector.device_bytes()}
        rates = []
        for turn in ("first", "second"):
            rate, _ = streamed(detector, names)
            rates.append(rate)
            memory[turn] = detector.device_bytes()
            setting.row(f"folder, {turn} run", rate, "images/s", images=len(names))
        setting.row("first run over the second", rates[0] / rates[1], at_least=0.5)
        for when, taken in memory.items():
            if taken is not None:
                setting.row(f"device memory, {when}", taken / 1e6, "MB")


def equal(setting: Setting) -> None:
    """JPEGs of all kinds: the same boxes and the same errors by both ways."""
    from gpu_pipeline import match

    made = files.all_kinds(setting.data, setting.folder, setting.pick(1000, 66))
    kinds: Counter[str] = Counter()
    other: Counter[str] = Counter()
    examples: list[str] = []
    worst, boxes, refused = 1.0, 0, 0
    with setting.load() as detector, setting.load(decode="cpu") as host:
        paths = [path for _, path in made]
        pairs = zip(made, detector.stream(paths), host.stream(paths), strict=True)
        for (kind, path), one, wanted in pairs:
            kinds[kind] += 1
            if one.error is not None or wanted.error is not None:
                refused += 1
                is_same = str(one.error) == str(wanted.error)
            else:
                row = match(wanted.unwrap(), one.unwrap())
                boxes += len(wanted.unwrap())
                worst = min(worst, row["worst_iou"])
                is_same = row["unmatched"] == 0 and row["worst_iou"] >= 0.99
            if not is_same:
                other[kind] += 1
                examples.append(
                    f"{path.name} ({kind}): {one.error or one.unwrap()} for {wanted.error or wanted.unwrap()}"[:300]
                )
    setting.row("JPEGs of all kinds", len(made), "files", kinds=kinds, boxes=boxes)
    setting.row("of them refused by either way", refused)
    setting.row("worst IoU of a box by both ways", worst, at_least=0.99)
    setting.row("JPEGs with another answer", sum(other.values()), at_most=0, kinds=other, examples=examples[:5])


def shares(setting: Setting) -> None:
    """Batches of 32 on four streams, and one frame, over the compiled network: `gpu_pipeline.py` measures them."""
    setting.need_gpu("the compiled network")
    out = setting.folder / "shares.json"
    small = ["--smoke"] if setting.smoke else ["--blocks", "6", "--block", "50", "--rounds", "3", "--seconds", "0.8"]
    command = [
        sys.executable, str(HERE / "gpu_pipeline.py"), "--data", str(setting.data), "--out", str(out),
        "--engines", "stand-in-compiled", "--precisions", "float16", "--skip", "agreement,article,soak", *small,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=max(5.0, setting.left_s - 3), check=False
        )
        said = (done.stdout + done.stderr)[-600:]
    except subprocess.TimeoutExpired:
        said = "it took longer than its time"
    results = json.loads(out.read_text())["results"]["stand-in-compiled float16"] if out.exists() else {}
    if "latency" not in results:
        raise RuntimeError(f"gpu_pipeline.py gave no figures: {results.get('failed', said)}")
    for size, row in results["latency"].items():
        if "times" not in row:
            continue
        for kind, most in (("pinned", 95), ("pageable", 180)):
            is_judged = size == "810x1080"
            over = row["times"][kind]["overhead_us"]
            setting.row(f"{kind} {size} over the network", over, "µs", at_most=most if is_judged else None)
    if "throughput" not in results:
        raise RuntimeError(f"gpu_pipeline.py did not come to batches: {results.get('failed', said)}")
    for name, row in results["throughput"].items():
        if not isinstance(row, dict):
            continue
        setting.row(f"network alone, {name}", row["network"], "images/s")
        for kind, least in (("pinned", 0.95), ("pageable", 0.85)):
            is_judged = name.startswith("batch 32")
            setting.row(f"{kind} share, {name}", row[f"{kind}_share"], at_least=least if is_judged else None)


def several(setting: Setting) -> None:
    """Two and four GPUs of this machine over one, on arrays and files; the first pass of each is not judged."""
    setting.need_gpu("several GPUs")
    from yoloship.cuda.device import find_gpus

    gpus = find_gpus()
    if len(gpus) < 2:
        raise LeftOut(f"there are not two GPUs here, but {len(gpus)}")
    names = files.folder_of_photos(setting.data, setting.folder, setting.pick(3000, 24))
    times = setting.pick(3, 1)  # longer than `folder`, so that the last batches, which one GPU runs, count for less
    kinds: dict[str, list[Any]] = {
        "arrays": [read_image(name) for name in names[:3]] * (times * len(names) // 3),
        "files": names * times,
    }
    one: dict[str, float] = {}
    for count, words in ((1, "one GPU"), (2, "two GPUs"), (4, "four GPUs")):
        if count > len(gpus) or setting.left_s < 15:
            break
        with setting.load(device=",".join(f"cuda:{number}" for number in range(count))) as detector:
            detector.prepare()
            for kind, sources in kinds.items():
                begun, *rates = (streamed(detector, sources)[0] for _ in range(setting.pick(3, 2)))
                setting.row(f"{kind} on {words}", max(rates), "images/s", first_pass=begun, rounds=rates)
                if count == 1:
                    one[kind] = max(rates)
                else:
                    setting.row(f"{words} over one, {kind}", max(rates) / one[kind], "×", at_least={2: 1.9}.get(count))


PARTS = (
    ("folder", folder, 130, 1),
    ("first", first, 40, 1),
    ("file", file, 30, 1),
    ("equal", equal, 40, 1),
    ("shares", shares, 110, 2),
    ("several", several, 75, 2),
)
"""Name, what measures it, the most seconds that it may take, and in which half it is; 3 is in neither."""


def run_part(part: Callable[[Setting], None], setting: Setting) -> str:
    """Run one; how it ended: ``done``, ``left out: …`` or ``failed: …``."""
    try:
        with tempfile.TemporaryDirectory(prefix="yoloship-bench-") as place:
            setting.folder = Path(place)
            part(setting)
    except LeftOut as reason:
        return f"left out: {reason}"
    except ModuleNotFoundError as error:
        return f"left out: {error}"
    except Exception as error:
        if os.environ.get("YOLOSHIP_BENCH_TRACE"):
            raise
        return f"failed: {type(error).__name__}: {error}"[:1000]
    return "done"
