"""A folder of mixed pictures: images per second of the whole command, and of the official loop over the same files.

    python bench/bench_mixed.py best.pt photo.jpg [photo.jpg …] [--count 2000] [--timed 2000] [--peer PYTHON]

The pictures are made at run time from the photos given: JPEG, PNG and WebP of 0.04 to 3 megapixels, mirrored and cut,
one in a hundred broken. The official loop is `_real_peers.official` in another environment (PYTHON), or without one
`_peers.official_like`; both read with OpenCV and pass over what it cannot read. Their time begins when the model is
loaded; that of our command is the whole process. The ways take turns, a part of the folder each. With ``--first``, all
of them go before other work on the machine (SCHED_RR, for root), so that it does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import numpy as np
from _timing import conditions

if TYPE_CHECKING:
    from collections.abc import Callable

TARGETS = "square at least 1.5 ×, rect at least 2.0 × the official loop at equal detections; memory under 300 MB"
SUFFIXES = (".jpg", ".jpg", ".jpg", ".jpg", ".png", ".webp")
Boxes = list[list[float]]
"""For each object: class, score and x1, y1, x2, y2."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--chunk", type=int, default=250)
    parser.add_argument("--timed", type=int, default=2000, help="how many of the pictures are timed")
    parser.add_argument("--first", action="store_true", help="let other work on the machine wait")
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop is not None:
        _loop(arguments.loop)
        return
    program = str(Path(sys.executable).with_name("yoloship"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx = folder / "standard.onnx"
        subprocess.run([program, "export", str(arguments.model), "-o", str(onnx)], check=True, capture_output=True)
        first = _go_first if arguments.first else None
        parts = _pictures(arguments.photos, arguments.count, arguments.chunk, folder)
        seconds: dict[str, list[float]] = {"official": [], "square": [], "rect": []}
        peak_mb: dict[str, float] = {}
        found: dict[str, dict[str, Boxes]] = {way: {} for way in seconds}
        peer = subprocess.Popen(
            [arguments.peer, "-W", "ignore", __file__, str(arguments.model), "-", "--loop", str(onnx)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=first,  # noqa: PLW1509 - no threads yet
        )  # fmt: skip
        assert peer.stdin is not None
        assert peer.stdout is not None
        who = json.loads(peer.stdout.readline())
        timed = parts[: -(-arguments.timed // arguments.chunk)]
        for part in [parts[0], *timed]:  # the first one only fills the caches
            peer.stdin.write(f"{part}\n")
            peer.stdin.flush()
            answer = json.loads(peer.stdout.readline())
            seconds["official"].append(answer["seconds"])
            found["official"] |= answer["found"]
            peak_mb["official"] = answer["peak_mb"]
            for way in ("square", "rect"):
                spent_s, mb = _ours([program, "predict", str(arguments.model), str(part), f"--{way}"], folder, first)
                seconds[way].append(spent_s)
                peak_mb[way] = max(mb, peak_mb.get(way, 0))
                found[way] |= _read(folder / "found.jsonl")
        peer.stdin.close()
        peer.wait()
        _, whole_mb = _ours([program, "predict", str(arguments.model), *map(str, parts), "--rect"], folder)
        lines = (folder / "found.jsonl").read_text().count("\n")
    print(conditions("onnxruntime", "opencv-python-headless", "numpy", "yoloship"))
    print(f"official loop: {who}")
    print(f"{arguments.model.name}, {len(timed) * arguments.chunk} pictures in {len(timed)} parts; target: {TARGETS}\n")
    for way, spent in seconds.items():
        ratios = [official / ours for official, ours in zip(seconds["official"][1:], spent[1:], strict=True)]
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        print(
            f"{way:10s} {len(timed) * arguments.chunk / sum(spent[1:]):7.1f} a second   "
            f"ratio {statistics.median(ratios):.2f} "
            f"(quartiles {quartiles[0]:.2f} to {quartiles[2]:.2f})   peak {peak_mb[way]:.0f} MB"
        )
    print(f"all {lines} pictures in one run, rect: peak {whole_mb:.0f} MB")
    for way in ("square", "rect"):
        print(f"{way} against the official loop: {_agreement(found['official'], found[way])}")


def _pictures(photos: list[Path], count: int, chunk: int, folder: Path) -> list[Path]:
    """Make the pictures, in folders of `chunk` each."""
    chance = np.random.default_rng(3)
    sources = [cv2.imread(str(photo)) for photo in photos]
    parts = []
    for index in range(count):
        if index % chunk == 0:
            parts.append(folder / f"part-{index // chunk}")
            parts[-1].mkdir()
        image = sources[index % len(sources)]
        height, width = image.shape[:2]
        image = image[chance.integers(0, height // 6) :, chance.integers(0, width // 6) :]
        image = image[:, ::-1] if chance.random() < 0.5 else image
        pixels = 10 ** chance.uniform(np.log10(0.04e6), np.log10(3e6))
        scale = float(np.sqrt(pixels / (image.shape[0] * image.shape[1])))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        path = parts[-1] / f"{index:05}{SUFFIXES[index % len(SUFFIXES)]}"
        options = [cv2.IMWRITE_WEBP_QUALITY, 85] if path.suffix == ".webp" else []
        cv2.imwrite(str(path), image, options)
        if index % 100 == 42:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 3] if index % 200 == 42 else b"no picture")
    return parts


def _go_first() -> None:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def _ours(command: list[str], folder: Path, before: Callable[[], None] | None = None) -> tuple[float, float]:
    """Seconds and peak MB of the whole command."""
    log = folder / "found.jsonl"
    log.unlink(missing_ok=True)
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--no-draw", "--jsonl", str(log)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=before,  # noqa: PLW1509 - no threads here
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    spent_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, 1} or not log.exists():
        raise SystemExit(said)
    return spent_s, usage.ru_maxrss / 1024


def _read(path: Path) -> dict[str, Boxes]:
    found = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if "detections" in record:
            found[record["input"]] = [[one["class_id"], one["score"], *one["box_xyxy"]] for one in record["detections"]]
    return found


def _loop(onnx: Path) -> None:
    """The peer's process: for each folder that it reads from stdin, run the loop and write what it took and found."""
    import resource

    answers, sys.stdout = sys.stdout, sys.stderr  # the peer prints too
    from _real_peers import official

    run: Any = official(onnx)
    name = "the official code (yolov5) with torch"
    if run is None:
        from _peers import official_like

        from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

        session, name = OnnxRuntimeSession.open(onnx), "a loop like the official one, without torch"
        run = lambda image: official_like(session, image)  # noqa: E731
    print(json.dumps(name), file=answers, flush=True)
    for line in sys.stdin:
        paths = sorted(Path(line.strip()).iterdir())
        found: dict[str, Boxes] = {}
        started = time.perf_counter()
        for path in paths:
            image = cv2.imread(str(path))
            if image is not None:
                found[str(path)] = run(image)
        spent_s = time.perf_counter() - started
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        plain = {
            path: [[row[5], row[4], *row[:4]] for row in np.asarray(boxes).tolist()] for path, boxes in found.items()
        }
        print(json.dumps({"seconds": spent_s, "peak_mb": peak_mb, "found": plain}), file=answers, flush=True)


def _agreement(official: dict[str, Boxes], ours: dict[str, Boxes]) -> str:
    """How many official objects are ours too: of their class, with an IoU of 0.7 or more (theirs are whole pixels)."""
    matched = total = extra = 0
    score_off = 0.0
    for path, boxes in official.items():
        left = list(ours.get(path, []))
        total += len(boxes)
        for class_id, score, *box in boxes:
            same = [one for one in left if one[0] == class_id and _iou(one[2:], box) >= 0.7]
            if same:
                best = max(same, key=lambda one: _iou(one[2:], box))
                matched += 1
                score_off += abs(best[1] - score)
                left.remove(best)
        extra += len(left)
    off = score_off / max(1, matched)
    counts = f"{matched} of {total} objects in {len(official)} pictures are there, {extra} others"
    return f"{counts}; scores differ by {off:.4f}"


def _iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union > 0 else 0.0


if __name__ == "__main__":
    main()
