"""What holds for the ids of any detections."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship.tracking.assignment import best_pairs
from yoloship.tracking.presets import PRESETS
from yoloship.tracking.tracker import ByteTracker

Frame = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
PRESET = st.sampled_from(sorted(PRESETS))
SEED = st.integers(0, 2**32 - 1)


def frames_of(seed: int, count: int = 14) -> list[Frame]:
    """Boxes that move at random, of random scores, now and then damaged."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 9))
    boxes, velocity = rng.uniform(0, 300, (n, 4)), rng.normal(0, 6, (n, 2))
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(5, 90, (n, 2))
    frames = []
    for _ in range(count):
        boxes[:, :2] += velocity
        boxes[:, 2:] += velocity
        keep = rng.random(n) < 0.8
        shown = (boxes[keep] + rng.normal(0, 1, (int(keep.sum()), 4))).astype(np.float32)
        if len(shown) and rng.random() < 0.2:
            shown[rng.integers(len(shown)), rng.integers(4)] = rng.choice([np.nan, np.inf, -1e38, 1e38, 0])
        frames.append((shown, rng.uniform(0, 1, len(shown)).astype(np.float32)))
    return frames


def times_of(seed: int, count: int = 14) -> list[float | None]:
    """Times that may be missing, doubled, late, far apart, or begin again."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([1 / 30, 1 / 30, 1 / 30, 0, 0.25, 3, -0.1, -50], count)
    return [None if rng.random() < 0.1 else float(time) for time in np.cumsum(steps)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SEED, PRESET)
def test_ids_are_unique_in_a_frame_and_never_return_after_they_ended(seed: int, preset: str) -> None:
    tracker, ended, before, most = ByteTracker(PRESETS[preset]), set[int](), frozenset[int](), 0
    for (boxes, scores), time_s in zip(frames_of(seed), times_of(seed), strict=True):
        answer = tracker.update(boxes, scores, time_s)
        ids = [one for one in answer.ids.tolist() if one != -1]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= tracker.alive_ids
        assert not tracker.alive_ids & ended
        assert (answer.has_track | (answer.ids == -1)).all()
        assert np.isfinite(answer.boxes_xyxy[answer.has_track]).all()
        ended |= before - tracker.alive_ids
        before = tracker.alive_ids
        most = max([most, *ids])
    assert ended | before == set(range(1, len(ended | before) + 1)), "ids are counted without a gap"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SEED, PRESET)
def test_the_order_of_the_detections_does_not_matter(seed: int, preset: str) -> None:
    rng = np.random.default_rng(seed)
    first, second = ByteTracker(PRESETS[preset]), ByteTracker(PRESETS[preset])
    names: dict[int, int] = {-1: -1}
    for boxes, scores in frames_of(seed):
        order = rng.permutation(len(boxes))
        one, other = first.update(boxes, scores).ids, second.update(boxes[order], scores[order]).ids
        for here, there in zip(one[order].tolist(), other.tolist(), strict=True):
            assert names.setdefault(here, there) == there
    assert len(set(names.values())) == len(names)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEED, PRESET, st.integers(-1000, 10**6))
def test_it_does_not_matter_when_a_clock_began(seed: int, preset: str, begin_s: int) -> None:
    one, other = ByteTracker(PRESETS[preset], 25), ByteTracker(PRESETS[preset], 25)
    for index, (boxes, scores) in enumerate(frames_of(seed)):
        answers = one.update(boxes, scores, index / 25), other.update(boxes, scores, begin_s + index / 25)
        assert answers[0].ids.tolist() == answers[1].ids.tolist()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SEED)
def test_no_exchange_of_two_columns_makes_an_assignment_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gains = rng.normal(0, 1, rng.integers(1, 40, 2))
    rows, columns = best_pairs(gains)
    chosen = gains[rows, columns]
    assert (chosen > 0).all()
    free_rows, free_columns = np.delete(np.arange(gains.shape[0]), rows), np.delete(np.arange(gains.shape[1]), columns)
    assert (gains[np.ix_(free_rows, free_columns)] <= 0).all()
    exchanged = gains[np.ix_(rows, columns)]
    assert (np.maximum(exchanged, 0) + np.maximum(exchanged.T, 0) <= chosen[:, None] + chosen[None] + 1e-12).all()
    assert (gains[np.ix_(free_rows, columns)] <= chosen + 1e-12).all()
    assert (gains[np.ix_(rows, free_columns)] <= chosen[:, None] + 1e-12).all()
