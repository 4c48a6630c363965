"""Describes an engine: from its files on any machine, and from TensorRT itself if the engine can be loaded."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.engine.file import EngineFile, read_engine
from yoloship.engine.fit import Installation, check_fit, find_installation
from yoloship.engine.flavours import Flavour, listening, open_flavour
from yoloship.engine.network import dtype_of
from yoloship.engine.objects import construct, describing, device_memory_bytes, extents_of, hint_for, reason_of
from yoloship.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from yoloship.model import Axis

MAX_LAYERS = 100_000


@dataclass(frozen=True, slots=True)
class LoadedTensor:
    """An input or output of a loaded engine.

    Attributes:
        name: Its name in the network.
        is_input: Whether it is an input.
        dtype: Element type.
        shape: -1 on dynamic axes.
        profiles: For an input, by profile: smallest, tuned and largest shape.
    """

    name: str
    is_input: bool
    dtype: str
    shape: tuple[int, ...]
    profiles: tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class LoadedLayer:
    """A layer after TensorRT has fused and chosen.

    Attributes:
        name: As TensorRT names it.
        kind: Its type; empty if TensorRT does not tell.
        precision: Element type of its first output, as TensorRT writes it; empty if it does not tell.
        weights: Element type of its weights, as TensorRT writes it; empty if it has none or does not tell.
    """

    name: str
    kind: str
    precision: str
    weights: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The description of a loaded engine.

    Attributes:
        tensors: Inputs and outputs.
        layers: Layers in TensorRT's order.
        device_memory_bytes: Device memory that an execution context needs; None if this TensorRT does not say it.
    """

    tensors: tuple[LoadedTensor, ...]
    layers: tuple[LoadedLayer, ...]
    device_memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """Everything that can be found out about an engine on this machine.

    Attributes:
        file: The file, read and checked.
        loaded: TensorRT's description; None if the engine cannot be loaded.
        not_loaded: Why it cannot be loaded; None if it was.
    """

    file: EngineFile
    loaded: Loaded | None
    not_loaded: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        record, info = self.file.record, self.file.info
        return {
            "kind": "engine",
            "file": str(self.file.path),
            "plan_bytes": len(self.file.plan),
            "header": asdict(self.file.header),
            "json_prefix": self.file.has_prefix,
            "sidecar": record.to_dict() if record else None,
            "model": json.loads(info.to_json()) if info else None,
            "loaded": asdict(self.loaded) if self.loaded else None,
            "not_loaded": self.not_loaded,
        }

    @property
    def tensor_lines(self) -> tuple[tuple[str, str], ...]:
        """("input" or "output", description), from TensorRT if it was asked, else from the sidecar."""
        if self.loaded is not None:
            return tuple(
                ("input" if entry.is_input else "output", f"{entry.name} {entry.dtype}{_shape(entry.shape)}")
                for entry in self.loaded.tensors
            )
        record = self.file.record
        if record is None:
            return ()
        return (*(("input", str(spec)) for spec in record.inputs), *(("output", str(spec)) for spec in record.outputs))


def inspect_engine(path: Path, *, installation: Installation | None = None) -> EngineFacts:
    """Describe an engine.

    Args:
        path: The engine. Its sidecar is looked for beside it.
        installation: The flavours and the GPU of this machine; None finds them.

    Raises:
        EngineError: it is not an engine, damaged, or its sidecar belongs to another plan.
    """
    file = read_engine(path)
    try:
        name = check_fit(
            file.record, file.header, installation or find_installation(), subject=path.name, engine_name=path.name
        )
        return EngineFacts(file, load_facts(open_flavour(name, to_build=False), file.plan, subject=str(path)), None)
    except EngineError as error:
        return EngineFacts(file, None, str(error))


def load_facts(flavour: Flavour, plan: memoryview, *, subject: str) -> Loaded:
    """Load a plan and describe it. This needs a GPU, so call `check_fit` first.

    Args:
        flavour: The TensorRT that built it.
        plan: The whole plan; read only.
        subject: The file, for messages.

    Raises:
        EngineError: TensorRT does not load it.
    """
    module = flavour.module
    with listening(flavour) as (logger, messages):
        runtime = construct(flavour, "Runtime", messages, logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            reason = reason_of(messages)
            raise EngineError(f"TensorRT does not load it: {reason}", subject=subject, hint=hint_for(reason))
        with describing(subject, messages):
            tensors = tuple(_tensor(module, engine, index, subject) for index in range(engine.num_io_tensors))
        inspector = engine.create_engine_inspector()
        text = "" if inspector is None else inspector.get_engine_information(module.LayerInformationFormat.JSON)
        return Loaded(tensors, read_layers(text), device_memory_bytes(engine))


def read_layers(text: str) -> tuple[LoadedLayer, ...]:
    """Layers out of an engine inspector's JSON; those of a plan without details are names alone."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    entries = data.get("Layers", []) if isinstance(data, dict) else []
    return tuple(_layer(entry) for entry in entries[:MAX_LAYERS]) if isinstance(entries, list) else ()


def _layer(entry: object) -> LoadedLayer:
    if not isinstance(entry, dict):
        return LoadedLayer(str(entry), "", "")
    outputs = entry.get("Outputs")
    first = outputs[0] if isinstance(outputs, list) and outputs else {}
    precision = first.get("Datatype", first.get("Format/Datatype", "")) if isinstance(first, dict) else ""
    stored = entry.get("Weights")
    weights = str(stored.get("Type", "")) if isinstance(stored, dict) else ""
    return LoadedLayer(str(entry.get("Name", "")), str(entry.get("LayerType", "")), str(precision), weights)


_WRITTEN: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        "float16": re.compile(r"\b(FP16|Half|Float16)\b", re.IGNORECASE),
        "bfloat16": re.compile(r"\b(BF16|BFloat16)\b", re.IGNORECASE),
        "int8": re.compile(r"\bInt8\b", re.IGNORECASE),
        "float8": re.compile(r"\b(FP8|Float8|FP8E4M3)\b", re.IGNORECASE),
    }
)
"""How TensorRT writes an element type, alone or in a format such as ``Row major linear FP16 format``."""


def other_precision(layers: Sequence[LoadedLayer], precision: str) -> tuple[tuple[LoadedLayer, ...], int]:
    """Layers with weights that do not compute in the precision that was asked for.

    Args:
        layers: From `read_layers`, of a plan with details.
        precision: What was asked for: ``float16``, ``bfloat16``, ``int8`` or ``float8``.

    Returns:
        Those layers, and how many layers say the type of their weights; 0 if this plan tells no details.
    """
    written = _WRITTEN.get(precision)
    told = [entry for entry in layers if entry.weights]
    if written is None:
        return (), len(told)
    return tuple(entry for entry in told if not written.search(entry.weights)), len(told)


def _tensor(module: Any, engine: Any, index: int, subject: str) -> LoadedTensor:
    name = engine.get_tensor_name(index)
    is_input = engine.get_tensor_mode(name) == module.TensorIOMode.INPUT
    shape = extents_of(engine.get_tensor_shape(name))
    if shape is None:
        raise EngineError(f"TensorRT does not report the shape of its tensor {name!r}", subject=subject)
    profiles: tuple[tuple[tuple[int, ...], ...], ...] = ()
    if is_input and -1 in shape:
        profiles = tuple(
            tuple(extents_of(dims) or () for dims in engine.get_tensor_profile_shape(name, number))
            for number in range(engine.num_optimization_profiles)
        )
    return LoadedTensor(name, is_input, dtype_of(engine.get_tensor_dtype(name)), shape, profiles)


def _shape(shape: tuple[Axis, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
