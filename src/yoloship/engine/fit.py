"""Checks whether an engine fits the TensorRT and the GPU of this machine, before TensorRT loads it.

Rules for GPUs. TensorRT: the compute capability on which it was built, or a newer one if hardware compatibility allows
it. TensorRT-RTX (NVIDIA's page on CPU-only engines; 9.0 was measured, and loading fails): without targets 8.6, 8.9,
12.0, 12.1 and later; with targets only those; FP8 from 8.9 on.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yoloship.cuda.device import find_gpu, sm_name
from yoloship.engine.config import NOT_FOR_RTX
from yoloship.engine.flavours import INSTALL_COMMANDS, MODULE_NAMES, FlavourName, installed_flavours, open_flavour
from yoloship.errors import DependencyError, EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from yoloship.cuda.device import GpuInfo
    from yoloship.engine.config import BuildConfig, Range
    from yoloship.engine.file import PlanHeader
    from yoloship.engine.sidecar import EngineRecord
    from yoloship.model import ModelInfo


@dataclass(frozen=True, slots=True)
class Installation:
    """The TensorRT flavours and the GPU of this machine.

    Attributes:
        versions: The version of each flavour that can be imported.
        gpu: The GPU; None if there is none.
    """

    versions: Mapping[FlavourName, str]
    gpu: GpuInfo | None


def find_installation() -> Installation:
    """Find the flavours and the GPU of this machine. A flavour that is installed but broken counts as missing."""
    found = {name: _version(name) for name in installed_flavours()}
    return Installation({name: version for name, version in found.items() if version is not None}, find_gpu())


def _version(name: FlavourName) -> str | None:
    try:
        return open_flavour(name, to_build=False).version
    except DependencyError:
        return None


def check_fit(
    record: EngineRecord | None, header: PlanHeader, installation: Installation, *, subject: str, engine_name: str
) -> FlavourName:
    """Refuse an engine that cannot run here.

    Args:
        record: The content of its sidecar; None if there is none. Then only the header is checked.
        header: The header of the plan.
        installation: The flavours and the GPU of this machine.
        subject: The file, for messages.
        engine_name: Its name, for the command that builds it again.

    Returns:
        The flavour that fits.

    Raises:
        EngineError: flavour, version or GPU differ: what was expected, what was found, and what to do.
    """
    if record is None:
        return _check_header(header, installation, subject)
    hint = f"build it again: {rebuild_command(record, engine_name)}"
    flavour = _flavour_for(record, installation, subject)
    version = installation.versions[flavour]
    if version != record.version and not _serves(record, version):
        raise EngineError(
            "was built by another version of TensorRT",
            subject=subject,
            expected=f"{MODULE_NAMES[flavour]} {record.version}",
            got=f"{MODULE_NAMES[flavour]} {version}",
            hint=hint,
        )
    if installation.gpu is None:
        raise _no_device(subject, record.flavour)
    reason = _device_mismatch(record, installation.gpu.compute_capability)
    if reason is not None:
        raise EngineError(
            "was built for another GPU",
            subject=subject,
            expected=reason,
            got=f"{installation.gpu.name} ({installation.gpu.sm})",
            hint=f"build it again: {rebuild_command(record, engine_name, _serving(installation.gpu, record.flavour))}",
        )
    return flavour


def _serving(gpu: GpuInfo, flavour: FlavourName) -> FlavourName:
    """The flavour that builds for a GPU: TensorRT-RTX refuses data centre GPUs such as the H100."""
    return "tensorrt" if gpu.sm in NOT_FOR_RTX else flavour


def runs_on(record: EngineRecord) -> str:
    """Which GPUs an engine is for, in a few words."""
    config = record.config
    if record.flavour != "rtx":
        return "sm80 or newer" if config.hardware_compatibility == "ampere_plus" else record.compute_capability or "?"
    if config.targets == ("current",):
        return record.compute_capability or "?"
    if config.targets not in {(), ("portable",)}:
        return ", ".join(config.targets)
    return "portable, from sm89 on" if "float8_e4m3fn" in record.dtypes else "portable"


def rebuild_command(record: EngineRecord, engine_name: str, flavour: FlavourName | None = None) -> str:
    """The command that builds the engine of this record again, with the versions that are installed now.

    Args:
        record: The content of the sidecar.
        engine_name: The file to write.
        flavour: The TensorRT that should build it; None takes the one that built it before.
    """
    words = ["yoloship", "build", record.source_name, "-o", engine_name, "--overwrite"]
    words += ["--flavour", flavour or record.flavour]
    words += [*_config_words(record.config), *record.recipe.words()]
    if record.model is not None:
        words += graph_words(record.model, from_checkpoint=record.recipe.from_checkpoint)
        words += ["--names", names_word(record.model.class_names)] if record.recipe.renamed else []
    return shlex.join(words)


def _config_words(config: BuildConfig) -> Iterator[str]:
    if config.batch is not None:
        yield from ("--batch", str(config.batch))
    if config.height is not None and config.width is not None:
        yield from ("--imgsz", _sizes(config.height, config.width))
    if config.workspace_bytes is not None:
        yield from ("--workspace", f"{config.workspace_bytes}B")
    for target in config.targets:
        yield from ("--target", target)
    if config.hardware_compatibility != "none":
        yield from ("--hardware-compatibility", config.hardware_compatibility)
    if config.version_compatible:
        yield "--version-compatible"
    if config.optimization_level is not None:
        yield from ("--optimization-level", str(config.optimization_level))


def graph_words(model: ModelInfo, *, from_checkpoint: bool) -> Iterator[str]:
    """Options for the graph. For an ONNX file these are only those of suppression; the file decides everything else.

    Args:
        model: What the graph is. A size or a batch that is dynamic has no option here.
        from_checkpoint: Whether the graph was made from a checkpoint.
    """
    if model.nms is not None:
        yield from ("--output", model.output_form, "--conf", str(model.nms.score_threshold))
        yield from ("--iou", str(model.nms.iou_threshold), "--max-det", str(model.nms.max_detections))
    if not from_checkpoint:
        return
    yield from ("--input", model.input_form)
    if model.nms is None:
        yield from ("--output", model.output_form)
    if model.head is not None:
        yield from ("--head", model.head)
    height, width = model.input_hw
    if height is not None and width is not None:
        yield from ("--imgsz", f"{height}x{width}")
    if model.batch is not None:
        yield from ("--batch", str(model.batch))


def names_word(names: tuple[str, ...]) -> str:
    """Names separated by commas; if a name has a comma itself, a placeholder for a file of names."""
    text = ",".join(names)
    return text if [part.strip() for part in text.split(",")] == list(names) else "NAMES.txt"


def _sizes(height: Range, width: Range) -> str:
    pairs = ((height.minimum, width.minimum), (height.optimum, width.optimum), (height.maximum, width.maximum))
    return ":".join(f"{h}x{w}" for h, w in pairs)


def _check_header(header: PlanHeader, installation: Installation, subject: str) -> FlavourName:
    wanted: FlavourName = "rtx" if header.form == "rtx" else "tensorrt"
    if wanted not in installation.versions:
        raise _not_installed(wanted, header.version or "", subject)
    if header.version is not None and header.version != installation.versions[wanted]:
        raise EngineError(
            "was built by another version of TensorRT",
            subject=subject,
            expected=f"{MODULE_NAMES[wanted]} {header.version}",
            got=f"{MODULE_NAMES[wanted]} {installation.versions[wanted]}",
            hint="build it again from its ONNX file: yoloship build FILE.onnx",
        )
    if installation.gpu is None:
        raise _no_device(subject, wanted)
    return wanted


def _flavour_for(record: EngineRecord, installation: Installation, subject: str) -> FlavourName:
    if record.flavour in installation.versions:
        return record.flavour
    if record.flavour == "tensorrt" and record.config.version_compatible and "lean" in installation.versions:
        return "lean"
    raise _not_installed(record.flavour, record.version, subject, found=", ".join(installation.versions) or "none")


def _serves(record: EngineRecord, version: str) -> bool:
    """A version-compatible plan runs on later versions of its major one (TensorRT's documentation)."""
    if not record.config.version_compatible:
        return False
    built, now = _numbers(record.version), _numbers(version)
    return built[:1] == now[:1] and now >= built


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _device_mismatch(record: EngineRecord, found: tuple[int, int]) -> str | None:
    """The GPU that was expected; None if the GPU that was found fits."""
    if record.flavour == "rtx":
        return _rtx_mismatch(record, found)
    built_on = record.compute_capability
    if built_on is None or built_on == sm_name(found):
        return None
    if record.config.hardware_compatibility == "ampere_plus":
        return None if found >= (8, 0) else "sm80 or newer"
    return built_on


def _rtx_mismatch(record: EngineRecord, found: tuple[int, int]) -> str | None:
    targets = record.config.targets
    if targets == ("current",):
        return None if record.compute_capability == sm_name(found) else record.compute_capability or "unknown"
    if targets not in {(), ("portable",)}:
        return None if sm_name(found) in targets else " or ".join(targets)
    needs_fp8 = "float8_e4m3fn" in record.dtypes
    if found >= (12, 0) or found == (8, 9) or (found == (8, 6) and not needs_fp8):
        return None
    return "sm89, sm120 or newer (it computes in FP8)" if needs_fp8 else "sm86, sm89, sm120 or newer"


def _not_installed(flavour: FlavourName, version: str, subject: str, found: str | None = None) -> EngineError:
    return EngineError(
        f"needs {MODULE_NAMES[flavour]}, which is not installed",
        subject=subject,
        expected=f"{MODULE_NAMES[flavour]} {version}".strip(),
        got=found,
        hint=f"install it with: {INSTALL_COMMANDS[flavour]}",
    )


def _no_device(subject: str, flavour: FlavourName) -> EngineError:
    return EngineError(
        f"needs an NVIDIA GPU to run ({MODULE_NAMES[flavour]})",
        subject=subject,
        got="no driver, or no GPU",
        hint="'yoloship doctor --for tensorrt' says what is missing; on the CPU run the ONNX file",
    )
