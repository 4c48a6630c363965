"""What a run of a model costs: seconds = a·n + b for n images, fitted to the runs that were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_MEMORY: Final = 0.98
"""Share of a run's weight that is left after the next one, so about the last 50 runs count."""
_ENOUGH: Final = 0.95
"""Share of the largest batch's throughput that the chosen batch must reach."""


class RunCost:
    """A fit of seconds = a·n + b by least squares, in which old runs count less and less."""

    def __init__(self) -> None:
        self._weight = self._n = self._nn = self._t = self._nt = 0.0

    def add(self, images: int, seconds: float) -> None:
        """Count a run."""
        values = (1.0, float(images), float(images * images), seconds, images * seconds)
        sums = (self._weight, self._n, self._nn, self._t, self._nt)
        kept = [_MEMORY * total + value for total, value in zip(sums, values, strict=True)]
        self._weight, self._n, self._nn, self._t, self._nt = kept

    @property
    def line(self) -> tuple[float, float]:
        """(a, b) in seconds, neither below 0; if all runs had the same size, or none was measured, b is 0."""
        if not self._weight:
            return 0.0, 0.0
        spread = self._weight * self._nn - self._n * self._n
        a = (self._weight * self._nt - self._n * self._t) / spread if spread > 1e-9 * self._nn * self._weight else -1.0
        b = (self._t - a * self._n) / self._weight
        if a <= 0 or b < 0:  # a line through the origin
            return self._nt / self._nn, 0.0
        return a, b

    def seconds(self, images: int) -> float:
        """The seconds of a run."""
        a, b = self.line
        return a * images + b

    def best_batch(self, sizes: Sequence[int], within_s: float) -> int:
        """The smallest batch that has nearly the throughput of the best one.

        Args:
            sizes: The possible batches, ascending.
            within_s: A run may take no longer, so that a lone image does not wait long for the one before it.
        """
        a, b = self.line
        fitting = [size for size in sizes if a * size + b <= within_s] or [sizes[0]]
        rates = {size: size / max(a * size + b, 1e-9) for size in fitting}
        enough = _ENOUGH * max(rates.values())
        return next(size for size in fitting if rates[size] >= enough)
