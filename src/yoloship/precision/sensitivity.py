"""Runs converted graphs, to find the layers that overflow and the modules that lose most when they are quantized.

`convert_and_try` runs a half precision graph as it would compute, and keeps in float32 the layers that overflow.

`search` finds how many modules must stay unquantized, with two measures. The cheap one ranks the modules: each is
quantized alone, and the error at the network's last convolutions is compared with the signal. The expensive one
decides: it is the caller's own figure (agreement of detections, or mAP) for a graph whose worst modules stay float32.
Bisection finds their number, so a network of thirty modules takes five or six of these evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from yoloship._util.text import silent
from yoloship.errors import GraphError
from yoloship.graph import graph_bytes
from yoloship.graph.body import element_types, inputs_of, last_heavy
from yoloship.graph.passes.half import convert_precision, emulate, half_values, overflows
from yoloship.graph.passes.quantize import layers, quantize
from yoloship.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    import onnx

    from yoloship._util.text import OnProgress
    from yoloship.graph.passes.half import HalfPrecision
    from yoloship.graph.passes.quantize import Layer, QuantizedPrecision
    from yoloship.model import Placement

    Model: TypeAlias = onnx.ModelProto
    Feeds: TypeAlias = Mapping[str, npt.NDArray[np.generic]]
    Run: TypeAlias = Callable[[onnx.ModelProto, Sequence[Feeds]], list[tuple[npt.NDArray[np.generic], ...]]]
    """Runs a model over feeds, and gives the outputs of each feed, in order."""
    Measure: TypeAlias = Callable[[onnx.ModelProto], float]
    """Says how much worse a model is than in float32; 0 if it is as good."""


_MAX_ROUNDS: Final = 16
"""Each round keeps the first layers that overflow. Layers after them may overflow in the next round."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The error from quantizing one module alone.

    Attributes:
        module: The name of the module.
        layers: Names of its convolutions.
        error: Energy of the error at the last convolutions, divided by the energy of the signal.
    """

    module: str
    layers: tuple[str, ...]
    error: float


@dataclass(frozen=True, slots=True)
class Search:
    """The result of a search.

    Attributes:
        model: The quantized graph.
        kept: Modules that stay float32, the most sensitive first.
        drop: How much worse the graph is, by the caller's measure.
        full_drop: How much worse it is with everything quantized.
        evaluations: How often the caller's measure was used.
        ranking: All modules, the most sensitive first; empty if no module had to stay float32.
        is_measured: Whether the drop could be measured.
    """

    model: onnx.ModelProto
    kept: tuple[str, ...]
    drop: float
    full_drop: float
    evaluations: int
    ranking: tuple[Sensitivity, ...]
    is_measured: bool = True


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Quantizes a graph except for some layers.

    Attributes:
        model: The float32 graph.
        ranges: The magnitude that each quantized value reaches, by name.
        precision: Type of the codes.
        placement: Where the pairs go.
        means: The mean of each channel, for the inputs of convolutions, by name.
    """

    model: onnx.ModelProto
    ranges: Mapping[str, float]
    precision: QuantizedPrecision
    placement: Placement
    means: Mapping[str, npt.NDArray[np.float64]]

    def keeping(self, kept: Sequence[str]) -> onnx.ModelProto:
        """The quantized graph, with these layers in float32."""
        return quantize(self.model, self.ranges, self.precision, placement=self.placement, means=self.means, keep=kept)


def search(
    quantizer: Quantizer,
    feeds: Sequence[Feeds],
    run: Run,
    measure: Measure,
    max_drop: float,
    on_progress: OnProgress | None = None,
) -> Search:
    """Quantize as many modules as a budget allows.

    Args:
        quantizer: Quantizes the graph.
        feeds: A few feeds, for the ranking.
        run: Runs a model.
        measure: Says how much worse a model is.
        max_drop: The budget, in the unit of the measure.
        on_progress: Called before each step.

    Raises:
        GraphError: not even a single module can be quantized within the budget.
    """
    on_progress = on_progress or silent
    full = quantizer.keeping(())
    on_progress("measuring", 0, 1)
    full_drop = measure(full)
    if full_drop <= max_drop:
        return Search(full, (), full_drop, full_drop, 1, ())
    ranking = rank(quantizer, feeds, run, on_progress)
    most = len(ranking).bit_length() + 1
    best: tuple[int, onnx.ModelProto, float] | None = None
    low, high, evaluations = 1, len(ranking) - 1, 1
    while low <= high:
        count = (low + high) // 2
        on_progress("measuring", evaluations, most)
        model = quantizer.keeping([name for one in ranking[:count] for name in one.layers])
        drop = measure(model)
        evaluations += 1
        if drop <= max_drop:
            best, high = (count, model, drop), count - 1
        else:
            low = count + 1
    if best is None:
        raise GraphError(
            f"cannot be {quantizer.precision} within the budget: one module alone loses more",
            subject=quantizer.model.graph.name[:60],
            expected=f"a drop of at most {max_drop:g}",
            got=f"{full_drop:.4f} with all of it quantized",
            hint="allow a larger drop, calibrate with more images like those in production, or take float16",
        )
    count, model, drop = best
    return Search(model, tuple(one.module for one in ranking[:count]), drop, full_drop, evaluations, ranking)


def rank(
    quantizer: Quantizer, feeds: Sequence[Feeds], run: Run, on_progress: OnProgress | None = None
) -> tuple[Sensitivity, ...]:
    """Quantize each module alone, and compare the outputs of the network's last convolutions.

    Returns:
        The modules, the most sensitive first.

    Raises:
        GraphError: nothing can be quantized.
    """
    on_progress = on_progress or silent
    all_layers = layers(quantizer.model)
    modules: dict[str, list[Layer]] = {}
    for layer in all_layers:
        modules.setdefault(layer.module, []).append(layer)
    ends = _last_values(quantizer.model)
    want = run(ending_at(quantizer.model, ends), feeds)
    found = []
    for step, (module, members) in enumerate(modules.items()):
        on_progress("ranking modules", step, len(modules))
        alone = {layer.name for layer in members}
        model = quantizer.keeping([layer.name for layer in all_layers if layer.name not in alone])
        error = _relative_error(run(ending_at(model, ends), feeds), want)
        found.append(Sensitivity(module, tuple(sorted(alone)), error))
    return tuple(sorted(found, key=lambda sensitivity: -sensitivity.error))


def _last_values(model: onnx.ModelProto) -> tuple[str, ...]:
    return tuple(model.graph.node[place].output[0] for place in sorted(last_heavy(model, element_types(model))))


def ending_at(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of a graph whose only outputs are these float32 values."""
    from onnx import ModelProto, helper

    cut = ModelProto()
    cut.CopyFrom(model)
    wanted, nodes = set(names), []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(inputs_of(node))
    del cut.graph.node[:], cut.graph.output[:], cut.graph.value_info[:]
    cut.graph.node.extend(reversed(nodes))
    cut.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names)
    stored = [tensor for tensor in cut.graph.initializer if tensor.name in wanted]
    del cut.graph.initializer[:]
    cut.graph.initializer.extend(stored)
    return cut


def _relative_error(
    have: Sequence[tuple[npt.NDArray[np.generic], ...]], want: Sequence[tuple[npt.NDArray[np.generic], ...]]
) -> float:
    """The energy of the error divided by that of the signal, as a mean over the outputs, which differ in size."""
    errors = []
    for place in range(len(want[0])):
        pairs = [(_wide(a[place]), _wide(b[place])) for a, b in zip(have, want, strict=True)]
        noise = sum(float(np.square(a - b).sum()) for a, b in pairs)
        signal = sum(float(np.square(b).sum()) for _, b in pairs)
        errors.append(noise / signal if signal else float(noise > 0))
    return float(np.mean(errors))


def _wide(array: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    return array.astype(np.float64)


def run_model(model: Model, feeds: Sequence[Feeds]) -> list[tuple[npt.NDArray[np.generic], ...]]:
    """Run a graph over feeds on the CPU."""
    with open_session(graph_bytes(model)) as session:
        return [session.run(feed) for feed in feeds]


def channel_means(model: Model, names: Sequence[str], feeds: Sequence[Feeds]) -> dict[str, npt.NDArray[np.float64]]:
    """The mean of each channel, (channels,), of these (B, C, H, W) float32 values over some runs."""
    sums = {name: np.zeros(()) for name in names}
    with open_session(graph_bytes(ending_at(model, names))) as session:
        for feed in feeds:  # one at a time, because all these values are in memory
            for name, value in zip(names, session.run(feed), strict=True):
                sums[name] = sums[name] + value.mean(axis=(0, 2, 3), dtype=np.float64)
    return {name: total / len(feeds) for name, total in sums.items()}


def convert_and_try(model: Model, precision: HalfPrecision, feeds: Sequence[Feeds]) -> tuple[Model, tuple[str, ...]]:
    """Convert a graph, run it as half precision would compute, and keep in float32 the layers that overflow.

    Args:
        model: A float32 graph. It is not changed.
        precision: Element type in which its body should compute.
        feeds: The feeds to try it on.

    Returns:
        The graph, and the names of the layers that had to stay float32 because of their activations.

    Raises:
        GraphError: the graph cannot be converted, is not finite in float32 already, or overflows in any case.
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
                "gives numbers that are not finite, even in float32", subject=model.graph.name[:60],
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
        hint="use bfloat16, which has the range of float32",
    )


def _overflowing(emulated: Model, values: Sequence[str], feeds: Sequence[Feeds]) -> frozenset[str]:
    infinite: set[str] = set()
    for feed in feeds:  # one at a time, because every value of the network is in memory
        (outputs,) = run_model(ending_at(emulated, values), [feed])
        infinite.update(name for name, output in zip(values, outputs, strict=True) if not np.isfinite(output).all())
    return overflows(emulated, infinite)


def finite(outputs: Sequence[npt.NDArray[np.generic]]) -> bool:
    """Whether no number is NaN or infinite."""
    return all(bool(np.isfinite(output).all()) for output in outputs if output.dtype.kind == "f")
