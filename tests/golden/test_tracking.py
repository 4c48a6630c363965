"""Ids of moving scenes, equal to those of the package `trackers` and of a plain form of the paper's program.

tools/track_reference/record.py writes what they answer, with the detections that they were given.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from helpers.moving import SCENES, Seen, id_switches, identity_f1
from yoloship.tracking.presets import DEFAULT, PRESETS
from yoloship.tracking.tracker import ByteTracker

RECORDED = Path(__file__).with_name("tracks.npz")
EACH = pytest.mark.parametrize("name", SCENES)


@cache
def recorded() -> dict[str, npt.NDArray[np.generic]]:
    with np.load(RECORDED, allow_pickle=False) as file:
        return dict(file)


@cache
def frames_of(name: str) -> list[Seen]:
    """The detections that were recorded, with their truth."""
    parts, frames, start = recorded(), [], 0
    visible = frozenset(range(SCENES[name].objects))
    for count, time_s in zip(parts[f"{name}/counts"].tolist(), parts[f"{name}/times"].tolist(), strict=True):
        boxes, scores, truth = (parts[f"{name}/{part}"][start : start + count] for part in ("boxes", "scores", "truth"))
        frames.append(Seen(time_s, boxes, scores, truth, visible))  # type: ignore[arg-type]
        start += count
    return frames


@cache
def ids_of(name: str, preset: str, *, is_timed: bool) -> list[list[int]]:
    tracker = ByteTracker(PRESETS[preset], SCENES[name].rate)
    return [
        tracker.update(frame.boxes_xyxy, frame.scores, frame.time_s if is_timed else None).ids.tolist()
        for frame in frames_of(name)
    ]


def flat(ids: list[list[int]]) -> npt.NDArray[np.int64]:
    return np.array([one for frame in ids for one in frame], np.int64)


def renamed(ids: npt.NDArray[np.generic]) -> list[int]:
    """The same ids, counted in the order in which they first appear; below 0 is none."""
    names: dict[int, int] = {}
    return [-1 if one < 0 else names.setdefault(one, len(names)) for one in ids.tolist()]


@EACH
@pytest.mark.parametrize("kind", ["timed", "counted"])
def test_every_id_equals_that_of_the_package_trackers(name: str, kind: str) -> None:
    theirs = recorded()[f"{name}/{kind}"].astype(np.int64)
    ours = flat(ids_of(name, "trackers", is_timed=kind == "timed"))
    np.testing.assert_array_equal(ours, np.where(theirs < 0, -1, theirs + 1))
    assert (theirs >= 0).mean() > 0.3


@EACH
def test_every_object_is_followed_as_by_the_program_of_the_paper(name: str) -> None:
    theirs = recorded()[f"{name}/paper"]
    assert renamed(flat(ids_of(name, "paper", is_timed=False))) == renamed(theirs)
    assert len(set(theirs.tolist())) > SCENES[name].objects


@pytest.mark.parametrize("name", ["crossing", "crowd", "low scores", "missed for long"])
def test_times_of_a_constant_rate_change_nothing_for_the_paper(name: str) -> None:
    assert ids_of(name, "paper", is_timed=True) == ids_of(name, "paper", is_timed=False)


def test_times_keep_the_ids_that_are_lost_without_them() -> None:
    frames = frames_of("dropped frames")
    assert sum(len(range(first, first + count)) for first, count in SCENES["dropped frames"].dropped_at) == 26
    timed = {preset: ids_of("dropped frames", preset, is_timed=True) for preset in PRESETS}
    counted = {preset: ids_of("dropped frames", preset, is_timed=False) for preset in PRESETS}
    assert id_switches(frames, timed["yoloship"]) == id_switches(frames, timed["trackers"]) == 0
    for preset in PRESETS:
        assert id_switches(frames, timed[preset]) < id_switches(frames, counted[preset])
        assert identity_f1(frames, timed[preset]) > identity_f1(frames, counted[preset])


def test_the_default_preset_follows_objects_best_in_these_scenes() -> None:
    sums = dict.fromkeys(PRESETS, 0.0)
    for name in SCENES:
        frames = frames_of(name)
        for preset in PRESETS:
            sums[preset] += identity_f1(frames, ids_of(name, preset, is_timed=True))
    assert max(sums, key=sums.__getitem__) == DEFAULT, sums
