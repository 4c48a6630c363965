"""Running a converted graph over feeds on the CPU, before it is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.errors import GraphError
from yoloship.graph import graph_bytes
from yoloship.graph.passes.half import convert_precision, emulate, half_values, overflows
from yoloship.precision.sensitivity import ending_at
from yoloship.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.graph.passes.half import HalfPrecision
    from yoloship.precision.sensitivity import Feeds, Model

_MAX_ROUNDS: Final = 16
"""Each round keeps the layers in which values first overflow; layers behind them may follow."""


def run_model(model: Model, feeds: Sequence[Feeds]) -> list[tuple[npt.NDArray[np.generic], ...]]:
    """Run a graph over feeds on the CPU."""
    with open_session(graph_bytes(model)) as session:
        return [session.run(feed) for feed in feeds]


def channel_means(model: Model, names: Sequence[str], feeds: Sequence[Feeds]) -> dict[str, npt.NDArray[np.float64]]:
    """The mean of each channel, (channels,), of these (B, C, H, W) float32 values over some runs."""
    sums = {name: np.zeros(()) for name in names}
    with open_session(graph_bytes(ending_at(model, names))) as session:
        for feed in feeds:  # one at a time: all these values are held
            for name, value in zip(names, session.run(feed), strict=True):
                sums[name] = sums[name] + value.mean(axis=(0, 2, 3), dtype=np.float64)
    return {name: total / len(feeds) for name, total in sums.items()}


def convert_and_try(model: Model, precision: HalfPrecision, feeds: Sequence[Feeds]) -> tuple[Model, tuple[str, ...]]:
    """Convert a graph, run it as half precision would compute, and keep in float32 the layers that overflow.

    Args:
        model: float32. Not changed.
        precision: What its body should compute in.
        feeds: What to try it on.

    Returns:
        The graph, and the names of the layers that had to stay float32 because of their activations.

    Raises:
        GraphError: it cannot be converted; or it is not finite in float32 already; or stays so.
        SessionError: ONNX Runtime cannot run it.
    """
    kept: tuple[str, ...] = ()
    for _ in range(_MAX_ROUNDS):
        converted = convert_precision(model, precision, keep=kept)
        emulated = emulate(converted)
        if all(finite(outputs) for outputs in run_model(emulated, feeds)):
            return converted, kept
        if not kept and not all(finite(outputs) for outputs in run_model(model, feeds)):
            raise GraphError(
                "gives numbers that are not finite, in float32 already", subject=model.graph.name[:60],
                hint="the training has diverged",
            )  # fmt: skip
        more = _overflowing(emulated, half_values(converted), feeds) & {node.name for node in model.graph.node}
        if more <= set(kept):
            break
        kept = tuple(sorted({*kept, *more}))
    raise GraphError(
        f"overflows in {precision}, whichever layers stay float32",
        subject=model.graph.name[:60],
        got=", ".join(kept)[:80] or None,
        hint="take bfloat16, whose range is that of float32",
    )


def _overflowing(emulated: Model, values: Sequence[str], feeds: Sequence[Feeds]) -> frozenset[str]:
    infinite: set[str] = set()
    for feed in feeds:  # one at a time: every value of the network is held
        (outputs,) = run_model(ending_at(emulated, values), [feed])
        infinite.update(name for name, output in zip(values, outputs, strict=True) if not np.isfinite(output).all())
    return overflows(emulated, infinite)


def finite(outputs: Sequence[npt.NDArray[np.generic]]) -> bool:
    """Whether no number is NaN or infinite."""
    return all(bool(np.isfinite(output).all()) for output in outputs if output.dtype.kind == "f")
