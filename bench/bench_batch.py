"""`yoloship batch` with two Ray actors, beside two processes of it without Ray, on the same cores and images.

    python bench/bench_batch.py best.pt photo.jpg … [--images 1280] [--rounds 5] [--part-images 64] [--cores 0,1]

A round runs, in turn: two processes at once, each with half of the images and one core to keep busy; and a cluster on
this machine with two actors of one core each; with --one also one process with both cores. The rate is that of the
middle of a run: from the fourth part that is finished to the fourth from the end. So is the processor time of an
image, which counts all processes of the run, those of Ray too, and does not depend on what else the machine does. What
a run takes beside its images (the start of Python, of Ray, of the actors, the loading of the model) is reported by
itself: the whole time, less the images at that rate. The rows of all are compared. Ratios are of runs of one round.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from _photos import copies_of

PROGRAM = str(Path(sys.executable).with_name("yoloship"))
EDGE = 4
"""Parts at the start and at the end of a run that do not count for its rate."""
TWO, ONE, RAY = "two processes", "one process, both cores", "Ray, two actors"
POLL_S = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part-images", type=int, default=64)
    parser.add_argument("--cores", default="0,1", help="the cores that all runs share")
    parser.add_argument("--one", action="store_true", help="also run one process with all cores")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    cases = (TWO, *([ONE] if arguments.one else []), RAY)
    found: dict[str, list[Figures]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = [str(folder / "in0"), str(folder / "in1")]
        for half in whole:
            Path(half).mkdir()
            copies_of(arguments.photos, arguments.images // 2, Path(half))
        model, size = str(arguments.model), ["--part-images", str(arguments.part_images), "-q"]
        for turn in range(1, arguments.rounds + 1):
            out = folder / str(turn)
            out.mkdir()
            commands = {
                TWO: [
                    [model, half, "-o", str(out / f"two{n}"), "--workers", "1", *size] for n, half in enumerate(whole)
                ],
                ONE: [[model, *whole, "-o", str(out / "one"), *size]],
                RAY: [[model, *whole, "-o", str(out / "ray"), "--ray", "--actors", "2", *size]],
            }
            for case in cases if turn % 2 else reversed(cases):
                figures = measured(commands[case], arguments.images // arguments.part_images, arguments.part_images)
                found[case].append(figures)
                print(f"round {turn}, {case}: {figures}, load {os.getloadavg()[0]:.1f}", flush=True)
            same(out)
    report(found, arguments)


class Figures(NamedTuple):
    """Of the middle of a run, and the seconds that the run took beside its images."""

    images_per_s: float
    cpu_ms_per_image: float
    beside_s: float


def measured(commands: list[list[str]], parts: int, size: int) -> Figures:
    """Run commands at the same time, and watch their parts and their processor time."""
    started = time.monotonic()
    running = [subprocess.Popen([PROGRAM, "batch", *command], stderr=subprocess.DEVNULL) for command in commands]
    folders = [Path(command[command.index("-o") + 1]) for command in commands]
    marks: list[tuple[int, float, float]] = []
    wanted = [EDGE, parts - EDGE]
    while any([process.poll() is None for process in running]):  # noqa: C419 - each is asked
        done = sum(1 for folder in folders for _ in folder.glob("part-*"))
        if wanted and done >= wanted[0]:
            wanted.pop(0)
            marks.append((done, time.monotonic(), cpu_seconds([process.pid for process in running])))
        time.sleep(POLL_S)
    spent = time.monotonic() - started
    if any(process.returncode for process in running) or len(marks) < 2:
        raise SystemExit(f"failed, or too few parts: {commands}")
    (first, from_s, from_cpu), (last, to_s, to_cpu) = marks
    images = size * (last - first)
    rate = images / (to_s - from_s)
    return Figures(rate, 1000 * (to_cpu - from_cpu) / images, spent - size * parts / rate)


def cpu_seconds(roots: list[int]) -> float:
    """The processor time of some processes and of everything that they started and that is alive."""
    parents, ticks = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)], ticks[int(entry.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    known = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in known} - known:
        known |= more
    return sum(ticks.get(pid, 0) for pid in known) / os.sysconf("SC_CLK_TCK")


def same(out: Path) -> None:
    """Refuse to report the speed of runs whose rows differ."""
    found = {
        name: sorted(repr({key: value for key, value in row.items() if key != "index"}) for row in rows(folders))
        for name, folders in (("two", sorted(out.glob("two*"))), ("one", [out / "one"]), ("ray", [out / "ray"]))
    }
    if found["ray"] != found["two"] or found["one"] not in ([], found["two"]):
        raise SystemExit("the rows differ")


def rows(folders: list[Path]) -> list[dict[str, object]]:
    import pyarrow.parquet

    paths = [path for folder in folders for path in sorted(folder.glob("part-*"))]
    return [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]


def report(found: dict[str, list[Figures]], arguments: argparse.Namespace) -> None:
    print(
        f"\n{platform.machine()}, cores {arguments.cores}, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, ray {version('ray')}, onnxruntime {version('onnxruntime')}, "
        f"{arguments.images} images of about a megapixel, parts of {arguments.part_images}, {arguments.rounds} rounds\n"
    )
    print("| run | images a second | of two processes | CPU ms an image | of two processes | seconds beside |")
    print("| --- | --- | --- | --- | --- | --- |")
    base = np.array(found[TWO])
    for case, figures in found.items():
        all_of = np.array(figures)
        ratios = all_of / base
        cells = [f"{np.median(all_of[:, at]):.1f} | {np.median(ratios[:, at]):.3f} ({ratios[:, at].min():.3f} to "
                 f"{ratios[:, at].max():.3f})" for at in (0, 1)]  # fmt: skip
        print(f"| {case} | {' | '.join(cells)} | {np.median(all_of[:, 2]):.1f} |")


if __name__ == "__main__":
    main()
