from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from yoloship.tracking.motion import (
    COVARIANCE,
    VALUE,
    VARIANCE,
    VELOCITY,
    VELOCITY_VARIANCE,
    CenterMotion,
    CornerMotion,
    Motion,
    motion_of,
)

Floats = npt.NDArray[np.float64]
BOXES = np.array([[10.0, 20, 60, 140], [300, 40, 420, 90], [5, 5, 9, 9]])
MOVED = BOXES + np.array([[4.0, 2, 5, 3], [-6, 0, -5, 1], [0.5, 0.5, 0.6, 0.4]])


def mean_of(state: Floats, row: int) -> Floats:
    return np.concatenate([state[row, VALUE], state[row, VELOCITY]])


def covariance_of(state: Floats, row: int) -> Floats:
    """The 8×8 matrix that a filter of the literature has."""
    upper = np.concatenate([np.diag(state[row, VARIANCE]), np.diag(state[row, COVARIANCE])], axis=1)
    lower = np.concatenate([np.diag(state[row, COVARIANCE]), np.diag(state[row, VELOCITY_VARIANCE])], axis=1)
    return np.concatenate([upper, lower])


def noise_of(motion: Motion, mean: Floats) -> tuple[Floats, Floats]:
    """The noise of one frame, (8, 8), and that of a measurement, (4, 4), as the literature writes them."""
    if isinstance(motion, CornerMotion):
        return np.eye(8) * 0.01, np.eye(4) * 0.1
    height = mean[3]
    step = [height / 20, height / 20, 1e-2, height / 20, height / 160, height / 160, 1e-5, height / 160]
    return np.diag(np.array(step) ** 2), np.diag(np.array([height / 20, height / 20, 1e-1, height / 20]) ** 2)


BOTH = pytest.mark.parametrize("motion", [CenterMotion(), CornerMotion(30)], ids=["center", "corners"])
NONE = np.zeros(3, np.bool_)


@BOTH
def test_three_small_filters_do_what_the_matrices_of_the_literature_do(motion: Motion) -> None:
    state = motion.begin(BOXES)
    step, seen = np.eye(8) + np.eye(8, k=4), np.eye(4, 8)
    for turn in range(6):
        wanted = []
        measured = motion.begin(BOXES + turn * (MOVED - BOXES))[:, VALUE]
        for row in range(3):
            mean, cov = mean_of(state, row), covariance_of(state, row)
            process, _ = noise_of(motion, mean)
            mean, cov = step @ mean, step @ cov @ step.T + process
            _, noise = noise_of(motion, mean)
            gain = cov @ seen.T @ np.linalg.inv(seen @ cov @ seen.T + noise)
            wanted.append((mean + gain @ (measured[row] - seen @ mean), (np.eye(8) - gain @ seen) @ cov))
        state = motion.correct(motion.predict(state, 1, NONE), BOXES + turn * (MOVED - BOXES))
        for row, (mean, cov) in enumerate(wanted):
            np.testing.assert_allclose(mean_of(state, row), mean, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(covariance_of(state, row), cov, rtol=1e-9, atol=1e-9)


@BOTH
def test_boxes_come_back_as_they_were(motion: Motion) -> None:
    np.testing.assert_allclose(motion.boxes(motion.begin(BOXES)), BOXES, rtol=1e-12)


@BOTH
def test_a_filter_learns_the_velocity_of_its_object(motion: Motion) -> None:
    state = motion.begin(BOXES)
    for turn in range(1, 60):
        state = motion.correct(motion.predict(state, 1, NONE), BOXES + turn * np.array([3.0, -2, 3, -2]))
    later = motion.boxes(motion.predict(state, 7, NONE))
    np.testing.assert_allclose(later, BOXES + 66 * np.array([3.0, -2, 3, -2]), atol=0.5)


@BOTH
def test_arrays_that_are_handed_over_are_not_written_to(motion: Motion) -> None:
    state = motion.begin(BOXES)
    before = state.copy()
    motion.correct(motion.predict(state, 3, np.ones(3, np.bool_)), MOVED)
    np.testing.assert_array_equal(state, before)


def seen_twice() -> Floats:
    motion = CenterMotion()
    return motion.correct(motion.predict(motion.begin(BOXES), 1, NONE), MOVED)


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 30])
def test_many_frames_at_once_equal_as_many_empty_frames(frames: int) -> None:
    """The object is seen, then is not found in the frames after the first: it is lost in them."""
    motion, step = CenterMotion(), seen_twice()
    for turn in range(frames):
        step = motion.predict(step, 1, np.full(3, turn > 0))
    np.testing.assert_allclose(motion.predict(seen_twice(), frames, NONE), step, rtol=1e-12, atol=1e-12)


def test_parts_of_frames_lie_between_the_frames() -> None:
    motion = CenterMotion()
    whole = [motion.predict(seen_twice(), frames, NONE) for frames in (1, 2)]
    half = motion.predict(seen_twice(), 1.5, NONE)
    for part in (VARIANCE, VELOCITY_VARIANCE):
        assert (whole[0][:, part] < half[:, part]).all()
        assert (half[:, part] < whole[1][:, part]).all()
    np.testing.assert_allclose(half[:, VALUE], (whole[0] + whole[1])[:, VALUE] / 2, rtol=1e-9)


@pytest.mark.parametrize("frames", [0.01, 0.2, 0.49, 0.5, 0.75, 0.89, 1.3, 2.6])
def test_variances_stay_variances(frames: float) -> None:
    state = CenterMotion().predict(seen_twice(), frames, NONE)
    assert (state[:, VARIANCE] > 0).all()
    assert (state[:, VARIANCE] * state[:, VELOCITY_VARIANCE] > state[:, COVARIANCE] ** 2).all()


@pytest.mark.parametrize("frames", [0.96, 1.04, 7.95])
def test_a_number_of_frames_that_is_nearly_whole_is_whole(frames: float) -> None:
    motion = CenterMotion()
    np.testing.assert_array_equal(
        motion.predict(seen_twice(), frames, NONE), motion.predict(seen_twice(), round(frames), NONE)
    )


def test_the_height_of_a_lost_object_does_not_change() -> None:
    state = seen_twice()
    assert (state[:, VELOCITY, 3] != 0).all()
    lost = CenterMotion().predict(state, 1, np.array([True, False, True]))
    assert (lost[:, VALUE, 3] == state[:, VALUE, 3]).tolist() == [True, False, True]


def test_the_noise_of_corners_for_a_gap_is_that_of_a_constant_acceleration() -> None:
    motion = CornerMotion(30)
    state = motion.begin(BOXES)
    for frames, (value, both, velocity) in ((1.11, (0.01, 0, 0.01)), (8, (10.24, 2.56, 0.64))):
        later = motion.predict(state, frames, NONE)
        assert later[0, VARIANCE, 0] == pytest.approx(1 + frames**2 + value)
        assert later[0, COVARIANCE, 0] == pytest.approx(frames + both)
        assert later[0, VELOCITY_VARIANCE, 0] == pytest.approx(1 + velocity)


def test_a_motion_has_a_name() -> None:
    assert isinstance(motion_of("center", 25), CenterMotion)
    assert isinstance(motion_of("corners", 25), CornerMotion)
