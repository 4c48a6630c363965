"""The times of an engine's layers as rows of a table and as a chart, for ``yoloship inspect --times``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from yoloship._util.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.runtime.layer_times import LayerTimes

MAX_ROWS: Final = 400
MAX_BARS: Final = 30
_MAX_LABEL_CHARS: Final = 34


def time_rows(times: LayerTimes) -> Iterator[tuple[str, str]]:
    """The rows of the table, the slowest layer first.

    Args:
        times: What was measured.
    """
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in times.input_shapes.items())
    yield (
        "times",
        f"{times.total_ms:.3f} ms in {len(times.layers)} layers, median of {times.runs} runs on {times.device}",
    )
    yield "inputs", f"{shapes}, zeros"
    for layer in times.layers[:MAX_ROWS]:
        words = " ".join(filter(None, (layer.precision, layer.kind, layer.name)))
        yield "", f"{layer.ms:9.4f} ms {layer.share:6.1%}  {words}"
    if len(times.layers) > MAX_ROWS:
        rest = times.layers[MAX_ROWS:]
        yield "", f"{sum(layer.ms for layer in rest):9.4f} ms in {len(rest)} more layers"


def times_svg(times: LayerTimes, engine_name: str) -> str:
    """A chart of the slowest layers as an SVG document; a colour is a precision.

    Args:
        times: What was measured.
        engine_name: For the title.
    """
    from yoloship.evaluate.reports import Bar, chart_svg

    bars = [
        Bar(
            shortened(layer.name, _MAX_LABEL_CHARS), shortened(layer.kind, _MAX_LABEL_CHARS),
            ((layer.precision or "precision not told", layer.ms),), None, f"{layer.ms:.3f} ms, {layer.share:.1%}",
        )
        for layer in times.layers[:MAX_BARS]
    ]  # fmt: skip
    shown = sum(layer.share for layer in times.layers[:MAX_BARS])
    runs = f"median of {times.runs} runs on {times.device}"
    subtitle = f"{len(bars)} of {len(times.layers)} layers, {shown:.0%} of {times.total_ms:.3f} ms; {runs}"
    return chart_svg(f"Layers of {engine_name}", subtitle, "ms", bars)
