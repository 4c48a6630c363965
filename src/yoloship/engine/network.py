"""The network as TensorRT parsed it, and the build options. Each option is set and checked, or refused.

An option counts as set if the flavour has the feature, its setter neither warned nor raised, and the value reads back.
If the installed TensorRT ignores an option, this is an error, because the engine would differ from the request.
"""

from __future__ import annotations

from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.reading import read_if_there
from yoloship._util.writing import write_bytes
from yoloship.engine.flavours import Messages, deprecations_as_errors, tidy
from yoloship.engine.objects import construct, extents_of, made, reason_of
from yoloship.engine.rtx_precisions import check_precision_version
from yoloship.errors import EngineError
from yoloship.kinds import damaged_onnx
from yoloship.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from yoloship.cuda.device import GpuInfo
    from yoloship.engine.config import BuildConfig, Target
    from yoloship.engine.flavours import Feature, Flavour
    from yoloship.model import Axis, DType, Precision


_DTYPES: Mapping[str, DType] = MappingProxyType(
    {
        "FLOAT": "float32",
        "HALF": "float16",
        "BF16": "bfloat16",
        "INT8": "int8",
        "UINT8": "uint8",
        "INT32": "int32",
        "INT64": "int64",
        "BOOL": "bool",
        "FP8": "float8_e4m3fn",
    }
)
"""TensorRT's element types by their usual names."""

_MARKS: Mapping[Precision, str] = MappingProxyType(
    {"float16": "float16", "bfloat16": "bfloat16", "int8": "int8", "float8": "float8_e4m3fn"}
)
"""The element type that a network of that precision must contain."""

_LACKING: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "float8_e4m3fn": frozenset({"sm75", "sm80", "sm86"}),
        "bfloat16": frozenset({"sm75"}),
    }
)
"""Targets that lack the arithmetic of a type: TensorRT-RTX 1.7.1.116 fails to compile for them (measured)."""

_LEAST: Mapping[Precision, str] = MappingProxyType({"float8": "sm89", "bfloat16": "sm80"})
"""The first compute capability that has the arithmetic."""

_NO_MODEL_HINT = "give a file that 'yoloship export' or another exporter wrote"
MAX_TIMING_CACHE_BYTES: Final = 1 << 30
_NO_DEVICE_HINT = "build on the machine that has the GPU, or with the flavour rtx (--flavour), which builds without one"


def parse_network(flavour: Flavour, builder: Any, logger: Any, onnx: Path, messages: Messages) -> Any:
    """Parse an ONNX file into a strongly typed network.

    The parser has no reference to its network. The caller must keep the network alive, or the process crashes.

    Raises:
        EngineError: it is not an ONNX model, or has a node that TensorRT cannot take; the node is named.
    """
    module = flavour.module
    flags = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = made(builder.create_network(flags), "network", flavour, messages)
    parser = construct(flavour, "OnnxParser", messages, network, logger)
    try:
        parsed = parser.parse_from_file(str(onnx))
    except TypeError as error:  # its bindings take text that is valid Unicode
        raise EngineError(
            "has a name that is not valid UTF-8, which TensorRT cannot open", subject=str(onnx), hint="rename it"
        ) from error
    if not parsed:
        raise _parser_error(parser, messages, subject=str(onnx))
    if network.num_layers == 0 or network.num_inputs == 0 or network.num_outputs == 0:
        raise EngineError(
            "is not an ONNX model",
            subject=str(onnx),
            expected="a graph with inputs, layers and outputs",
            got=f"{network.num_inputs} inputs, {network.num_layers} layers, {network.num_outputs} outputs",
            hint=_NO_MODEL_HINT,
        )
    for text in messages.warnings:
        if "Defaulting to INT8" in text:
            raise EngineError(
                "quantizes to UINT8, which TensorRT reads as INT8: half of the range would be lost",
                subject=str(onnx),
                hint="quantize activations and weights to signed INT8, symmetric",
            )
    _refuse_lost_layers(flavour, network, subject=str(onnx))
    return network


def _refuse_lost_layers(flavour: Flavour, network: Any, *, subject: str) -> None:
    """NonMaxSuppression parses on TensorRT-RTX, and no target has an implementation (measured with 1.7.1.116)."""
    if flavour.name != "rtx":
        return
    kind = getattr(flavour.module.LayerType, "NMS", None)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if kind is not None and layer.type == kind:
            raise EngineError(
                f"TensorRT-RTX cannot take operator NonMaxSuppression (layer {layer.name})",
                subject=subject,
                hint="export it in the output form raw, heads or nms (--output), which need no such operator",
            )


def tensor_specs(network: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a network, in its order."""
    inputs = tuple(_spec(network.get_input(index)) for index in range(network.num_inputs))
    outputs = tuple(_spec(network.get_output(index)) for index in range(network.num_outputs))
    return inputs, outputs


def network_dtypes(network: Any) -> frozenset[str]:
    """Element types of all tensors that layers give out, by their usual names."""
    found = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for output in range(layer.num_outputs):
            found.add(dtype_of(layer.get_output(output).dtype))
    return frozenset(found)


def dtype_of(data_type: Any) -> str:
    """A TensorRT DataType by its usual name; TensorRT's own, in small letters, if it has none."""
    name: str = data_type.name
    return _DTYPES.get(name, name.lower())


def check_precision(claimed: Precision, dtypes: frozenset[str], *, subject: str) -> None:
    """Refuse a network that does not contain the precision that it claims.

    Raises:
        EngineError: it has no tensor of that type, so an FP32 engine would be called FP16.
    """
    mark = _MARKS.get(claimed)
    if mark is not None and mark not in dtypes:
        raise EngineError(
            f"claims {claimed}, but its graph has no tensor of that type",
            subject=subject,
            expected=mark,
            got=", ".join(sorted(dtypes)),
            hint="export it again with the precision that you want",
        )


def check_targets(targets: tuple[Target, ...], dtypes: frozenset[str], *, subject: str) -> None:
    """Refuse targets that cannot compute an element type of the graph.

    Raises:
        EngineError: a target cannot compute it; the targets that can are named.
    """
    for dtype, lacking in _LACKING.items():
        if dtype in dtypes and (bad := [target for target in targets if target in lacking]):
            least = next(least for precision, least in _LEAST.items() if _MARKS[precision] == dtype)
            raise EngineError(
                f"holds {dtype}, which {', '.join(bad)} cannot compute",
                subject=subject,
                expected=f"targets from {least} on",
                got=", ".join(targets),
                hint="drop that target, or export another precision",
            )


def check_precision_targets(precision: Precision, targets: Sequence[str]) -> None:
    """Refuse GPUs that lack the arithmetic of a precision, before there is a graph.

    Args:
        precision: Element type in which the network's body should compute.
        targets: Compute capabilities such as ``sm86``. Other words are ignored.

    Raises:
        EngineError: a target cannot compute it.
    """
    lacking = _LACKING.get(_MARKS.get(precision, ""), frozenset())
    if bad := [target for target in targets if target in lacking]:
        raise EngineError(
            f"cannot compute {precision}",
            subject=f"target {', '.join(bad)}",
            expected=f"{_LEAST[precision]} or newer",
            hint="leave that target out, or choose another precision",
        )


def _spec(tensor: Any) -> TensorSpec:
    axes: list[Axis] = []
    extents = extents_of(tensor.shape)
    if extents is None:
        raise EngineError("TensorRT does not say its shape", subject=tensor.name)
    for index, extent in enumerate(extents):
        axes.append(extent if extent >= 0 else tensor.get_dimension_name(index) or f"{tensor.name}_axis{index}")
    name = tensor.dtype.name
    dtype = _DTYPES.get(name)
    if dtype is None:
        raise EngineError("has an unknown element type", subject=tensor.name, got=name)
    return TensorSpec(tensor.name, dtype, tuple(axes))


def _parser_error(parser: Any, messages: Messages, *, subject: str) -> EngineError:
    """The parser's first complaint, with the node's own name: its description may be no more than "false"."""
    for _, text in messages.heard:
        if "Failed to open file: " in text:
            path = text.rpartition("Failed to open file: ")[2].strip()
            return EngineError(
                "keeps its weights in another file, which is missing",
                subject=subject,
                expected=path,
                hint="put that file beside it",
            )
    if parser.num_errors == 0:
        return EngineError(f"TensorRT cannot read it: {reason_of(messages)}", subject=subject)
    error = parser.get_error(0)
    code, described = _name_of(error.code()), tidy(error.desc())
    if code == "MODEL_DESERIALIZE_FAILED":
        return damaged_onnx(subject, error=EngineError, got=described)
    operator, node_name = error.node_operator(), error.node_name()
    if not operator:
        return EngineError(f"TensorRT cannot read it: {described}", subject=subject)
    return EngineError(
        f"TensorRT cannot take operator {operator} (node {error.node()}, {node_name or 'without a name'}): "
        f"{code}, {described}",
        subject=subject,
    )


def _name_of(code: Any) -> str:
    """The name of an error code. Up to 10.13, `ErrorCode.name` is a method without meaning (seen with the bindings)."""
    names = (name for name, member in getattr(type(code), "__members__", {}).items() if member == code)
    return next(names, str(code))


def check_build(flavour: Flavour, config: BuildConfig, precision: Precision, gpu: GpuInfo | None) -> None:
    """Refuse a build that is known to fail, before there is a graph.

    Args:
        flavour: The flavour that would build.
        config: The configuration of the build.
        precision: Element type in which the network's body should compute; float32 if it is not known yet.
        gpu: The GPU of this machine.

    Raises:
        EngineError: an option does not work (see `check_features`), or a target GPU cannot compute the precision.
    """
    check_features(flavour, config, has_device=gpu is not None)
    check_precision_version(flavour, precision, has_device=gpu is not None)
    here = gpu is not None and (config.targets == ("current",) or flavour.name == "tensorrt")
    check_precision_targets(precision, (*config.targets, *((gpu.sm,) if here and gpu is not None else ())))


def check_features(flavour: Flavour, config: BuildConfig, *, has_device: bool) -> None:
    """Refuse options that this flavour or this machine does not support.

    Args:
        flavour: The flavour that would build.
        config: The configuration of the build.
        has_device: Whether there is an NVIDIA GPU.

    Raises:
        EngineError: an option is missing or without effect, or a GPU is needed and there is none.
    """
    wanted: dict[Feature, object] = {
        "workspace": config.workspace_bytes,
        "targets": config.targets if config.targets != ("current",) or flavour.name == "rtx" else None,
        "hardware_compatibility": config.hardware_compatibility if config.hardware_compatibility != "none" else None,
        "version_compatible": config.version_compatible,
        "optimization_level": config.optimization_level,
        "timing_cache": config.timing_cache,
    }
    for feature, value in wanted.items():
        if value is not None and value is not False and value != () and (reason := flavour.lacks(feature)):
            raise EngineError(
                f"option {feature} has no effect here: {reason}",
                subject=flavour.title,
                hint="leave it out, or choose another flavour (--flavour)",
            )
    if config.hardware_compatibility != "none":
        _member(flavour.module.HardwareCompatibilityLevel, config.hardware_compatibility.upper(), flavour)
    if flavour.name == "rtx" and config.targets not in {(), ("portable",)}:
        _members(flavour, config.targets)
    if not has_device and flavour.name == "tensorrt":
        raise EngineError("needs an NVIDIA GPU to build", subject=flavour.title, got="none", hint=_NO_DEVICE_HINT)
    if not has_device and config.targets == ("current",):
        raise EngineError(
            "target current needs an NVIDIA GPU",
            subject=flavour.title,
            got="none",
            hint="name the targets, such as sm89 (--target), or leave them out",
        )


def apply_options(flavour: Flavour, settings: Any, config: BuildConfig, messages: Messages) -> None:
    """Set every option on TensorRT's own configuration object.

    Args:
        flavour: The flavour that builds.
        settings: Its IBuilderConfig.
        config: The configuration of the build, accepted by `check_features`.
        messages: TensorRT's messages during the build.

    Raises:
        EngineError: TensorRT warned about an option, refused it, or reads back another value.
    """
    module = flavour.module
    settings.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # else `inspect` sees names and no precision
    if config.workspace_bytes is not None:
        with _effective("workspace_bytes", messages):
            pool = module.MemoryPoolType.WORKSPACE
            settings.set_memory_pool_limit(pool, config.workspace_bytes)
            _same("workspace_bytes", config.workspace_bytes, settings.get_memory_pool_limit(pool))
    if config.optimization_level is not None:
        with _effective("optimization_level", messages):
            settings.builder_optimization_level = config.optimization_level
            _same("optimization_level", config.optimization_level, settings.builder_optimization_level)
    if config.hardware_compatibility != "none":
        with _effective("hardware_compatibility", messages):
            level = _member(module.HardwareCompatibilityLevel, config.hardware_compatibility.upper(), flavour)
            settings.hardware_compatibility_level = level
            _same("hardware_compatibility", level, settings.hardware_compatibility_level)
    if config.version_compatible:
        with _effective("version_compatible", messages):
            settings.set_flag(module.BuilderFlag.VERSION_COMPATIBLE)
            _same("version_compatible", True, settings.get_flag(module.BuilderFlag.VERSION_COMPATIBLE))
    if config.timing_cache is not None:
        with _effective("timing_cache", messages):
            cache = settings.create_timing_cache(_timings(config.timing_cache))
            cache = made(cache, "timing cache", flavour, messages)
            _same("timing_cache", True, settings.set_timing_cache(cache, False))
    if flavour.name == "rtx" and config.targets not in {(), ("portable",)}:
        with _effective("targets", messages):
            _set_targets(flavour, settings, config.targets)


def save_timing_cache(settings: Any, config: BuildConfig) -> None:
    """Write the timings that this build measured, if the configuration names a file for them."""
    if config.timing_cache is not None:
        write_bytes(config.timing_cache, bytes(settings.get_timing_cache().serialize()))


def _set_targets(flavour: Flavour, settings: Any, targets: tuple[Target, ...]) -> None:
    members = _members(flavour, targets)
    settings.num_compute_capabilities = len(members)
    for index, member in enumerate(members):
        if not settings.set_compute_capability(member, index):
            raise EngineError("refuses a target", subject=flavour.title, got=targets[index])


def _members(flavour: Flavour, targets: tuple[Target, ...]) -> list[Any]:
    """TensorRT-RTX's own names for targets; SM121 is not in 1.4."""
    return [_member(flavour.module.ComputeCapability, target.upper(), flavour) for target in targets]


def _member(enumeration: Any, name: str, flavour: Flavour) -> Any:
    if not hasattr(enumeration, name):
        known = [member for member in dir(enumeration) if member.isupper()]
        raise EngineError("does not know it", subject=flavour.title, expected=", ".join(known), got=name)
    return getattr(enumeration, name)


@contextmanager
def _effective(option: str, messages: Messages) -> Iterator[None]:
    """Raise an error if TensorRT warns while an option is set, because the option then does not work."""
    before = len(messages.heard)
    try:
        with deprecations_as_errors():
            yield
    except (DeprecationWarning, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise _refused(option, tidy(str(error))) from error
    if len(messages.heard) > before:
        raise _refused(option, tidy(messages.heard[before][1]))


def _same(option: str, ordered: object, found: object) -> None:
    if ordered != found:
        raise EngineError(
            "the installed TensorRT ignores this option",
            subject=option,
            expected=str(ordered),
            got=str(found),
            hint="leave it out",
        )


def _refused(option: str, said: str) -> EngineError:
    return EngineError(
        "the installed TensorRT does not accept this option", subject=option, got=said, hint="leave it out"
    )


def _timings(path: Path) -> bytes:
    return read_if_there(path, MAX_TIMING_CACHE_BYTES, error=EngineError, wanted="a timing cache") or b""
