"""The machine itself: Python, operating system, processor, graphics card."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yoloship.engine import Device, find_devices
from yoloship.pipeline.cores import usable_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

_FLAGS = (
    ("AVX2", ("avx2",)),
    ("AVX-512", ("avx512f",)),
    ("VNNI", ("avx512_vnni", "avx_vnni")),
    ("BF16", ("avx512_bf16", "amx_bf16")),
    ("AMX", ("amx_int8",)),
    ("NEON dot product", ("asimddp",)),
)
"""What matters for inference on the processor, and how the kernel calls it."""
_NVIDIA_PCI_VENDOR = "0x10de"
_PCI_DISPLAY_CLASS = "0x03"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where this process runs.

    Attributes:
        python: Version and implementation.
        system: Operating system and architecture.
        processor: Its name.
        cores: That this process may use, affinity and container quota included.
        processor_features: By name; None where this system does not tell.
        devices: NVIDIA GPUs that the driver shows.
        driver: Version of NVIDIA's kernel driver; None where there is none, or where it cannot be asked.
        has_nvidia_hardware: Whether an NVIDIA card is plugged in; None where that cannot be asked.
        in_container: Whether this looks like a container.
    """

    python: str
    system: str
    processor: str
    cores: int
    processor_features: Mapping[str, bool] | None
    devices: tuple[Device, ...]
    driver: str | None
    has_nvidia_hardware: bool | None
    in_container: bool


def look_at_machine() -> Machine:
    """Ask the operating system and the driver; nothing is imported, nothing is run."""
    info = _read(Path("/proc/cpuinfo"))
    return Machine(
        python=f"{platform.python_version()} ({platform.python_implementation()}, {sys.executable})",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor_name(info),
        cores=usable_cores(),
        processor_features=read_features(info),
        devices=find_devices(),
        driver=_driver(),
        has_nvidia_hardware=_nvidia_hardware(Path("/sys/bus/pci/devices")),
        in_container=Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
    )


def read_features(cpuinfo: str) -> Mapping[str, bool] | None:
    """Processor features out of the text of ``/proc/cpuinfo``; None where it lists none."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if match is None:
        return None
    flags = set(match[1].split())
    arm = "asimd" in flags
    return {name: any(mark in flags for mark in marks) for name, marks in _FLAGS if arm == name.startswith("NEON")}


def _processor_name(cpuinfo: str) -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _driver() -> str | None:
    match = re.search(r"Kernel Module(?:\s+for\s+\S+)?\s+([0-9.]+)", _read(Path("/proc/driver/nvidia/version")))
    return match[1] if match else None


def _nvidia_hardware(devices: Path) -> bool | None:
    if not devices.is_dir():
        return None
    return any(
        _read(device / "vendor").strip() == _NVIDIA_PCI_VENDOR
        and _read(device / "class").startswith(_PCI_DISPLAY_CLASS)
        for device in devices.iterdir()
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
