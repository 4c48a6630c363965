"""Records what the package `trackers`, and a plain form of the paper's program, answer on our scenes.

tests/golden/test_tracking.py holds `yoloship.tracking` to it. It needs `trackers` 2.6.1 and `supervision`, which need
opencv-python: that package writes over the files of opencv-python-headless, so give them an environment of their own:

    python -m venv ENV
    ENV/bin/pip install --no-deps trackers==2.6.1 supervision==0.31.2
    ENV/bin/pip install numpy scipy opencv-python-headless "pydeprecate<0.14" rich requests pillow matplotlib
    ENV/bin/pip install pyyaml defusedxml tqdm av
    PYTHONPATH=src:tests:tools/track_reference ENV/bin/python tools/track_reference/record.py tests/golden/tracks.npz
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from plain import PlainTracker

from helpers.moving import SCENES, Seen


def answers(frames: list[Seen], rate: float, *, is_timed: bool) -> list[np.ndarray]:
    """The id of each detection in each frame, from 0; -1 for none."""
    import supervision as sv
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(frame_rate=rate)
    ids = []
    for frame in frames:
        rows = np.arange(len(frame.scores))
        given = sv.Detections(xyxy=frame.boxes_xyxy, confidence=frame.scores, data={"row": rows})
        found = tracker.update(given, timestamp=frame.time_s if is_timed else None)
        answer = np.full(len(rows), -1, np.int16)
        if len(found):
            answer[found.data["row"]] = found.tracker_id
        ids.append(answer)
    return ids


def main(target: Path) -> None:
    """Write the detections of each scene and the answers, with and without times."""
    warnings.simplefilter("ignore")
    arrays: dict[str, Any] = {}
    for name, scene in SCENES.items():
        frames = scene.make()
        arrays[f"{name}/rate"] = np.float64(scene.rate)
        arrays[f"{name}/counts"] = np.array([len(frame.scores) for frame in frames], np.int16)
        arrays[f"{name}/times"] = np.array([frame.time_s for frame in frames])
        arrays[f"{name}/boxes"] = np.concatenate([frame.boxes_xyxy for frame in frames])
        arrays[f"{name}/truth"] = np.concatenate([frame.truth for frame in frames]).astype(np.int16)
        arrays[f"{name}/scores"] = np.concatenate([frame.scores for frame in frames])
        plain = PlainTracker(scene.rate)
        by_frame = [plain.update(f.boxes_xyxy.astype(float), f.scores.astype(float)) for f in frames]
        arrays[f"{name}/paper"] = np.array([one for ids in by_frame for one in ids], np.int16)
        for kind, is_timed in (("timed", True), ("counted", False)):
            ids = answers(frames, scene.rate, is_timed=is_timed)
            arrays[f"{name}/{kind}"] = np.concatenate(ids)
            print(f"{name}, {kind}: {len(frames)} frames, {1 + max(one.max(initial=-1) for one in ids)} ids")
    np.savez_compressed(target, **arrays)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
