"""From files, videos and cameras to boxes on a GPU: the figures to show, with decoding by the CPU beside them.

On a machine with one GPU, in a checkout, where `runs/gpu-data` holds coco-yolov5n.pt, bus.jpg, zidane.jpg and
street.jpg, and onnxruntime-gpu, torch and the extras `cuda`, `gpu-media` and `video` are installed:

    python bench/gpu_media.py --data runs/gpu-data --json "$OUT/gpu_media.json"           # everything, within 9 minutes
    python bench/gpu_media.py --data runs/gpu-data --json "$OUT/first.json" --half 1      # or in two calls: within 5
    python bench/gpu_media.py --data runs/gpu-data --json "$OUT/second.json" --half 2     # minutes each
    python bench/gpu_media.py --data runs/gpu-data --parts folder,video --limit-s 60      # some parts, each for itself

On a machine with two GPUs, `several` is not left out; the other parts use the first GPU:

    python bench/gpu_media.py --data runs/gpu-data --parts several,folder --json "$OUT/two.json"

To compare a folder with an older commit, unpack its `src` into a folder that is named after it:

    git archive --prefix=16c6d484/ 16c6d484 src | tar -x -C /tmp
    python bench/gpu_media.py --data runs/gpu-data --parts folder --before /tmp/16c6d484

Without a GPU, to see whether it runs:

    python bench/gpu_media.py --data runs/gpu-data --device cpu --smoke    # decoding and network on the CPU
    python bench/gpu_media.py --data runs/gpu-data --stand-ins --smoke     # every line, on the stand-ins of the tests

Videos are made here, unless `--videos` names a folder. Each part runs in a process of its own with a time limit, so
that one that hangs or dies costs only itself. Each figure is written at once to a .jsonl file beside `--json`, and the
JSON after each part, so nothing is lost if all of it is ended. `--json` defaults to gpu_media.json in the folder
`$OUT`. The table of what was wanted comes at the end. `--plot` draws the latency of the cameras. `--pack` puts all of
it into one file, and `bench/media_table.py` makes one text of several reports.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests"), str(HERE.parent / "src")]

from _media_parts import Setting, run_part  # noqa: E402 - the path above leads to it
from media_table import judged  # noqa: E402 - likewise

Part = tuple[str, "Callable[[Setting], None]", float, int]


def all_parts() -> dict[str, Part]:
    """The parts of all modules `_media_*.py`, by their names: those of images first."""
    names = sorted((path.stem for path in HERE.glob("_media_*.py")), key=lambda name: (name != "_media_parts", name))
    parts: list[Part] = [part for name in names for part in getattr(importlib.import_module(name), "PARTS", ())]
    return {part[0]: part for part in sorted(parts, key=lambda part: part[3])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="coco-yolov5n.pt and the photos")
    parser.add_argument("--parts", help="names with commas; default: all")
    parser.add_argument(
        "--half",
        type=int,
        choices=(1, 2),
        help="only the parts of this half; some are in neither",
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="draw the cameras as .png or .svg; default: beside the figures")
    parser.add_argument("--pack", type=Path, help="put the figures, their table and the plot into this .tar.gz instead")
    parser.add_argument("--videos", type=Path, help="a folder with 1080p H.264 videos")
    parser.add_argument("--before", type=Path, help="a folder with the `src` of an older commit, for the part folder")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--limit-s", type=float, help="of each part, in place of its own")
    parser.add_argument(
        "--total-s", type=float, help="of all parts, by default 520, of a half 275; the rest is left out"
    )
    parser.add_argument("--smoke", action="store_true", help="small and quick: whether it runs, not how fast")
    parser.add_argument("--stand-ins", action="store_true", help="in place of GPUs and their libraries; wants --smoke")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stand_ins and "STAND_IN_DEVICES" not in os.environ:
        sys.exit(_among_stand_ins())
    if arguments.before is not None:
        arguments.before = arguments.before.resolve()
        if not (arguments.before / "src" / "yoloship").is_dir():
            parser.error(f"--before: {arguments.before} has no src/yoloship")
    parts = all_parts()
    if arguments.child:
        _child(arguments, parts[arguments.child][1])
        return
    total_s = arguments.total_s or (275 if arguments.half else 520)
    half = [name for name, part in parts.items() if arguments.half in {None, part[3]}]
    wanted = [name.strip() for name in arguments.parts.split(",") if name.strip()] if arguments.parts else half
    if unknown := [name for name in wanted if name not in parts]:
        parser.error(f"--parts has {', '.join(unknown)}; there are {', '.join(parts)}")
    if arguments.json is None and os.environ.get("OUT"):
        arguments.json = Path(os.environ["OUT"]) / "gpu_media.json"
    if arguments.pack is not None and arguments.json is None:
        parser.error("--pack wants --json")
    if arguments.plot is None and arguments.json is not None:
        arguments.plot = arguments.json.with_suffix(".png")
    report: dict[str, Any] = {
        "what": "files, videos and cameras to boxes; see bench/gpu_media.py", **_machine(arguments.device),
        "judged": arguments.device != "cpu" and not arguments.smoke, "parts": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / "rows" if arguments.json is None else arguments.json.with_suffix(".jsonl")
        beside.write_text(json.dumps({name: value for name, value in report.items() if name != "parts"}) + "\n")
        arguments.rows = beside
        began = time.monotonic()
        for name in wanted:
            limit = min(arguments.limit_s or parts[name][2], began + total_s - time.monotonic())
            report["parts"][name] = _run(arguments, name, limit) if limit >= 5 else _not_begun()
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))
    print(f"{time.monotonic() - began:.0f} s in all")
    if arguments.plot is not None and (bars := camera_bars(report)):
        _draw(bars, report["device"], arguments.plot)
    if arguments.pack is not None:
        _pack(report, [arguments.json, beside, arguments.plot], arguments.pack)


def _pack(report: dict[str, Any], written: list[Path], archive: Path) -> None:
    """For a machine from which only a few files can be fetched: what is packed is removed."""
    from media_table import table as in_markdown

    text = written[0].with_suffix(".md")
    text.write_text(in_markdown([report]) + "\n")
    packed = [path for path in (text, *written) if path.exists()]
    with tarfile.open(archive, "w:gz") as out:
        for path in packed:
            out.add(path, path.name)
    for path in packed:
        path.unlink()


def _among_stand_ins() -> int:
    """Begin again in an environment with stand-ins."""
    import _stand_ins

    with tempfile.TemporaryDirectory() as cache:
        environment = _stand_ins.environment(Path(cache))
        return subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode


def _child(arguments: argparse.Namespace, part: Callable[[Setting], None]) -> None:
    setting = Setting(
        data=arguments.data, device=arguments.device, smoke=arguments.smoke, rows_path=arguments.rows,
        folder=Path(), ends=time.monotonic() + arguments.limit_s, videos=arguments.videos, part=arguments.child,
        before=arguments.before,
    )  # fmt: skip
    if arguments.stand_ins:
        import _stand_ins

        setting.facts["stand-ins"] = _stand_ins.install()
    ended = run_part(part, setting)
    with arguments.rows.open("a") as out:
        out.write(json.dumps({"part": arguments.child, "ended": ended}) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a thread of a library that does not end must not keep the next part waiting


def _not_begun() -> dict[str, Any]:
    return {"ended": "left out: the time of all parts was over", "seconds": 0, "rows": []}


def _run(arguments: argparse.Namespace, name: str, limit_s: float) -> dict[str, Any]:
    print(f"{name} (at most {limit_s:.0f} s)", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [
            sys.executable, str(HERE / "gpu_media.py"), "--data", str(arguments.data), "--device", arguments.device,
            "--child", name, "--rows", str(arguments.rows), "--limit-s", str(limit_s),
        ]  # fmt: skip
        command += ["--smoke"] if arguments.smoke else []
        command += ["--stand-ins"] if arguments.stand_ins else []
        command += ["--videos", str(arguments.videos)] if arguments.videos else []
        command += ["--before", str(arguments.before)] if arguments.before else []
        process = subprocess.Popen(command, start_new_session=True, env={**os.environ, "TMPDIR": folder})
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    lines = [line for line in map(json.loads, arguments.rows.read_text().splitlines()) if line.get("part") == name]
    ended = next((line["ended"] for line in lines if "ended" in line), None)
    if ended is None:
        ended = f"failed: cut off after {limit_s:.0f} s" if code is None else f"failed: its process ended with {code}"
    print(f"  {ended}, {time.monotonic() - began:.1f} s", flush=True)
    return {
        "ended": ended, "seconds": round(time.monotonic() - began, 1),
        "rows": [line for line in lines if "name" in line],
    }  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the part: it leads a group of its own, with its cameras and decoders."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _machine(device: str) -> dict[str, Any]:
    from gpu_pipeline import installed

    processor = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    facts: dict[str, Any] = {
        "device": processor or platform.machine(), "processor": processor, "cores": len(os.sched_getaffinity(0)),
        "memory": next(iter(_lines("/proc/meminfo")), ""), "system": platform.platform(),
        "python": platform.python_version(), "commit": _commit(),
        "began": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }  # fmt: skip
    if device != "cpu":
        from yoloship.cuda.device import find_gpus

        gpus = find_gpus()
        facts["device"] = f"{len(gpus)} × {gpus[0].name}" if gpus else "no GPU"
        facts["driver"] = next(iter(_lines("/proc/driver/nvidia/version")), "")
    facts["versions"] = {package: installed(package) for package in (
        "yoloship", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "av", "simplejpeg",
        "nvidia-nvjpeg", "nvidia-nvjpeg-cu12", "torch", "cuda-bindings",
    )}  # fmt: skip
    return facts


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def table(report: dict[str, Any]) -> str:
    """What was wanted and what was found; and how each part ended."""
    lines = [f"{report['device']}, {report['cores']} cores, commit {report['commit']}"]
    for name, part in report["parts"].items():
        lines.append(f"{name}: {part['ended']} ({part['seconds']} s)")
        for row in part["rows"]:
            bound, is_met = judged(row)
            if bound:
                verdict = ("met" if is_met else "MISSED") if report["judged"] else "not judged"
                lines.append(f"  {row['name']:58} {row['value']:>10.4g} {row['unit']:8} {bound:10} {verdict}")
            else:
                lines.append(f"  {row['name']:58} {row['value']:>10.4g} {row['unit']}")
    return "\n".join(lines)


def camera_bars(report: dict[str, Any]) -> list[Any]:
    """A bar for each number of cameras that was tried: the median, and from there to p99."""
    from _cameras import MOST_P99_MS

    from yoloship.evaluate.reports import Bar

    tried = (row for row in report["parts"].get("cameras", {}).get("rows", ()) if row["name"].endswith(", p99"))
    rows = list({row["name"]: row for row in tried}.values())  # the last try of each number
    rows.sort(key=lambda row: ("CPU" in row["name"], row["facts"]["cameras"]))
    bars = []
    for row in rows:
        load, by_cpu = row["facts"], "CPU" in row["name"]
        p50, _, p99, _ = load["complete_ms"]
        lost = f"lost {load['lost']}" if load["lost"] else "none lost"
        note = f"{load['frames_per_s']:.0f} frames/s, {lost}"
        count = "1 camera" if load["cameras"] == 1 else f"{load['cameras']} cameras"
        label = f"{count}, {'decoded by the CPU' if by_cpu else 'one GPU'}"
        parts = (("median", p50), ("to p99", max(0.0, p99 - p50)))
        bars.append(Bar(label, note, parts, MOST_P99_MS, f"{p50:.0f} ms, p99 {p99:.0f} ms"))
    return bars


def _draw(bars: list[Any], device: str, plot: Path) -> None:
    from yoloship.evaluate.reports import chart_pixels, chart_svg

    subtitle = f"cameras at 30 frames a second on {device}; the line is 50 ms"
    words = ("latency from a complete frame to its result", subtitle, "ms", bars)
    if plot.suffix.lower() == ".svg":
        plot.write_text(chart_svg(*words))
        return
    import cv2

    cv2.imwrite(str(plot), chart_pixels(*words))


if __name__ == "__main__":
    main()
