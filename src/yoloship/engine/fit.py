"""Which GPU is there and whether an engine fits what is installed; asked before TensorRT is.

TensorRT without a driver answers with null objects, and touching one of those ends the process (measured with
``tensorrt_lean``). The driver's library says in microseconds, and safely, whether there is a device. It is asked
through ctypes: neither CUDA's packages nor TensorRT need be installed.

Rules for GPUs. TensorRT: the compute capability that it was built on, or a newer one where hardware compatibility
allows. TensorRT-RTX (NVIDIA's page on CPU-only engines; 9.0 measured as refused at load): without targets 8.6, 8.9,
12.0, 12.1 and later; with targets those alone; FP8 from 8.9 on.
"""

from __future__ import annotations

import ctypes
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yoloship.engine.config import NOT_FOR_RTX
from yoloship.engine.flavours import INSTALL_COMMANDS, MODULE_NAMES, FlavourName, installed_flavours, open_flavour
from yoloship.errors import DependencyError, EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from yoloship.engine.config import BuildConfig, Range
    from yoloship.engine.file import PlanHeader
    from yoloship.engine.sidecar import EngineRecord
    from yoloship.model import ModelInfo


_COMPUTE_CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, cuda.h
_COMPUTE_CAPABILITY_MINOR = 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, cuda.h


@dataclass(frozen=True, slots=True)
class Device:
    """An NVIDIA GPU.

    Attributes:
        index: As CUDA counts them.
        name: ``NVIDIA H200`` for one.
        compute_capability: (major, minor).
        memory_bytes: In all.
        cuda_version: Highest one that the driver serves, (major, minor).
    """

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    cuda_version: tuple[int, int]

    @property
    def sm(self) -> str:
        """The compute capability as targets are written: ``sm89``."""
        return sm_name(self.compute_capability)


def sm_name(compute_capability: Iterable[int]) -> str:
    """(8, 9) → ``sm89``."""
    return "sm" + "".join(map(str, compute_capability))


def find_device(index: int = 0) -> Device | None:
    """The GPU of that index, or None where there is no driver or no such GPU."""
    devices = find_devices()
    return devices[index] if 0 <= index < len(devices) else None


def find_devices() -> tuple[Device, ...]:
    """All GPUs that the driver shows, in its order; empty without a driver."""
    driver = _load_driver()
    if driver is None or driver.cuInit(0) != 0:
        return ()
    count, version = ctypes.c_int(), ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return ()
    cuda_version = (version.value // 1000, version.value % 1000 // 10)
    found = (_describe(driver, index, cuda_version) for index in range(count.value))
    return tuple(device for device in found if device is not None)


def _load_driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _describe(driver: ctypes.CDLL, index: int, cuda_version: tuple[int, int]) -> Device | None:
    handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    failed = (
        driver.cuDeviceGet(ctypes.byref(handle), index)
        or driver.cuDeviceGetName(name, 256, handle)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, handle)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, handle)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    )
    if failed:
        return None
    return Device(index, name.value.decode("utf-8", "replace"), (major.value, minor.value), memory.value, cuda_version)


@dataclass(frozen=True, slots=True)
class Here:
    """What could run an engine on this machine.

    Attributes:
        versions: Of the flavours that can be imported.
        device: The GPU; None where there is none.
    """

    versions: Mapping[FlavourName, str]
    device: Device | None


def look_around() -> Here:
    """Ask this machine. Flavours that are installed but broken count as absent."""
    found = {name: _version(name) for name in installed_flavours()}
    return Here({name: version for name, version in found.items() if version is not None}, find_device())


def _version(name: FlavourName) -> str | None:
    try:
        return open_flavour(name, to_build=False).version
    except DependencyError:
        return None


def check_fit(
    record: EngineRecord | None, header: PlanHeader, here: Here, *, subject: str, engine_name: str
) -> FlavourName:
    """Refuse an engine that cannot run here.

    Args:
        record: What its sidecar says; None where there is none, and only the header can be asked.
        header: What its first bytes say.
        here: What is installed.
        subject: The file, for messages.
        engine_name: Its name, for the command that rebuilds it.

    Returns:
        The flavour that fits.

    Raises:
        EngineError: flavour, version or GPU differ: what was expected, what was found, and what to do.
    """
    if record is None:
        return _check_header(header, here, subject)
    hint = f"build it again: {rebuild_command(record, engine_name)}"
    flavour = _flavour_for(record, here, subject)
    version = here.versions[flavour]
    if version != record.version and not _serves(record, version):
        raise EngineError(
            "was built by another version of TensorRT",
            subject=subject,
            expected=f"{MODULE_NAMES[flavour]} {record.version}",
            got=f"{MODULE_NAMES[flavour]} {version}",
            hint=hint,
        )
    if here.device is None:
        raise _no_device(subject, record.flavour)
    reason = _device_mismatch(record, here.device.compute_capability)
    if reason is not None:
        raise EngineError(
            "was built for another GPU",
            subject=subject,
            expected=reason,
            got=f"{here.device.name} ({here.device.sm})",
            hint=f"build it again: {rebuild_command(record, engine_name, _serving(here.device, record.flavour))}",
        )
    return flavour


def _serving(device: Device, flavour: FlavourName) -> FlavourName:
    """The flavour that builds for a GPU: TensorRT-RTX refuses data centre GPUs such as the H100."""
    return "tensorrt" if device.sm in NOT_FOR_RTX else flavour


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
    """The command that builds the engine of this record again, with what is installed now.

    Args:
        record: What the sidecar says.
        engine_name: The file to write.
        flavour: Which TensorRT shall build it; None takes the one that did.
    """
    words = ["yoloship", "build", record.source_name, "-o", engine_name, "--overwrite"]
    words += ["--flavour", flavour or record.flavour]
    words += [*_config_words(record.config), *record.recipe.words()]
    if record.model is not None:
        words += _graph_words(record.model, from_checkpoint=record.recipe.from_checkpoint)
        words += ["--names", _names(record.model.class_names)] if record.recipe.renamed else []
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


def _graph_words(model: ModelInfo, *, from_checkpoint: bool) -> Iterator[str]:
    """Suppression goes behind an ONNX file too; everything else is decided by the file itself."""
    if model.nms is not None:
        yield from ("--output", "nms", "--conf", str(model.nms.score_threshold))
        yield from ("--iou", str(model.nms.iou_threshold), "--max-det", str(model.nms.max_detections))
    if not from_checkpoint:
        return
    yield from ("--input", model.input_form)
    if model.nms is None:
        yield from ("--output", model.output_form)
    height, width = model.input_hw
    if height is not None and width is not None:
        yield from ("--imgsz", f"{height}x{width}")
    if model.batch is not None:
        yield from ("--batch", str(model.batch))


def _names(names: tuple[str, ...]) -> str:
    """Names between commas; a file's name, to be filled in, if one of them could not be told from two."""
    text = ",".join(names)
    return text if [part.strip() for part in text.split(",")] == list(names) else "NAMES.txt"


def _sizes(height: Range, width: Range) -> str:
    pairs = ((height.minimum, width.minimum), (height.optimum, width.optimum), (height.maximum, width.maximum))
    return ":".join(f"{h}x{w}" for h, w in pairs)


def _check_header(header: PlanHeader, here: Here, subject: str) -> FlavourName:
    wanted: FlavourName = "rtx" if header.form == "rtx" else "tensorrt"
    if wanted not in here.versions:
        raise _not_installed(wanted, header.version or "", subject)
    if header.version is not None and header.version != here.versions[wanted]:
        raise EngineError(
            "was built by another version of TensorRT",
            subject=subject,
            expected=f"{MODULE_NAMES[wanted]} {header.version}",
            got=f"{MODULE_NAMES[wanted]} {here.versions[wanted]}",
            hint="build it again from its ONNX file: yoloship build FILE.onnx",
        )
    if here.device is None:
        raise _no_device(subject, wanted)
    return wanted


def _flavour_for(record: EngineRecord, here: Here, subject: str) -> FlavourName:
    if record.flavour in here.versions:
        return record.flavour
    if record.flavour == "tensorrt" and record.config.version_compatible and "lean" in here.versions:
        return "lean"
    raise _not_installed(record.flavour, record.version, subject, found=", ".join(here.versions) or "none")


def _serves(record: EngineRecord, version: str) -> bool:
    """A version-compatible plan runs on later versions of its major one (TensorRT's documentation)."""
    if not record.config.version_compatible:
        return False
    built, now = _numbers(record.version), _numbers(version)
    return built[:1] == now[:1] and now >= built


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _device_mismatch(record: EngineRecord, found: tuple[int, int]) -> str | None:
    """What GPU was expected, or None where the one found will do."""
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
