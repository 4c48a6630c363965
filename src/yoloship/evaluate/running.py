"""Running a graph over feeds on the CPU, for whoever judges graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.graph import graph_bytes
from yoloship.graph.sensitivity import ending_at
from yoloship.runtime import OnnxRuntimeSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.graph.sensitivity import Feeds, Model


def run_model(model: Model, feeds: Sequence[Feeds]) -> list[tuple[npt.NDArray[np.generic], ...]]:
    """Run a graph over feeds on the CPU."""
    with OnnxRuntimeSession.open(graph_bytes(model)) as session:
        return [session.run(feed) for feed in feeds]


def channel_means(model: Model, names: Sequence[str], feeds: Sequence[Feeds]) -> dict[str, npt.NDArray[np.float64]]:
    """The mean of each channel, (channels,), of these (B, C, H, W) float32 values over some runs."""
    sums = {name: np.zeros(()) for name in names}
    with OnnxRuntimeSession.open(graph_bytes(ending_at(model, names))) as session:
        for feed in feeds:  # one at a time: all these values are held
            for name, value in zip(names, session.run(feed), strict=True):
                sums[name] = sums[name] + value.mean(axis=(0, 2, 3), dtype=np.float64)
    return {name: total / len(feeds) for name, total in sums.items()}
