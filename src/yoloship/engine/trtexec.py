"""The command of NVIDIA's own tool that builds the same engine, for `build --show-trtexec`.

Each option was read in NVIDIA's documentation ("Command-Line Programs" of TensorRT 10.8, "Migrating trtexec Usage" for
11.4, the developer guide of TensorRT-RTX for ``tensorrt_rtx``) and in the help that trtexec prints. Neither tool was
run here.
"""

from __future__ import annotations

import re
import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from yoloship.engine.fit import graph_words, names_word

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from yoloship.engine.config import BuildConfig, HardwareCompatibility, InputProfile
    from yoloship.engine.flavours import FlavourName
    from yoloship.engine.sidecar import EngineRecord

TOOLS: Final[Mapping[FlavourName, str]] = {"tensorrt": "trtexec", "rtx": "tensorrt_rtx"}
_LEVELS: Final[Mapping[HardwareCompatibility, str]] = {
    "ampere_plus": "ampere+",
    "same_compute_capability": "sameComputeCapability",
}
_PLAIN_NAME: Final = re.compile(r"[\w./-]+")
_MIB: Final = 1 << 20


def equal_commands(record: EngineRecord, engine_name: str, *, changed: bool) -> tuple[str, ...]:
    """Command lines that build the same engine with NVIDIA's tool.

    Args:
        record: The content of the engine's sidecar.
        engine_name: The engine's name.
        changed: Whether the build changed the graph of an ONNX file, to another precision or by suppression.

    Returns:
        First the command that writes the ONNX file, if the graph was made by the build. A line that begins with # says
        that no command writes it.
    """
    onnx = record.source_name
    before: tuple[str, ...] = ()
    if record.recipe.from_checkpoint:
        onnx = PurePath(engine_name).with_suffix(".onnx").name
        before = (shlex.join(_export_words(record, onnx)),)
    elif changed:
        before = (f"# build changed the graph of {onnx}; export its checkpoint with the same options instead",)
    build = trtexec_command(record.flavour, record.config, record.profiles, onnx=onnx, engine=engine_name)
    return (*before, build)


def _export_words(record: EngineRecord, onnx: str) -> Iterator[str]:
    yield from ("yoloship", "export", record.source_name, "-o", onnx, *record.recipe.words())
    if record.model is None:
        return
    yield from graph_words(record.model, from_checkpoint=True)
    if None in record.model.input_hw:
        yield from ("--imgsz", "dynamic")
    if record.model.batch is None:
        yield from ("--batch", "dynamic")
    if record.recipe.renamed:
        yield from ("--names", names_word(record.model.class_names))


def trtexec_command(
    flavour: FlavourName, config: BuildConfig, profiles: Sequence[InputProfile], *, onnx: str, engine: str
) -> str:
    """The command line that builds the same engine, quoted for a shell.

    Args:
        flavour: The TensorRT that builds.
        config: The configuration of the build.
        profiles: The shapes of the dynamic inputs; empty for a static network.
        onnx: The graph, as a file of its own.
        engine: The file to write.
    """
    return shlex.join([TOOLS[flavour], *_words(flavour, config, profiles, onnx, engine)])


def _words(
    flavour: FlavourName, config: BuildConfig, profiles: Sequence[InputProfile], onnx: str, engine: str
) -> Iterator[str]:
    yield f"--onnx={onnx}"
    yield f"--saveEngine={engine}"
    if flavour == "tensorrt":
        yield "--stronglyTyped"  # needed on 10.x, always on since 11.0, where the option has no effect
    for option in ("min", "opt", "max") if profiles else ():
        yield f"--{option}Shapes=" + ",".join(_shape(profile, option) for profile in profiles)
    if config.workspace_bytes is not None:
        yield "--memPoolSize=workspace:" + str(config.workspace_bytes / _MIB).removesuffix(".0")  # MiB
    if flavour == "rtx":
        yield from _targets(config)
    if config.hardware_compatibility != "none":
        yield f"--hardwareCompatibilityLevel={_LEVELS[config.hardware_compatibility]}"
    if config.version_compatible:
        yield "--versionCompatible"
    if config.optimization_level is not None:
        yield f"--builderOptimizationLevel={config.optimization_level}"
    if config.timing_cache is not None:
        yield f"--timingCacheFile={config.timing_cache}"
    yield "--profilingVerbosity=detailed"  # as here, so that the layers can be read from the engine
    yield "--skipInference"


def _targets(config: BuildConfig) -> Iterator[str]:
    if config.targets == ("current",):
        yield "--useGpu"
    elif config.targets not in {(), ("portable",)}:
        yield "--computeCapabilities=" + ",".join(target.removeprefix("sm") for target in config.targets)


def _shape(profile: InputProfile, option: str) -> str:
    extents = {"min": profile.minimum, "opt": profile.optimum, "max": profile.maximum}[option]
    name = profile.name if _PLAIN_NAME.fullmatch(profile.name) else f"'{profile.name}'"
    return f"{name}:{'x'.join(map(str, extents))}"
