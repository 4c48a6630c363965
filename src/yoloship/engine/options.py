"""Build options: each is set and seen to be set, or refused by name.

"Seen" means: the flavour has the feature, its setter neither warned nor raised, and the value reads back. An option
that the installed TensorRT ignores is an error that says so, never an engine that differs from what was ordered.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.reading import read_if_there
from yoloship._util.writing import write_bytes
from yoloship.engine.log import Messages, deprecations_as_errors, tidy
from yoloship.engine.network import check_precision_targets
from yoloship.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from yoloship.engine.config import BuildConfig, Target
    from yoloship.engine.device import Device
    from yoloship.engine.flavours import Feature, Flavour
    from yoloship.model import Precision

MAX_TIMING_CACHE_BYTES: Final = 1 << 30
_NO_DEVICE_HINT = "build on the machine that has the GPU, or with --flavour rtx, which builds without one"


def check_build(flavour: Flavour, config: BuildConfig, precision: Precision, device: Device | None) -> None:
    """Refuse what can be known to fail before there is a graph.

    Args:
        flavour: What would build.
        config: What was ordered.
        precision: What the network's body is to compute in; float32 if that is not known yet.
        device: The GPU of this machine.

    Raises:
        EngineError: see `check_features`; or a GPU that is built for lacks the precision's arithmetic.
    """
    check_features(flavour, config, has_device=device is not None)
    here = device is not None and (config.targets == ("current",) or flavour.name == "tensorrt")
    check_precision_targets(precision, (*config.targets, *((device.sm,) if here and device is not None else ())))


def check_features(flavour: Flavour, config: BuildConfig, *, has_device: bool) -> None:
    """Refuse what this flavour, or this machine, cannot do.

    Args:
        flavour: What would build.
        config: What was ordered.
        has_device: Whether an NVIDIA GPU is there.

    Raises:
        EngineError: an option is lacking or without effect, or a GPU is needed and there is none.
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
                hint="leave it out, or choose another --flavour",
            )
    if not has_device and flavour.name == "tensorrt":
        raise EngineError("needs an NVIDIA GPU to build", subject=flavour.title, got="none", hint=_NO_DEVICE_HINT)
    if not has_device and config.targets == ("current",):
        raise EngineError(
            "target current needs an NVIDIA GPU",
            subject=flavour.title,
            got="none",
            hint="name the targets (--target sm89), or leave them out",
        )


def apply_options(flavour: Flavour, settings: Any, config: BuildConfig, messages: Messages) -> None:
    """Set every option on TensorRT's own configuration object.

    Args:
        flavour: What builds.
        settings: Its IBuilderConfig.
        config: What was ordered; `check_features` has passed.
        messages: What TensorRT says meanwhile.

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
            _same("timing_cache", True, cache is not None and settings.set_timing_cache(cache, False))
    if flavour.name == "rtx" and config.targets not in {(), ("portable",)}:
        with _effective("targets", messages):
            _set_targets(flavour, settings, config.targets)


def save_timing_cache(settings: Any, config: BuildConfig) -> None:
    """Write the timings that this build measured, where a file for them was named."""
    if config.timing_cache is not None:
        write_bytes(config.timing_cache, bytes(settings.get_timing_cache().serialize()))


def _set_targets(flavour: Flavour, settings: Any, targets: tuple[Target, ...]) -> None:
    members = [_member(flavour.module.ComputeCapability, target.upper(), flavour) for target in targets]
    settings.num_compute_capabilities = len(members)
    for index, member in enumerate(members):
        if not settings.set_compute_capability(member, index):
            raise EngineError("refuses a target", subject=flavour.title, got=targets[index])


def _member(enumeration: Any, name: str, flavour: Flavour) -> Any:
    if not hasattr(enumeration, name):
        known = [member for member in dir(enumeration) if member.isupper()]
        raise EngineError("does not know it", subject=flavour.title, expected=", ".join(known), got=name)
    return getattr(enumeration, name)


@contextmanager
def _effective(option: str, messages: Messages) -> Iterator[None]:
    """Whatever TensorRT warns about while an option is set means that the option does not work."""
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
        "the installed TensorRT does not take this option", subject=option, got=said, hint="leave it out"
    )


def _timings(path: Path) -> bytes:
    return read_if_there(path, MAX_TIMING_CACHE_BYTES, error=EngineError, wanted="a timing cache") or b""
