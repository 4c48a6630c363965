"""From an ONNX file to a TensorRT plan: strongly typed networks only, one code path for every flavour.

TensorRT takes many things in silence: files that are no model, options without effect, shapes that cannot be. Each
is refused here with a line that says what and why.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yoloship._util.reading import open_regular
from yoloship.engine.config import BuildConfig, InputProfile
from yoloship.engine.device import find_device
from yoloship.engine.flavours import Flavour, FlavourName, open_flavour
from yoloship.engine.log import Messages, listening
from yoloship.engine.network import check_precision, check_targets, network_dtypes, parse_network, tensor_specs
from yoloship.engine.options import apply_options, check_features, save_timing_cache
from yoloship.engine.profiles import resolve_profiles
from yoloship.engine.progress import BuildProgress, Tracker, interruptible, monitor
from yoloship.errors import EngineError
from yoloship.kinds import wrong_kind

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.model import ModelInfo
    from yoloship.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A plan, and what is known about it at that moment.

    Attributes:
        plan: The serialized engine, as trtexec, Triton and any TensorRT program load it.
        flavour: What built it.
        version: Of that flavour.
        compute_capability: Of the GPU it was built on, ``sm89`` for one; None without a GPU.
        inputs: As the network has them; names on dynamic axes.
        outputs: As the network has them.
        profiles: Allowed shapes of dynamic inputs.
        dtypes: Element types of all tensors in the network that was compiled.
        onnx_sha256: Of the ONNX file's bytes, lower-case hex; data beside it not included.
        config: How it was built.
        warnings: What TensorRT warned about.
        elapsed_s: Parsing and building.
    """

    plan: bytes
    flavour: FlavourName
    version: str
    compute_capability: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[InputProfile, ...]
    dtypes: frozenset[str]
    onnx_sha256: str
    config: BuildConfig
    warnings: tuple[str, ...]
    elapsed_s: float


def build_engine(
    onnx: Path,
    config: BuildConfig | None = None,
    *,
    flavour: Flavour | None = None,
    info: ModelInfo | None = None,
    progress: BuildProgress | None = None,
) -> BuiltEngine:
    """Build a plan.

    Args:
        onnx: The graph; weights kept outside it are looked for beside it. TensorRT's parser can end the process on
            damaged graphs: check untrusted files before, as `yoloship.pipeline.building.build` does.
        config: How to build; None takes TensorRT's defaults.
        flavour: Which TensorRT; None takes the first that is installed and builds.
        info: What is known about the model: sizes are checked against its strides, and the graph's element types
            against the precision that it claims.
        progress: Told of each step; what it raises cancels the build and is raised from here. So is Ctrl-C.

    Raises:
        DependencyError: no TensorRT is installed.
        EngineError: the file is no model that TensorRT can take, an option is lacking or ignored, or the build failed.
    """
    config = config or BuildConfig()
    flavour = flavour or open_flavour()
    device = find_device()
    check_features(flavour, config, has_device=device is not None)
    onnx_sha256 = _digest(onnx)
    tracker = Tracker(progress)
    with listening(flavour) as (logger, messages):
        builder = flavour.module.Builder(logger)
        network = parse_network(flavour, builder, logger, onnx, messages)
        if _digest(onnx) != onnx_sha256:  # TensorRT reads the file itself: what it read must be what was checked
            raise changed_meanwhile(str(onnx))
        inputs, outputs = tensor_specs(network)
        dtypes = network_dtypes(network)
        if info is not None:
            check_precision(info.precision, dtypes, subject=str(onnx))
        check_targets(config.targets, dtypes, subject=str(onnx))
        profiles = resolve_profiles(inputs, config, info)
        settings = builder.create_builder_config()
        apply_options(flavour, settings, config, messages)
        _add_profiles(builder, settings, profiles, messages)
        if flavour.lacks("progress") is None:
            settings.progress_monitor = monitor(flavour, tracker)
        plan = _run(builder, network, settings, tracker, subject=str(onnx), messages=messages)
        save_timing_cache(settings, config)
        return BuiltEngine(
            plan=plan,
            flavour=flavour.name,
            version=flavour.version,
            compute_capability=device.sm if device else None,
            inputs=inputs,
            outputs=outputs,
            profiles=profiles,
            dtypes=dtypes,
            onnx_sha256=onnx_sha256,
            config=config,
            warnings=messages.warnings,
            elapsed_s=tracker.elapsed_s,
        )


def _digest(onnx: Path) -> str:
    """Refuse what is no file or empty, before a parser answers that it is fine."""
    digest = hashlib.sha256()
    with open_regular(onnx, error=EngineError, wanted="an ONNX model") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise wrong_kind("empty", "onnx", subject=str(onnx), error=EngineError)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def changed_meanwhile(subject: str) -> EngineError:
    """The error for a file that was another one when it was checked."""
    return EngineError("was changed while it was read", subject=subject, hint="build it again once it is complete")


def _add_profiles(builder: Any, settings: Any, profiles: tuple[InputProfile, ...], messages: Messages) -> None:
    if not profiles:
        return
    profile = builder.create_optimization_profile()
    for entry in profiles:
        profile.set_shape(entry.name, entry.minimum, entry.optimum, entry.maximum)
    if not profile or settings.add_optimization_profile(profile) < 0:
        raise EngineError(
            "TensorRT refuses the optimization profile",
            subject=", ".join(entry.name for entry in profiles),
            got=messages.first_error,
        )


def _run(builder: Any, network: Any, settings: Any, tracker: Tracker, *, subject: str, messages: Messages) -> bytes:
    with interruptible(tracker):
        memory = builder.build_serialized_network(network, settings)
    tracker.raise_if_stopped()
    if memory is None:
        reason = messages.first_error or "no reason given (is another logger registered in this process?)"
        hint = "give it more --workspace, or leave that to TensorRT" if "workspace limit" in reason else None
        raise EngineError(f"TensorRT could not build it: {reason.rstrip('.')}", subject=subject, hint=hint)
    return bytes(memory)
