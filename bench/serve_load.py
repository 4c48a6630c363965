"""Measures `yoloship serve` under load: throughput, latency, overload, a long run, kills and reloads.

    python bench/serve_load.py speed MODEL.onnx PHOTO.jpg... [--peer RAW.onnx] [--seconds 10] [--rounds 2]
    python bench/serve_load.py soak MODEL.onnx [--requests 200000]
    python bench/serve_load.py kill MODEL.onnx PHOTO.jpg [--kills 5]
    python bench/serve_load.py reload MODEL.onnx PHOTO.jpg [--reloads 5]

`speed` interleaves the local `stream`, the server and, with ``--peer``, a FastAPI server around the model in YOLOv5's
standard form, in rounds of one run. The client runs on the same machine and takes a part of its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from _open_loop import Client, Tally, closed, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATH = "/v1/models/m/predict"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def started(model: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "yoloship", "serve", f"m={model}", "--port", str(port), "--log", "none"]
    return subprocess.Popen(command)


def wait_ready(port: int, path: str = "/readyz") -> float:
    """Seconds until the server is ready."""
    begun = time.monotonic()
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code < 500:
                return time.monotonic() - begun
        except httpx.HTTPError:
            pass
        time.sleep(0.02)


@contextmanager
def server(model: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    process = started(model, port)
    try:
        wait_ready(port)
        yield port, process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def peer(model: Path) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("_fastapi_peer.py")), str(model), str(port)]
    )
    try:
        wait_ready(port, "/docs")
        yield port
    finally:
        process.terminate()
        process.wait()


def local_rate(model: Path, photos: Sequence[Path], seconds: float) -> float:
    """Images a second of `stream` in a process of its own."""
    program = (
        "import sys, time, itertools, yoloship\n"
        "model, seconds, *photos = sys.argv[1:]\n"
        "with yoloship.load(model, tuned_for='throughput') as detector:\n"
        "    detector.prepare()\n"
        "    begun, n = time.perf_counter(), 0\n"
        "    end = begun + float(seconds)\n"
        "    some = itertools.takewhile(lambda _: time.perf_counter() < end, itertools.cycle(photos))\n"
        "    for outcome in detector.stream(some):\n"
        "        outcome.unwrap(); n += 1\n"
        "    print(n / (time.perf_counter() - begun))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model), str(seconds), *map(str, photos)], capture_output=True, check=True
    )
    return float(done.stdout)


async def measured(port: int, path: str, bodies: Sequence[bytes], rate: float, seconds: float) -> tuple[Tally, Tally]:
    client = Client(port, path)
    alone = await closed(client, bodies, 1, min(seconds, 4))
    full = await load(client, bodies, rate, seconds)
    client.close()
    return alone, full


def speed(options: argparse.Namespace) -> None:
    photos = [Path(photo) for photo in options.photos]
    bodies = [photo.read_bytes() for photo in photos]
    rounds: list[dict[str, float]] = []
    for number in range(options.rounds):
        row: dict[str, float] = {"load": os.getloadavg()[0]}
        row["local"] = local_rate(options.model, photos, options.seconds)
        with server(options.model) as (port, _):
            client_of = lambda: Client(port, PATH)  # noqa: E731 - short
            saturated = asyncio.run(closed(client_of(), bodies, 8, options.seconds))
            row["served"] = saturated.count(200) / saturated.seconds
            alone = asyncio.run(closed(client_of(), bodies, 1, min(options.seconds, 5)))
            row["alone p50 ms"], row["alone p99 ms"] = alone.percentile(0.5), alone.percentile(0.99)
            part = asyncio.run(load(client_of(), bodies, 0.7 * row["served"], options.seconds, number))
            row["70 % p50 ms"], row["70 % p99 ms"] = part.percentile(0.5), part.percentile(0.99)
            over = asyncio.run(load(client_of(), bodies, 4 * row["served"], options.seconds, number))
            row["4x goodput"] = over.count(200) / over.seconds
            row["4x 429 p50 ms"], row["4x 429 p99 ms"] = over.percentile(0.5, 429), over.percentile(0.99, 429)
            row["4x 200 p99 ms"] = over.percentile(0.99)
            print("statuses at 4x:", over.counts, flush=True)
        row["local again"] = local_rate(options.model, photos, options.seconds)
        if options.peer is not None:
            with peer(options.peer) as port:
                saturated = asyncio.run(closed(Client(port, "/predict"), bodies, 8, options.seconds))
                row["FastAPI"] = saturated.count(200) / saturated.seconds
                part = asyncio.run(
                    load(Client(port, "/predict"), bodies, 0.7 * row["FastAPI"], options.seconds, number)
                )
                row["FastAPI 70 % p99 ms"] = part.percentile(0.99)
                over = asyncio.run(load(Client(port, "/predict"), bodies, 2 * row["FastAPI"], options.seconds, number))
                row["FastAPI 2x p99 ms"] = over.percentile(0.99)
        mean = (row["local"] + row["local again"]) / 2
        row["served / local"] = row["served"] / mean
        row["goodput / served"] = row["4x goodput"] / row["served"]
        row["70 % p99 / alone p50"] = row["70 % p99 ms"] / row["alone p50 ms"]
        rounds.append(row)
        print(json.dumps({name: round(value, 2) for name, value in row.items()}), flush=True)
    names = rounds[0]
    print("medians", json.dumps({name: round(statistics.median(row[name] for row in rounds), 3) for name in names}))


def footprint(pid: int) -> tuple[float, int]:
    """Megabytes in memory, and open descriptors."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def soak(options: argparse.Namespace) -> None:
    """Many requests of small pictures; every answer must be right, and memory and descriptors stay."""
    import cv2
    import numpy as np

    import yoloship

    pictures = []
    for seed in range(8):
        pixels = cv2.resize(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8), (64, 48))
        pictures.append(bytes(cv2.imencode(".jpg", pixels)[1]))
    with yoloship.load(options.model) as detector:
        expected = [[one.to_dict() for one in detector(picture)] for picture in pictures]
    wrong = done = 0
    with server(options.model) as (port, process):

        async def run() -> None:
            nonlocal wrong, done
            client = Client(port, PATH)

            async def one(place: int) -> None:
                nonlocal wrong, done
                for number in range(place, options.requests, 4):
                    status, answer = await client.post(pictures[number % len(pictures)])
                    done += 1
                    found = json.loads(answer).get("detections") if status == 200 else None
                    names = [item["class_name"] for item in expected[number % len(pictures)]]
                    wrong += found is None or [item["class_name"] for item in found] != names
                    if done % max(options.requests // 10, 1) == 0:
                        size, descriptors = footprint(process.pid)
                        print(
                            f"{done:7d} requests  {size:6.1f} MB  {descriptors} descriptors  {wrong} wrong", flush=True
                        )
                    if done % 1000 == 0 and place == 0:
                        client.close()  # new connections too

            await asyncio.gather(*map(one, range(4)))

        begun = time.monotonic()
        asyncio.run(run())
        print(f"{done} requests in {time.monotonic() - begun:.0f} s, {wrong} wrong")


def kill(options: argparse.Namespace) -> None:
    """Kill the server under load and start it again; clients that retry lose nothing."""
    body = Path(options.photos[0]).read_bytes()
    port = free_port()

    async def run() -> None:
        answered = retried = 0
        stop = asyncio.Event()

        async def one() -> None:
            nonlocal answered, retried
            client = Client(port, PATH)
            while not stop.is_set():
                while True:
                    try:
                        status, _ = await client.post(body)
                    except (OSError, asyncio.IncompleteReadError):
                        status = 0
                        client.close()
                    if status == 200:
                        break
                    retried += 1
                    await asyncio.sleep(0.05)
                answered += 1

        process = started(options.model, port)
        await asyncio.to_thread(wait_ready, port)
        clients = [asyncio.ensure_future(one()) for _ in range(4)]
        ready: list[float] = []
        for _ in range(options.kills):
            await asyncio.sleep(2)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = started(options.model, port)
            ready.append(await asyncio.to_thread(wait_ready, port))
        await asyncio.sleep(1)
        stop.set()
        await asyncio.gather(*clients)
        process.terminate()
        code = process.wait()
        times = ", ".join(f"{one:.2f}" for one in ready)
        print(
            f"{answered} answered, {retried} tries again; ready after {times} s; exit code {code}; "
            f"load {os.getloadavg()[0]:.1f}"
        )

    asyncio.run(run())


def reload(options: argparse.Namespace) -> None:
    """Replace the model's file under load, also by garbage; no request may fail."""
    body = Path(options.photos[0]).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "m.onnx"
        shutil.copy(options.model, model)
        with server(model) as (port, _):

            async def run() -> None:
                client = Client(port, PATH)
                sending = asyncio.ensure_future(load(client, [body], options.rate, 4 * options.reloads + 2))
                loads: list[Any] = []
                for number in range(options.reloads):
                    await asyncio.sleep(4)
                    beside = model.with_suffix(".new")
                    if number % 2:
                        beside.write_bytes(b"garbage")
                    else:
                        shutil.copy(options.model, beside)
                    beside.replace(model)
                tally = await sending
                text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
                loads = [line for line in text.splitlines() if line.startswith("yoloship_loads_total")]
                print(tally.counts, f"p99 {tally.percentile(0.99):.0f} ms", *loads, f"load {os.getloadavg()[0]:.1f}")

            asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = {"speed": speed, "soak": soak, "kill": kill, "reload": reload}
    parser.add_argument("mode", choices=modes)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", nargs="*")
    parser.add_argument("--peer", type=Path)
    for name, kind, default in (
        ("seconds", float, 10), ("rounds", int, 2), ("requests", int, 200_000), ("kills", int, 5), ("reloads", int, 5),
        ("rate", float, 5),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    options = parser.parse_args()
    modes[options.mode](options)


if __name__ == "__main__":
    main()
