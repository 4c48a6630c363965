"""Kills a run with a log at random moments, goes on until it is finished, and compares every output with a whole run.

    python bench/kill_and_resume.py [--kills 200] [--images 120] [--seed 1]

The images are scenes that are painted at run time, a few of them broken. Half of the rounds draw on them, the others
read a video too if PyAV is installed. Half of the rounds write the log after every third image instead of once a
second, so that kills meet its lines too.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MODEL = Path(__file__).parents[1] / "src" / "yoloship" / "demo" / "codes-yolov5n.pt"
OUTPUTS = (
    *("--jsonl", "found.jsonl", "--json", "found.json", "--csv", "found.csv", "--coco", "coco.json"),
    *("--txt", "labels", "--crops", "crops"),
)
OFTEN = "import yoloship.job.ledger as ledger\nledger.COMMIT_FRAMES = 3\nfrom yoloship.cli import main\nmain()\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sources = _sources(work, arguments.images)
        common = ("predict", str(MODEL), "--imgsz", "64", "--conf", "0.05", *OUTPUTS)
        commands = [(*common, sources[0], "-o", "out"), (*common, *sources, "--no-draw")]
        wholes: list[dict[str, Any]] = []
        spent_s = 0.0
        for place, command in enumerate(commands):
            started = time.monotonic()
            _run(work / f"whole-{place}", sources, work, [sys.executable, "-m", "yoloship", *command])
            spent_s = max(spent_s, time.monotonic() - started)
            wholes.append(_outputs(work / f"whole-{place}", sources))
            print(f"a whole run: {time.monotonic() - started:.1f} s, {len(wholes[-1])} output files")
        kills = rounds = wrong = 0
        while kills < arguments.kills:
            place = work / "round"
            shutil.rmtree(place, ignore_errors=True)
            program = ["-c", OFTEN] if rounds % 4 > 1 else ["-m", "yoloship"]
            command, expected = commands[rounds % 2], wholes[rounds % 2]
            while True:
                delay_s = chance.uniform(0.1, 1.2 * spent_s) if kills < arguments.kills else None
                if _run(place, sources, work, [sys.executable, *program, *command, "--resume"], delay_s):
                    break
                kills += 1
            found = _outputs(place, sources)
            rounds += 1
            if found != expected:
                wrong += 1
                names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
                print(f"round {rounds} differs in {len(names)} files: {names[:8]}")
        print(f"{kills} kills, {rounds} finished runs, {wrong} of them wrong")
    raise SystemExit(wrong > 0)


def _sources(work: Path, count: int) -> list[str]:
    """Make the images, and return what a run in a folder of its own calls them."""
    subprocess.run(
        [sys.executable, "-m", "yoloship", "demo", "--dataset", "scenes", "--count", str(count)],
        cwd=work, check=True, capture_output=True,
    )  # fmt: skip
    images = sorted((work / "scenes" / "images").rglob("*.jpg"))
    for path in images[::17]:
        path.write_bytes(path.read_bytes()[:200])
    names = [str(images[0].parent.relative_to(work))]
    if find_spec("av") is not None:
        _video(work / "clip.mp4", [path for path in images if path not in images[::17]][:30])
        names.append("clip.mp4")
    return names


def _video(path: Path, images: list[Path]) -> None:
    import av
    import cv2

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 320
        for image in images:
            pixels = cv2.resize(cv2.imread(str(image)), (320, 320))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode())


def _run(place: Path, sources: list[str], work: Path, command: list[str], delay_s: float | None = None) -> bool:
    """Run a command in a folder, and kill it after a time; whether it ended by itself."""
    if not place.exists():
        place.mkdir()
        for top in {source.split("/")[0] for source in sources}:
            (place / top).symlink_to(work / top)
    with subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.communicate(timeout=delay_s)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return False
    if process.returncode != 1:  # 0 cannot be, because some images are broken
        raise SystemExit(f"ended with {process.returncode}: {said}")
    return True


def _outputs(place: Path, sources: list[str]) -> dict[str, Any]:
    """What a run wrote, except its log and the hidden remains of those that were killed a moment before."""
    tops = {source.split("/")[0] for source in sources}
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        inside = path.relative_to(place)
        if (
            path.is_file()
            and path.suffix != ".resume"
            and inside.parts[0] not in tops
            and not path.name.startswith(".")
        ):
            data = path.read_bytes()
            found[str(inside)] = data
            if path.suffix == ".json":
                json.loads(data)
    return found


if __name__ == "__main__":
    main()
