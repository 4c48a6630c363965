"""Where tracked boxes will be: Kalman filters of constant velocity for all tracks at once, `MOTIONS`.

Four numbers describe a box. Each moves on its own: noise, measurements and the first guess of one say nothing about
another. So the filter of eight states that one finds in the literature is four filters of two states, a value and its
velocity, and its covariance has three numbers for each value. The result is the same, to rounding.

The state of n tracks is one array, (n, 5, 4) float64: the values, their velocities, the variances of the values, the
covariances of value and velocity, and the variances of the velocities. Time is counted in frames of the nominal rate,
and velocities are per frame.

Source: ByteTrack's program for `CenterMotion` (its filter is that of DeepSORT: Wojke et al., 2017), the package
`trackers` 2.6.1 for `CornerMotion`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

VALUE, VELOCITY, VARIANCE, COVARIANCE, VELOCITY_VARIANCE = range(5)
"""The places of a state's parts."""


class Motion(ABC):
    """What moves, and how much it is trusted. It has no state of its own: each method returns a new array."""

    @abstractmethod
    def begin(self, boxes_xyxy: Floats) -> Floats:
        """The states of objects that were seen once, at rest.

        Args:
            boxes_xyxy: (n, 4) with positive width and height; read only.

        Returns:
            (n, 5, 4); the caller owns it.
        """

    @abstractmethod
    def predict(self, state: Floats, frames: float, lost: npt.NDArray[np.bool_]) -> Floats:
        """The states after some time without a measurement.

        Args:
            state: (n, 5, 4); read only.
            frames: The time that has passed, above 0, in frames of the nominal rate; any part of a frame.
            lost: (n,): which objects were not found in the frame before.

        Returns:
            (n, 5, 4); the caller owns it.
        """

    @abstractmethod
    def correct(self, state: Floats, boxes_xyxy: Floats) -> Floats:
        """The states after each object was found.

        Args:
            state: (n, 5, 4); read only.
            boxes_xyxy: (n, 4), where they were found; read only.

        Returns:
            (n, 5, 4); the caller owns it.
        """

    @abstractmethod
    def boxes(self, state: Floats) -> Floats:
        """(n, 4): the boxes of the states, left, top, right, bottom; the caller owns it."""


class CenterMotion(Motion):
    """Centre, width divided by height, and height. The noise grows with the height, but for the ratio.

    Its noise is that of one frame. For n frames the filter does what n predictions of one frame do, in a closed form
    that also holds for parts of frames. A number of frames that is nearly whole, as from clocks in milliseconds, counts
    as whole. The height stops to change after one frame without a measurement, as in the original program.
    """

    position_noise: ClassVar[float] = 1 / 20
    velocity_noise: ClassVar[float] = 1 / 160
    nearly: ClassVar[float] = 0.1
    """Frames."""

    def begin(self, boxes_xyxy: Floats) -> Floats:
        """The states of objects that were seen once: twice the noise of a value, ten times that of a velocity."""
        state = np.zeros((len(boxes_xyxy), 5, 4))
        state[:, VALUE] = _measured(boxes_xyxy)
        height = state[:, VALUE, 3]
        state[:, VARIANCE] = _squares(2 * self.position_noise * height, 1e-2)
        state[:, VELOCITY_VARIANCE] = _squares(10 * self.velocity_noise * height, 1e-5)
        return state

    def predict(self, state: Floats, frames: float, lost: npt.NDArray[np.bool_]) -> Floats:
        """The states after some frames, as that many predictions of one frame give them."""
        whole = round(frames)
        if whole and abs(frames - whole) <= self.nearly:
            frames = whole
        state = state.copy()
        state[lost, VELOCITY, 3] = 0
        if frames > 1:
            state = self._moved(state, 1)
            state[:, VELOCITY, 3] = 0
            frames -= 1
        return self._moved(state, frames)

    def _moved(self, state: Floats, frames: float) -> Floats:
        height = state[:, VALUE, 3]
        position = _squares(self.position_noise * height, 1e-2)
        velocity = _squares(self.velocity_noise * height, 1e-5)
        # The sums over k = 0 … n - 1 of 1, k and k²: the noise of a frame is moved on by the frames after it.
        first, second = frames * (frames - 1) / 2, frames * (frames - 1) * (2 * frames - 1) / 6
        return _predicted(state, frames, (frames * position + second * velocity, first * velocity, frames * velocity))

    def correct(self, state: Floats, boxes_xyxy: Floats) -> Floats:
        """The states after each object was found; the noise of a measurement is that of a value."""
        noise = _squares(self.position_noise * state[:, VALUE, 3], 1e-1)
        return _corrected(state, _measured(boxes_xyxy), noise)

    def boxes(self, state: Floats) -> Floats:
        """(n, 4): the boxes of the states."""
        x, y, ratio, height = state[:, VALUE].T
        width = ratio * height
        left, top = x - width / 2, y - height / 2
        return np.stack([left, top, left + width, top + height], axis=1)


class CornerMotion(Motion):
    """Left, top, right and bottom edge, each with a noise that does not depend on the size.

    For a time that is not one frame, its noise is that of an unknown acceleration which is constant for this time.

    Args:
        rate: Frames in a second. A time within 4 ms of one frame counts as one frame.
    """

    measurement: ClassVar[float] = 0.1
    process: ClassVar[float] = 0.01
    nearly_s: ClassVar[float] = 0.004

    def __init__(self, rate: float) -> None:
        self._nearly = self.nearly_s * rate

    def begin(self, boxes_xyxy: Floats) -> Floats:
        """The states of objects that were seen once: all variances are 1."""
        state = np.zeros((len(boxes_xyxy), 5, 4))
        state[:, VALUE] = boxes_xyxy
        state[:, VARIANCE] = state[:, VELOCITY_VARIANCE] = 1
        return state

    def predict(self, state: Floats, frames: float, lost: npt.NDArray[np.bool_]) -> Floats:  # noqa: ARG002 - all alike
        """The states after some frames."""
        noise = (self.process, 0.0, self.process)
        if abs(frames - 1) > self._nearly:
            noise = (self.process * frames**4 / 4, self.process * frames**3 / 2, self.process * frames**2)
        return _predicted(state, frames, noise)

    def correct(self, state: Floats, boxes_xyxy: Floats) -> Floats:
        """The states after each object was found."""
        return _corrected(state, boxes_xyxy, np.float64(self.measurement))

    def boxes(self, state: Floats) -> Floats:
        """(n, 4): the boxes of the states."""
        boxes: Floats = state[:, VALUE].copy()
        return boxes


MOTIONS: Final[Mapping[str, type[CenterMotion] | type[CornerMotion]]] = MappingProxyType(
    {"center": CenterMotion, "corners": CornerMotion}
)
"""Name in `TrackOptions.motion` → class."""


def motion_of(name: str, rate: float) -> Motion:
    """The motion of that name, for frames of a nominal rate per second."""
    return CornerMotion(rate) if MOTIONS[name] is CornerMotion else CenterMotion()


def _measured(boxes_xyxy: Floats) -> Floats:
    """(n, 4): centre, width divided by height, and height."""
    left, top, right, bottom = boxes_xyxy.T
    width, height = right - left, bottom - top
    return np.stack([left + width / 2, top + height / 2, width / height, height], axis=1)


def _squares(deviations: Floats, of_ratio: float) -> Floats:
    """(n, 4): variances of the four values of `CenterMotion`, from the deviation of all but the ratio."""
    deviation = np.repeat(deviations[:, None], 4, axis=1)
    deviation[:, 2] = of_ratio
    return deviation * deviation


def _predicted(state: Floats, frames: float, noise: tuple[Floats | float, Floats | float, Floats | float]) -> Floats:
    """The state moved on, with the noise of its variances, covariances and variances of velocities added."""
    value, velocity, variance, covariance, velocity_variance = np.moveaxis(state, 1, 0)
    return np.stack(
        [
            value + frames * velocity,
            velocity,
            variance + 2 * frames * covariance + frames**2 * velocity_variance + noise[0],
            covariance + frames * velocity_variance + noise[1],
            velocity_variance + noise[2],
        ],
        axis=1,
    )


def _corrected(state: Floats, measured: Floats, noise: Floats | np.float64) -> Floats:
    """The state after a measurement of its values with this variance."""
    value, velocity, variance, covariance, velocity_variance = np.moveaxis(state, 1, 0)
    total = variance + noise
    gain, velocity_gain = variance / total, covariance / total
    away = measured - value
    return np.stack(
        [
            value + gain * away,
            velocity + velocity_gain * away,
            variance - gain * variance,
            covariance - gain * covariance,
            velocity_variance - velocity_gain * covariance,
        ],
        axis=1,
    )
