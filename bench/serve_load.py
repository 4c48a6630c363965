"""Measures `yoloship serve` under load: throughput, latency, overload, a long run, kills and reloads.

    python bench/serve_load.py speed MODEL.onnx PHOTO.jpg... [--peer RAW.onnx] [--seconds 10] [--rounds 2] [--json FILE]
    python bench/serve_load.py speed MODEL.pt --device cuda --clients 384 --processes 4 PHOTO.jpg...
    python bench/serve_load.py soak MODEL.onnx [--requests 200000] [--pictures 2000]
    python bench/serve_load.py kill MODEL.onnx PHOTO.jpg [--kills 5]
    python bench/serve_load.py reload MODEL.onnx PHOTO.jpg [--reloads 5]

`speed` interleaves the local `stream`, the server and, with ``--peer``, a FastAPI server around the model in YOLOv5's
standard form, in rounds of one run.

The client takes a part of the cores. On a machine with more cores than the server shall have, give both their own; the
local `stream` and the peer get those of the server. Two cores for the server on a machine of 16, within 9 minutes, with
`yoloship export coco-yolov5n.pt -o y5n.onnx` and `yoloship export coco-yolov5n.pt --output raw -o raw.onnx` before:

    P="bus.jpg zidane.jpg --server-cores 0,1 --client-cores 2-7"
    python bench/serve_load.py speed y5n.onnx $P --peer raw.onnx --seconds 15 --rounds 3 --json serve.json
    python bench/serve_load.py kill y5n.onnx $P && python bench/serve_load.py reload y5n.onnx $P

The 70 % come at random times (Poisson), and at even times ("70 % even"). At random times images wait even for a perfect
server: with two images at once, 1 % of the answers take 4.1 times as long as one alone, or more. What a perfect server
of the measured throughput would reach is printed too, and how much the 70 % were of what went through around them.

Two virtual cores may be one real core: `lscpu -e` tells which share one. What both sets of cores really give is
measured at the start and written down. `speed` writes its JSON after each round, and prints the goals at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from _open_loop import Answered, Client, Tally, closed, for_seconds, load, percentile, perfect

from yoloship.serve.listening import allow_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATH = "/v1/models/m/predict"
_LOW = 0.005
"""A score that boxes are found above in pictures of noise."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def cores_named(text: str) -> frozenset[int]:
    """Numbers of cores from ``0,1`` or ``2-7``."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        found |= set(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)


def pinned(command: Sequence[str], cores: frozenset[int]) -> list[str]:
    """The command on these cores; none leaves them as they are."""
    return [*(["taskset", "-c", ",".join(map(str, sorted(cores)))] if cores else []), *command]


def started(model: Path, port: int, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "yoloship", "serve", f"m={model}", "--port", str(port), "--log", "none"]
    command += ["--device", options.device, "--processes", str(options.processes)]
    return subprocess.Popen(pinned(command, options.server_cores))


def wait_ready(process: subprocess.Popen[bytes], port: int, path: str = "/readyz") -> float:
    """Seconds until the server is ready; an error if its process has ended."""
    begun = time.monotonic()
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it was ready")
        try:
            if httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code < 500:
                return time.monotonic() - begun
        except httpx.HTTPError:
            pass
        time.sleep(0.02)


@contextmanager
def server(model: Path, options: argparse.Namespace) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    process = started(model, port, options)
    try:
        wait_ready(process, port)
        yield port, process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def peer(model: Path, options: argparse.Namespace) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("_fastapi_peer.py")), str(model), str(port)]
    process = subprocess.Popen(pinned(command, options.server_cores))
    try:
        wait_ready(process, port, "/docs")
        yield port
    finally:
        process.terminate()
        process.wait()


def local_rate(photos: Sequence[Path], options: argparse.Namespace) -> tuple[float, float]:
    """Images a second of `stream` in a process of its own, and milliseconds of a processor for each."""
    program = (
        "import sys, time, itertools, yoloship\n"
        "model, seconds, device, *photos = sys.argv[1:]\n"
        "with yoloship.load(model, tuned_for='throughput', device=device) as detector:\n"
        "    detector.prepare()\n"
        "    begun, cpu, n = time.perf_counter(), time.process_time(), 0\n"
        "    end = begun + float(seconds)\n"
        "    some = itertools.takewhile(lambda _: time.perf_counter() < end, itertools.cycle(photos))\n"
        "    for outcome in detector.stream(some):\n"
        "        outcome.unwrap(); n += 1\n"
        "    print(n / (time.perf_counter() - begun), (time.process_time() - cpu) / n * 1e3)\n"
    )
    command = [sys.executable, "-c", program, str(options.model), str(options.seconds), options.device]
    done = subprocess.run(
        pinned([*command, *map(str, photos)], options.server_cores), stdout=subprocess.PIPE, check=True
    )  # fmt: skip
    rate, cpu_ms = map(float, done.stdout.split())
    return rate, cpu_ms


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def real_cores(cores: frozenset[int]) -> tuple[float, float]:
    """How many cores processes on these really get together, and how often as fast they all are as one alone.

    Some sandboxes do not keep to an affinity. Two virtual cores of one real core give less than twice as much.
    """
    program = (
        "import time\nend, n = time.monotonic() + 1, 0\nwhile time.monotonic() < end: n += sum(range(2000))\n"
        "print(time.process_time(), n)"
    )

    def spun(processes: int) -> tuple[float, float]:
        command = pinned([sys.executable, "-c", program], cores)
        spinning = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        found = [tuple(map(float, one.communicate()[0].split())) for one in spinning]
        return sum(cpu_s for cpu_s, _ in found), sum(done for _, done in found)

    cpu_s, together = spun(len(cores) + 2)
    return round(cpu_s, 1), round(together / spun(1)[1], 1)


def cores_of(pid: int) -> tuple[float, float]:
    """Seconds of a processor that a process and its children have taken, and those of their first threads.

    The event loop is the first thread of a server's process.
    """

    def seconds(path: str) -> float:
        if not Path(path).exists():  # a sandbox may not list threads
            return float("nan")
        fields = Path(path).read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def parent(stat: Path) -> int:
        try:
            return int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            return 0

    processes = [pid, *(int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if parent(stat) == pid)]
    total_s = sum(seconds(f"/proc/{one}/stat") for one in processes)
    return total_s, sum(seconds(f"/proc/{one}/task/{one}/stat") for one in processes)


def overload(port: int, pid: int, bodies: Sequence[bytes], rate: float, seconds: float, seed: int) -> dict[str, float]:
    """What comes through at more load than there is room for, how fast the rest is refused, and who takes the cores."""
    before = cores_of(pid)
    with closing(Client(port, PATH, bodies)) as client:
        tally = load(client, rate, seconds, seed)
    total_s, loop_s = (after - one for after, one in zip(cores_of(pid), before, strict=True))
    print("statuses at overload:", tally.counts, flush=True)
    return {
        "4x goodput": tally.in_time / seconds,
        "4x 429 p50 ms": tally.percentile(0.5, 429),
        "4x 429 p99 ms": tally.percentile(0.99, 429),
        "4x 429 p50 ms from sent": percentile(tally.from_sent_ms.get(429, []), 0.5),
        "4x 429 p99 ms from sent": percentile(tally.from_sent_ms.get(429, []), 0.99),
        "4x 200 p99 ms": tally.percentile(0.99),
        "4x client late p99 ms": percentile(tally.late_ms, 0.99),
        "4x client cores": tally.cpu_s / seconds,
        "4x server ms an image": total_s * 1e3 / max(tally.count(200), 1),
        "4x server cores": total_s / seconds,
        "4x event loop cores": loop_s / seconds,
        "4x event loop us an answer": loop_s * 1e6 / sum(tally.counts.values()),
    }


def speed(options: argparse.Namespace) -> None:
    """Throughput beside the local pipeline, latency, and overload."""
    allowed = frozenset(os.sched_getaffinity(0))
    sets = {"server": options.server_cores or allowed, "client": allowed}
    cores = {name: [sorted(some), *real_cores(some)] for name, some in sets.items()}
    for name, (numbers, real, speed_up) in cores.items():
        print(f"{name}: cores {numbers}, {real} are there, {speed_up} times the speed of one", flush=True)
    photos = [Path(photo) for photo in options.photos]
    bodies = [photo.read_bytes() for photo in photos]
    rounds: list[dict[str, float]] = []
    relative: dict[str, list[float]] = {"70 %": [], "70 % even": []}
    for number in range(options.rounds):
        row: dict[str, float] = {"load": os.getloadavg()[0]}
        row["local"], row["local ms an image"] = local_rate(photos, options)
        with server(options.model, options) as (port, process):
            cpu_s = cores_of(process.pid)[0]
            found = loads(port, PATH, bodies, options, number)
            images = sum(one.count(200) for one in found.values())
            row["server ms an image"] = (cores_of(process.pid)[0] - cpu_s) * 1e3 / images
            row["client ms an image"] = sum(one.cpu_s for one in found.values()) * 1e3 / images
            row |= latencies(found)
            at_once = runs_at_once(port)
            for name, pooled in relative.items():
                pooled += [one / row["alone p50 ms"] for one in found[name].latencies_ms[200]]
            row |= overload(port, process.pid, bodies, 4 * row["served"], options.seconds, number)
            print(batches(port), flush=True)
        row["local again"], _ = local_rate(photos, options)
        if options.peer is not None:
            try:
                row |= beside(bodies, options, number)
            except RuntimeError as error:  # the rest is worth keeping
                print(f"the peer failed: {error}", flush=True)
        mean = (row["local"] + row["local again"]) / 2
        row["served / local"] = row["served"] / mean
        row["goodput / served"] = row["4x goodput"] / row["served"]
        rounds.append(row)
        print(json.dumps({name: round(value, 2) for name, value in row.items()}), flush=True)
        medians = {name: round(statistics.median(one[name] for one in rounds if name in one), 3) for name in row}
        for name, pooled in relative.items():
            medians[f"{name} p99 / alone p50"] = round(percentile(pooled, 0.99), 3)
        # A perfect server that answers as many images a second: each of its parts takes longer than an image alone if
        # the cores that they run on are parts of one core.
        slower = at_once / medians["served"] / (medians["alone p50 ms"] / 1e3)
        medians["perfect"] = round(perfect(at_once, 0.99) * slower, 3)
        if options.json is not None:
            facts = {
                "medians": medians, "rounds": rounds, "photos": [one.name for one in photos],
                "model": options.model.name, "cores, real cores, times one": cores, "device": options.device,
                "seconds": options.seconds, "clients": options.clients, "processes": options.processes,
                "machine": platform.platform(), "python": platform.python_version(),
                "versions": {name: installed(name) for name in (
                    "yoloship", "onnxruntime", "onnxruntime-gpu", "uvicorn", "httptools", "fastapi",
                )},
            }  # fmt: skip
            options.json.write_text(json.dumps(facts, indent=1) + "\n")
    print("medians", json.dumps(medians))
    print(goals(medians, on_gpu=options.device != "cpu"))


def beside(bodies: Sequence[bytes], options: argparse.Namespace, seed: int) -> dict[str, float]:
    """The same loads on a server as people write it."""
    row: dict[str, float] = {}
    with peer(options.peer, options) as port:
        found = latencies(loads(port, "/predict", bodies, options, seed))
        row["FastAPI"], row["FastAPI 70 % p99 ms"] = found["served"], found["70 % p99 ms"]
        with closing(Client(port, "/predict", bodies)) as client:
            over = load(client, 2 * row["FastAPI"], options.seconds / 2, seed)  # it refuses nothing
        row["FastAPI 2x p99 ms"] = over.percentile(0.99)
    return row


def goals(medians: dict[str, float], *, on_gpu: bool) -> str:
    """What was wanted, and what was found."""
    wanted = (
        ("served / local", 0.8 if on_gpu else 0.92, True),
        ("70 % even p99 / alone p50", 4, False), ("70 % p99 / alone p50", 4, False),
        ("4x 429 p99 ms", 5, False), ("4x 429 p99 ms from sent", 5, False), ("goodput / served", 0.9, True),
    )  # fmt: skip
    perfect_one = medians["perfect"]
    lines = [f"70 % p99 / alone p50 of a perfect server for images at random times: {perfect_one:.1f}"]
    for name, bound, at_least in wanted:
        value = medians[name]
        is_met = value >= bound if at_least else value <= bound
        lines.append(f"{name:26} {value:8.3g}  {'≥' if at_least else '≤'} {bound:g}  {'met' if is_met else 'MISSED'}")
    return "\n".join(lines)


def loads(port: int, path: str, bodies: Sequence[bytes], options: argparse.Namespace, seed: int) -> dict[str, Tally]:
    """As much as goes through, one request at a time, 70 % of what goes through, and as much as goes through again."""
    seconds, found = options.seconds, {}
    with closing(Client(port, path, bodies)) as client:
        closed(client, options.clients, for_seconds(1 if options.device == "cpu" else 3))  # the first ones are slower
        found["full"] = closed(client, options.clients, for_seconds(seconds))
    rate = 0.7 * found["full"].count(200) / found["full"].seconds
    with closing(Client(port, path, bodies)) as client:
        found["alone"] = closed(client, 1, for_seconds(min(seconds, 5)))
        found["70 %"] = load(client, rate, seconds, seed)
        found["70 % even"] = load(client, rate, seconds / 2, None)
    with closing(Client(port, path, bodies)) as client:
        found["full again"] = closed(client, options.clients, for_seconds(seconds / 3))
    return found


def latencies(found: dict[str, Tally]) -> dict[str, float]:
    """Rates and times of `loads`. How much the 70 % were of what went through just before and just after is told too:
    machines that are shared get slower and faster meanwhile.
    """
    before, after = (found[name].count(200) / found[name].seconds for name in ("full", "full again"))
    row = {"served": before, "served again": after, "70 % was": 0.7 * before / ((before + after) / 2)}
    for name in ("alone", "70 %", "70 % even"):
        row |= {f"{name} p50 ms": found[name].percentile(0.5), f"{name} p99 ms": found[name].percentile(0.99)}
    return row


def runs_at_once(port: int) -> int:
    """Runs of the network at the same time."""
    return int(httpx.get(f"http://127.0.0.1:{port}/v1/models/m").json()["under_load"]["runs_at_once"])


def batches(port: int) -> str:
    """How many images were in runs of how many."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = re.findall(r'yoloship_batch_images_bucket{le="([^"]+)",model="m"} (\S+)', text)
    counts = [float(count) for _, count in found]
    more = [after - before for before, after in zip([0.0, *counts], counts, strict=False)]
    return "images in runs of up to: " + ", ".join(
        f"{size} {count:.0f}" for (size, _), count in zip(found, more, strict=True) if count
    )


def footprint(pid: int) -> tuple[float, int]:
    """Megabytes in memory, and open descriptors."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def small_pictures(count: int) -> list[bytes]:
    """Small pictures of smooth noise, all different."""
    import cv2
    import numpy as np

    pictures = []
    for seed in range(count):
        chance = np.random.default_rng(seed)
        pixels = cv2.resize(chance.integers(0, 256, (6, 8, 3), dtype=np.uint8), chance.integers(40, 100, 2).tolist())
        pictures.append(bytes(cv2.imencode(".jpg", pixels)[1]))
    return pictures


def is_same(found: Any, expected: Any) -> bool:
    """Whether two records say the same, except for the last digits of numbers."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and found.keys() == expected.keys() and all(
            is_same(found[key], expected[key]) for key in expected
        )  # fmt: skip
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(is_same, found, expected))
    if isinstance(expected, float):
        return abs(found - expected) <= 1e-4 * max(1.0, abs(expected))
    return bool(found == expected)


def soak(options: argparse.Namespace) -> None:
    """Many requests of small pictures; all answers must be those of the local detector, and memory must not grow."""
    import yoloship

    pictures = small_pictures(options.pictures)
    with yoloship.load(options.model) as detector:
        found = [detector(picture, score_threshold=_LOW).to_dict() for picture in pictures]
        expected = json.loads(json.dumps(found))
    print(f"{len(pictures)} pictures with {sum(len(one['detections']) for one in expected)} detections")
    wrong = done = 0
    with (
        server(options.model, options) as (port, process),
        closing(Client(port, f"{PATH}?conf={_LOW}", pictures)) as client,
    ):

        def check(answer: Answered) -> None:
            nonlocal wrong, done
            done += 1
            if answer.status == 200:
                record = json.loads(answer.body)
                right = expected[answer.number % len(pictures)]
                wrong += not is_same({key: record.get(key) for key in right}, right)
            if done % max(options.requests // 20, 1) == 0:
                size, descriptors = footprint(process.pid)
                print(f"{done:7d} answers  {size:6.1f} MB  {descriptors} descriptors  {wrong} wrong", flush=True)
            if done % 1000 == 0:
                client.renew()

        tally = closed(client, 4, lambda sent: sent >= options.requests, check)
    print(f"{tally.counts} in {tally.seconds:.0f} s, {wrong} wrong")


def kill(options: argparse.Namespace) -> None:
    """Kill the server under load and start it again; clients that retry lose nothing."""
    port = free_port()
    process = started(options.model, port, options)
    wait_ready(process, port)
    ready: list[float] = []
    is_over = threading.Event()

    def kills() -> None:
        nonlocal process
        for _ in range(options.kills):
            time.sleep(2)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = started(options.model, port, options)
            ready.append(wait_ready(process, port))
        time.sleep(1)
        is_over.set()

    killer = threading.Thread(target=kills)
    killer.start()
    with closing(Client(port, PATH, [Path(options.photos[0]).read_bytes()])) as client:
        tally = closed(client, 4, lambda _: is_over.is_set())
    killer.join()
    process.terminate()
    times = ", ".join(f"{one:.2f}" for one in ready)
    print(
        f"{tally.count(200)} answered, {sum(tally.counts.values()) - tally.count(200)} tries again; "
        f"ready after {times} s; exit code {process.wait()}; load {os.getloadavg()[0]:.1f}"
    )


def reload(options: argparse.Namespace) -> None:
    """Replace the model's file under load, also by garbage; no request may fail."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "m.onnx"
        shutil.copy(options.model, model)

        def replace() -> None:
            for number in range(options.reloads):
                time.sleep(4)
                beside = model.with_suffix(".new")
                if number % 2:
                    beside.write_bytes(b"garbage")
                else:
                    shutil.copy(options.model, beside)
                beside.replace(model)

        with (
            server(model, options) as (port, _),
            closing(Client(port, PATH, [Path(options.photos[0]).read_bytes()])) as client,
        ):
            replacing = threading.Thread(target=replace)
            replacing.start()
            tally = load(client, options.rate, 4 * options.reloads + 2)
            replacing.join()
            text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            loads = [line for line in text.splitlines() if line.startswith("yoloship_loads_total")]
            print(tally.counts, f"p99 {tally.percentile(0.99):.0f} ms", *loads, f"load {os.getloadavg()[0]:.1f}")


def main() -> None:
    allow_files(16_384)  # each request that waits has a connection
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = {"speed": speed, "soak": soak, "kill": kill, "reload": reload}
    parser.add_argument("mode", choices=modes)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", nargs="*")
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cpu")
    for name, kind, default in (
        ("seconds", float, 10), ("rounds", int, 2), ("requests", int, 200_000), ("kills", int, 5), ("reloads", int, 5),
        ("rate", float, 5), ("processes", int, 1), ("clients", int, 8), ("pictures", int, 2000),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--server-cores", type=cores_named, default=frozenset(), metavar="0,1")
    parser.add_argument("--client-cores", type=cores_named, default=frozenset(), metavar="2-7")
    options = parser.parse_args()
    there = os.sched_getaffinity(0)
    if options.peer is not None and find_spec("fastapi") is None:
        parser.error("--peer needs FastAPI: pip install fastapi")
    for name in ("server_cores", "client_cores"):
        if lacking := getattr(options, name) - there:
            parser.error(f"--{name.replace('_', '-')}: there is no core {min(lacking)}, but {sorted(there)}")
    if options.client_cores:
        options.server_cores = options.server_cores or frozenset(there)
        os.sched_setaffinity(0, options.client_cores)
    modes[options.mode](options)


if __name__ == "__main__":
    main()
