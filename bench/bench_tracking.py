"""Tracking: how well ids follow objects, with and without times, and processor time a frame.

    python bench/bench_tracking.py [--seeds 12] [--rounds 5] [--only quality|speed]

The scenes are those of tests/helpers/moving.py. The package `trackers` takes part if it can be imported: it needs an
environment of its own (tools/track_reference/record.py says how), in which this runs with PYTHONPATH=src:tests.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from _timing import conditions

from helpers.moving import Scene, id_switches, identity_f1
from yoloship.tracking.presets import PRESETS
from yoloship.tracking.tracker import ByteTracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.moving import Seen

    Follow = Callable[[list[Seen], float, bool], list[list[int]]]

SCENES = {
    "easy": {},
    "crowd": {"objects": 40, "sizes": (40.0, 110.0), "missed": 0.1, "invented": 2},
    "low scores": {"low": 0.5, "missed": 0.1},
    "poor detector": {"tremble": 0.04, "missed": 0.2, "invented": 3},
    "gaps of 7 dropped frames": {"rate": 30, "dropped_at": ((30, 7), (70, 7))},
    "gaps of 7 blind frames": {"missed_at": ((30, 7), (70, 7))},
    "30 % of frames dropped": {"rate": 30, "dropped": 0.3},
    "8 frames a second": {"rate": 8, "frames": 60},
    "fast objects": {"speed": 600},
    "small objects": {"sizes": (12.0, 30.0), "speed": 60},
    "large objects": {"sizes": (250.0, 500.0), "objects": 6},
}


def ours(preset: str) -> Follow:
    def follow(frames: list[Seen], rate: float, is_timed: bool) -> list[list[int]]:
        tracker = ByteTracker(PRESETS[preset], rate)
        return [
            tracker.update(one.boxes_xyxy, one.scores, one.time_s if is_timed else None).ids.tolist() for one in frames
        ]

    return follow


def theirs(frames: list[Seen], rate: float, is_timed: bool) -> list[list[int]]:
    import supervision as sv
    from trackers import ByteTrackTracker

    tracker, answers = ByteTrackTracker(frame_rate=rate), []
    for frame in frames:
        rows = np.arange(len(frame.scores))
        given = sv.Detections(xyxy=frame.boxes_xyxy, confidence=frame.scores, data={"row": rows})
        found = tracker.update(given, timestamp=frame.time_s if is_timed else None)
        ids = np.full(len(rows), -1)
        if len(found):
            ids[found.data["row"]] = found.tracker_id
        answers.append(ids.tolist())
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("quality", "speed"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    followers: dict[str, Follow] = {preset: ours(preset) for preset in PRESETS}
    try:
        import trackers  # noqa: F401

        followers["the package trackers"] = theirs
    except ImportError:
        print("the package trackers is not there\n")
    print(conditions("numpy", "trackers", "scipy"))
    if arguments.only != "speed":
        quality(followers, arguments.seeds)
    if arguments.only != "quality":
        speed(followers, arguments.rounds)


def quality(followers: dict[str, Follow], seeds: int) -> None:
    print(f"\nIDF1 and switches of ids in a scene, mean of {seeds} scenes: with times / without\n")
    print("| scene | " + " | ".join(followers) + " |\n| --- |" + " --- |" * len(followers))
    for name, changes in SCENES.items():
        made = [(scene.rate, scene.make()) for scene in (Scene(seed=100 + seed, **changes) for seed in range(seeds))]
        cells = []
        for follow in followers.values():
            parts = []
            for is_timed in (True, False):
                ids = [follow(frames, rate, is_timed) for rate, frames in made]
                f1 = statistics.mean(identity_f1(frames, one) for (_, frames), one in zip(made, ids, strict=True))
                lost = statistics.mean(id_switches(frames, one) for (_, frames), one in zip(made, ids, strict=True))
                parts.append(f"{f1:.3f}, {lost:.1f}")
            cells.append(" / ".join(parts))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def speed(followers: dict[str, Follow], rounds: int) -> None:
    print(f"\nMilliseconds of processor time a frame, median of {rounds} interleaved rounds of 30 frames\n")
    print("| objects | " + " | ".join(followers) + " |\n| --- |" + " --- |" * len(followers))
    for objects in (10, 100, 1000):
        sizes = (60.0, 160.0) if objects < 1000 else (15.0, 40.0)
        frames = Scene(objects=objects, sizes=sizes, frames=30, invented=objects / 50, seed=9).make()
        times: dict[str, list[float]] = {name: [] for name in followers}
        for _ in range(rounds):
            for name, follow in followers.items():
                start = time.process_time()
                follow(frames, 25, True)
                times[name].append((time.process_time() - start) * 1000 / len(frames))
        medians = (f"{statistics.median(one):.2f}" for one in times.values())
        print(f"| {objects} | " + " | ".join(medians) + " |", flush=True)


if __name__ == "__main__":
    main()
