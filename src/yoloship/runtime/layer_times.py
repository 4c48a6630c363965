"""How long each layer of an engine takes on this machine's GPU: `layer_times`."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from yoloship.engine.flavours import Flavour
    from yoloship.engine.inspect import LoadedLayer
    from yoloship.model import TensorSpec
    from yoloship.runtime.session import DeviceSession


@dataclass(frozen=True, slots=True)
class LayerTime:
    """The time of one layer.

    Attributes:
        name: As TensorRT names it, after fusion.
        ms: Median over the runs, in milliseconds.
        share: Its part of the sum over all layers, from 0 to 1.
        kind: Its type; empty if TensorRT does not tell.
        precision: Element type of its weights, or else of its first output; empty if TensorRT does not tell.
    """

    name: str
    ms: float
    share: float
    kind: str
    precision: str


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """The times of all layers of an engine.

    Attributes:
        layers: The slowest first.
        total_ms: Sum over the layers. A run without the profiler takes less, because layers then follow each other
            without a pause.
        runs: How many runs were measured.
        input_shapes: The shape of each input in these runs.
        device: The GPU's name.
    """

    layers: tuple[LayerTime, ...]
    total_ms: float
    runs: int
    input_shapes: Mapping[str, tuple[int, ...]]
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "device": self.device,
            "runs": self.runs,
            "total_ms": self.total_ms,
            "input_shapes": {name: list(shape) for name, shape in self.input_shapes.items()},
            "layers": [asdict(layer) for layer in self.layers],
        }


def layer_times(
    path: Path, layers: Sequence[LoadedLayer] = (), *, runs: int = 20, flavour: Flavour | None = None
) -> LayerTimes:
    """Run an engine on zeros with TensorRT's profiler, on the first GPU.

    Args:
        path: The engine. Dynamic inputs have the shape that their first profile is tuned for.
        layers: What the engine inspector says of the layers, for their types.
        runs: How many runs to measure, 1 or more.
        flavour: Which TensorRT; None takes the one that fits.

    Raises:
        CudaError: there is no GPU, its memory is full, or it failed.
        DependencyError: `cuda-bindings` or TensorRT is not installed.
        EngineError: it is not an engine, is damaged, or does not fit what is installed here.
        InputError: `runs` is below 1.
        SessionError: TensorRT failed, or reports nothing.
    """
    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.runtime.tensorrt import TensorRTSession

    if runs < 1:
        raise InputError("out of range", subject="runs", expected="1 or more", got=str(runs))
    with (
        Device.open() as device,
        Stream(device) as stream,
        TensorRTSession.open(path, device, flavour=flavour) as session,
    ):
        shapes = {spec.name: tuned_shape(spec, session) for spec in session.inputs}
        found = session.layer_runs(shapes, stream, runs)
        return summed(found, layers, shapes, device.name)


def tuned_shape(spec: TensorSpec, session: DeviceSession) -> tuple[int, ...]:
    """The shape of an input that the first profile is tuned for; of a static input, its only one."""
    for profile in session.profiles[:1]:
        for entry in profile:
            if entry.name == spec.name:
                return entry.optimum
    return tuple(extent for extent in spec.shape if isinstance(extent, int))


def summed(
    found: Sequence[Sequence[tuple[str, float]]],
    layers: Sequence[LoadedLayer],
    shapes: Mapping[str, tuple[int, ...]],
    device: str,
) -> LayerTimes:
    """The median time of each layer. What a run reports more than once under a name is added.

    Args:
        found: For each run: name and milliseconds of each layer.
        layers: What the engine inspector says of the layers.
        shapes: The shape of each input.
        device: The GPU's name.
    """
    by_name: dict[str, list[float]] = {}
    for number, run in enumerate(found):
        for name, ms in run:
            of_layer = by_name.setdefault(name, [0.0] * len(found))
            of_layer[number] += ms
    known = {layer.name: layer for layer in layers}
    medians = {name: statistics.median(values) for name, values in by_name.items()}
    total = sum(medians.values())
    rows = []
    for name, ms in sorted(medians.items(), key=lambda pair: -pair[1]):
        layer = known.get(name)
        precision = (layer.weights or layer.precision) if layer is not None else ""
        rows.append(
            LayerTime(name, ms, ms / total if total else 0.0, layer.kind if layer is not None else "", precision)
        )
    return LayerTimes(tuple(rows), total, len(found), dict(shapes), device)
