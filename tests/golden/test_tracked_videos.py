"""Videos of moving codes, found by the model in the package: gaps of seven frames cost no id and no count."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import yoloship
from helpers.code_videos import Shown, moving_codes
from helpers.scenes import MODEL
from yoloship.results.boxes import box_ious
from yoloship.results.detections import Detections
from yoloship.sources import Frame, Stream
from yoloship.tracking.presets import PRESETS
from yoloship.tracking.scene import Scene
from yoloship.tracking.scene_file import parse_scene
from yoloship.tracking.tracks import Tracks

CODES, RATE, GAPS = 5, 25, ((14, 7), (32, 7))
IN_A_GAP = frozenset(index for first, count in GAPS for index in range(first, first + count))
LINES = parse_scene("units: fractions\nlines: [{name: middle, from: [0.5, 1], to: [0.5, 0], anchor: center}]")


@cache
def video() -> tuple[tuple[Shown, Detections], ...]:
    """The frames, with what the model finds in them at the tracker's threshold."""
    shown = list(moving_codes(CODES, frames=48, rate=RATE, seed=4))
    with yoloship.load(MODEL) as detector:
        found = detector.stream([one.image for one in shown], score_threshold=Tracks().detect_threshold)
        return tuple(zip(shown, (one.unwrap() for one in found), strict=True))


def follow(preset: str, kind: str) -> tuple[list[list[int]], Scene]:
    """The ids of the codes in each frame that was searched, 0 for those that were not found, and the counts."""
    stream, tracks = Stream("codes.mp4", rate=Fraction(RATE)), Tracks(preset, LINES)
    rows, last = [], None
    for index, (shown, found) in enumerate(video()):
        in_a_gap = index in IN_A_GAP
        if in_a_gap and kind.startswith("dropped"):
            continue
        frame = Frame(index, f"codes.mp4#{index}", None, shown.time_s, stream)
        if kind == "dropped, times lost":
            frame = Frame(index, f"image {index}", None)
        result = found[:0] if in_a_gap and kind == "nothing found" else found
        answer, last = tracks.update(frame, None if in_a_gap and kind == "not decoded" else result)
        if not in_a_gap:
            assert answer is not None
            assert answer.track_ids is not None
            overlaps = box_ious(shown.boxes_xyxy, answer.boxes_xyxy)
            ids = np.where(overlaps.max(axis=1, initial=0) > 0.5, answer.track_ids[overlaps.argmax(axis=1)], 0)
            rows.append([int(one) for one in ids])
    assert last is not None
    return rows, last


@pytest.mark.parametrize("kind", ["dropped", "not decoded", "nothing found"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_code_keeps_its_id_over_gaps_of_seven_frames(preset: str, kind: str) -> None:
    rows, counted = follow(preset, kind)
    assert len(rows) == 48 - len(IN_A_GAP)
    assert sorted(rows[-1]) == [1, 2, 3, 4, 5]
    for row in rows[1:]:
        assert row == rows[-1]
    (count,) = counted.to_dict()["lines"].values()
    assert count["in"] + count["out"] == CODES
    assert min(count["in"], count["out"]) > 0, "codes go in both directions"


def test_a_video_file_brings_the_times_with_it(tmp_path: Path) -> None:
    """Its frames lie 40 ms apart, with a gap of seven frames."""
    path = tmp_path / "codes.mp4"
    kept = [(index, one.image) for index, (one, _) in enumerate(video()) if 4 <= index < 14 or 21 <= index < 25]
    with av.open(str(path), "w") as output:
        track: Any = output.add_stream("libx264", rate=RATE, options={"crf": "14"})
        track.width, track.height, track.pix_fmt = 640, 480, "yuv420p"
        track.codec_context.time_base = Fraction(1, 1000)
        for index, image in kept:
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts, picture.time_base = 40 * index, Fraction(1, 1000)
            output.mux(track.encode(picture))
        output.mux(track.encode(None))
    outcomes = list(yoloship.track(MODEL, path))
    times = [one.frame.time_s for one in outcomes if one.frame is not None and one.frame.time_s is not None]
    assert np.diff(times).round(3).tolist() == [0.04] * 9 + [0.32] + [0.04] * 3
    ids = [one.unwrap().track_ids for one in outcomes]
    assert [sorted(row.tolist()) for row in ids if row is not None][1:] == [[1, 2, 3, 4, 5]] * 13


@pytest.mark.parametrize("preset", PRESETS)
def test_without_times_the_same_gaps_cost_ids(preset: str) -> None:
    """The codes move on by more than their own size in a gap, so this is not a matter of course."""
    rows, _ = follow(preset, "dropped, times lost")
    assert max(rows[-1]) > CODES
    (first, _), (later, _) = video()[0], video()[8]
    moved = np.abs(later.boxes_xyxy - first.boxes_xyxy)[:, 0]
    assert (moved > 0.9 * (first.boxes_xyxy[:, 2] - first.boxes_xyxy[:, 0])).all()
