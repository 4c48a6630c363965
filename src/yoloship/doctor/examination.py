"""The machine, and each capability: what it needs, whether it works, and the command that would make it work."""

from __future__ import annotations

import json
import platform
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.cores import usable_cores
from yoloship._version import __version__
from yoloship.cuda.device import find_gpus
from yoloship.errors import InputError
from yoloship.runtime import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from yoloship._util.text import OnProgress
    from yoloship.cuda.device import GpuInfo


TIMEOUT_S = 90.0
MARK = "yoloship-trial:"
"""What the line with the answer begins with; libraries print lines of their own."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How a trial ended.

    Attributes:
        works: Whether what was tried did what it should.
        facts: What it found out: versions, names, numbers.
        problem: Why it does not work; empty where it does.
        elapsed_s: Start of the process included.
    """

    works: bool
    facts: Mapping[str, Any]
    problem: str
    elapsed_s: float


PROGRAM = (
    "import sys; sys.path[:] = filter(None, sys.path); from yoloship.doctor import trials; trials.main(sys.argv[1])"
)
"""Without the working directory on the path: a file of the user's that is named like a library is not run."""


def run_trial(name: str, *, timeout_s: float = TIMEOUT_S, program: str = PROGRAM) -> TrialResult:
    """Run a trial in a process of its own, so that a crash does not end this process.

    Args:
        name: Of a function in `yoloship.doctor.trials`.
        timeout_s: After which it is ended; some calls without a driver hang for ever.
        program: That runs a trial, as Python text.
    """
    started_s = time.monotonic()
    command = [sys.executable, "-c", program, name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603 - our own
    except subprocess.TimeoutExpired:
        return TrialResult(False, MappingProxyType({}), f"did not answer within {timeout_s:g} s", timeout_s)
    except OSError as error:
        return TrialResult(False, MappingProxyType({}), f"cannot be started: {error}", 0.0)
    elapsed_s = time.monotonic() - started_s
    for line in reversed(done.stdout.decode("utf-8", "replace").splitlines()):
        if line.startswith(MARK) and done.returncode == 0:
            answer = json.loads(line.removeprefix(MARK))
            return TrialResult(
                not answer["problem"], MappingProxyType(answer["facts"]), str(answer["problem"]), elapsed_s
            )
    return TrialResult(False, MappingProxyType({}), _ending(done.returncode, done.stderr), elapsed_s)


def _ending(code: int, stderr: bytes) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the process that tried it crashed ({name})"
    last = stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
    return f"the process that tried it ended with code {code}: {last[0][:200]}"


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
        processor_features: By name; None if this system does not tell.
        devices: NVIDIA GPUs that the driver shows.
        driver: Version of NVIDIA's kernel driver; None if there is none, or if it cannot be asked.
        has_nvidia_hardware: Whether an NVIDIA card is plugged in; None if that cannot be asked.
        in_container: Whether this looks like a container.
    """

    python: str
    system: str
    processor: str
    cores: int
    processor_features: Mapping[str, bool] | None
    devices: tuple[GpuInfo, ...]
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
        devices=find_gpus(),
        driver=_driver(),
        has_nvidia_hardware=_nvidia_hardware(Path("/sys/bus/pci/devices")),
        in_container=Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
    )


def read_features(cpuinfo: str) -> Mapping[str, bool] | None:
    """Processor features out of the text of ``/proc/cpuinfo``; None if it lists none."""
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


_PARALLEL_TRIALS = 2


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A capability: what it is for, what is tried for it, and what installs it."""

    name: str
    purpose: str
    needs: str
    trials: tuple[str, ...]
    any_will_do: bool
    install: str
    needs_gpu: bool = False


def _runtimes() -> Iterator[_Wanted]:
    """Each runtime of ours that runs models on the processor; the default is examined as part of `detect`."""
    for name in RUNTIMES.own:
        runtime = RUNTIMES.load(name)
        if "cpu" in runtime.devices and name != "onnxruntime":
            purpose = f"running models with {runtime.title}, on the processor"
            yield _Wanted(name, purpose, " or ".join(runtime.packages), (name,), False, runtime.install)


_ALL = (
    _Wanted(
        "detect",
        "running models of every task on images, on the processor",
        "ONNX Runtime, OpenCV",
        ("onnxruntime", "opencv"),
        False,
        "pip install --force-reinstall onnxruntime opencv-python-headless",
    ),
    _Wanted(
        "export",
        "checkpoints to ONNX",
        "the onnx package",
        ("export",),
        False,
        "pip install --force-reinstall onnx",
    ),
    _Wanted(
        "int8",
        "quantizing to INT8 and FP8",
        "ONNX Runtime's quantizer",
        ("quantize",),
        False,
        "pip install --force-reinstall onnxruntime onnx",
    ),
    *_runtimes(),
    _Wanted(
        "build",
        "TensorRT engines for other machines, or for this one",
        "tensorrt_rtx (no GPU needed), or tensorrt with a GPU",
        ("build_rtx", "build_tensorrt"),
        True,
        "pip install 'yoloship[rtx]'",
    ),
    _Wanted(
        "tensorrt",
        "running TensorRT engines here, with the right numbers",
        "an NVIDIA GPU and driver; tensorrt, tensorrt_rtx or tensorrt_lean; cuda.bindings",
        ("run_tensorrt", "run_rtx", "run_lean"),
        True,
        "pip install 'yoloship[tensorrt,cuda]'",
        needs_gpu=True,
    ),
    _Wanted(
        "rtx_plugin",
        "running ONNX files with TensorRT-RTX inside ONNX Runtime",
        "an RTX GPU and driver; onnxruntime-ep-nv-tensorrt-rtx; cuda.bindings",
        ("rtx_plugin",),
        False,
        "pip install 'yoloship[rtx_plugin]'",
        needs_gpu=True,
    ),
    _Wanted(
        "cuda",
        "pre- and post-processing on the GPU",
        "an NVIDIA GPU and driver; cuda.bindings",
        ("cuda",),
        False,
        "pip install 'yoloship[cuda]'",
        needs_gpu=True,
    ),
    _Wanted(
        "gpu-media",
        "decoding JPEG files on the GPU",
        "an NVIDIA GPU with a JPEG engine, such as an H100; nvidia-nvjpeg; cuda.bindings",
        ("gpu_media",),
        False,
        "pip install 'yoloship[cuda,gpu-media]'",
        needs_gpu=True,
    ),
    _Wanted(
        "eval", "mAP on labelled images", "hotcoco, pycocotools", ("evaluate",), False, "pip install 'yoloship[eval]'"
    ),
    _Wanted("heic", "HEIC images", "pillow-heif", ("heic",), False, "pip install 'yoloship[heic]'"),
    _Wanted(
        "video",
        "streams, annotated videos, and every video format",
        "PyAV",
        ("video",),
        False,
        "pip install 'yoloship[video]'",
    ),
    _Wanted("serve", "the HTTP server", "uvicorn", ("serve",), False, "pip install 'yoloship[serve]'"),
    _Wanted("ray", "batches on a Ray cluster", "ray", ("ray",), False, "pip install 'yoloship[ray]'"),
    _Wanted("parquet", "results as Parquet", "pyarrow", ("parquet",), False, "pip install 'yoloship[parquet]'"),
    _Wanted("pil", "Pillow images as input", "Pillow", ("pillow",), False, "pip install 'yoloship[pil]'"),
    _Wanted(
        "supervision",
        "detections for supervision",
        "supervision",
        ("supervision",),
        False,
        "pip install 'yoloship[supervision]'",
    ),
)

CAPABILITIES: tuple[str, ...] = tuple(wanted.name for wanted in _ALL)
"""Names that can be asked for."""
BASE: frozenset[str] = frozenset({"detect", "export"})
"""What a plain installation must be able to do."""


@dataclass(frozen=True, slots=True)
class Capability:
    """What one capability's examination found.

    Attributes:
        name: To ask for it by.
        purpose: What it is for.
        needs: What it needs.
        works: Whether it was tried and did what it should.
        trials: What was tried, each with its outcome.
        fix: The command, or the step, that would make it work; None if it works.
    """

    name: str
    purpose: str
    needs: str
    works: bool
    trials: Mapping[str, TrialResult]
    fix: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """The whole examination.

    Attributes:
        machine: Where it was made.
        capabilities: In a fixed order.
    """

    machine: Machine
    capabilities: tuple[Capability, ...]

    @property
    def base_works(self) -> bool:
        """Whether all that a plain installation must be able to do works, as far as it was asked for."""
        return all(capability.works for capability in self.capabilities if capability.name in BASE)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        machine = {**{name: getattr(self.machine, name) for name in self.machine.__slots__}}
        machine["devices"] = [asdict(device) for device in self.machine.devices]
        features = self.machine.processor_features
        machine["processor_features"] = None if features is None else dict(features)
        return {
            "yoloship": __version__,
            "machine": machine,
            "capabilities": {
                capability.name: {
                    "purpose": capability.purpose,
                    "needs": capability.needs,
                    "works": capability.works,
                    "fix": capability.fix,
                    "tried": {
                        name: {
                            "works": trial.works,
                            "facts": dict(trial.facts),
                            "problem": trial.problem,
                            "elapsed_s": round(trial.elapsed_s, 3),
                        }
                        for name, trial in capability.trials.items()
                    },
                }
                for capability in self.capabilities
            },
        }


def examine(
    names: Sequence[str] = CAPABILITIES,
    *,
    machine: Machine | None = None,
    run: Callable[[str], TrialResult] = run_trial,
    on_progress: OnProgress | None = None,
) -> Report:
    """Try what was asked for, each trial in a process of its own.

    Args:
        names: Of capabilities.
        machine: Where we are; None looks.
        run: Runs one trial by name.
        on_progress: Called with the name of each trial as it begins.

    Raises:
        InputError: there is no such capability.
    """
    if unknown := [name for name in names if name not in CAPABILITIES]:
        raise InputError(
            "no such capability", subject="doctor", expected=f"one of {', '.join(CAPABILITIES)}", got=unknown[0][:40]
        )
    machine = machine or look_at_machine()
    wanted = [entry for entry in _ALL if entry.name in names]
    trials = list(dict.fromkeys(trial for entry in wanted for trial in entry.trials))

    def attempt(trial: str) -> TrialResult:
        if on_progress is not None:
            on_progress(trial, trials.index(trial), len(trials))
        return run(trial)

    with ThreadPoolExecutor(_PARALLEL_TRIALS) as pool:
        results = dict(zip(trials, pool.map(attempt, trials), strict=True))
    return Report(machine, tuple(_judge(entry, results, machine) for entry in wanted))


_FOR_CUDA_12: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pip install 'yoloship[tensorrt,cuda]'": "pip install 'yoloship[cuda12]' tensorrt-cu12",
        "pip install 'yoloship[cuda]'": "pip install 'yoloship[cuda12]'",
        "pip install 'yoloship[cuda,gpu-media]'": "pip install 'yoloship[cuda12,gpu-media12]'",
    }
)
"""What to install instead if the driver is for CUDA 12."""
_JETPACK: Final = "sudo apt install python3-libnvinfer, and pip install 'cuda-bindings>=12.9,<13' (docs/jetson.md)"
_FOR_JETSON: Final[Mapping[str, str]] = MappingProxyType({"tensorrt": _JETPACK, "cuda": _JETPACK})
"""What to install instead on a Jetson, which has TensorRT and the libraries of CUDA from JetPack."""


def _judge(wanted: _Wanted, results: Mapping[str, TrialResult], machine: Machine) -> Capability:
    tried = {trial: results[trial] for trial in wanted.trials}
    works = (any if wanted.any_will_do else all)(result.works for result in tried.values())
    fix = None if works else _fix(wanted, tried, machine)
    return Capability(wanted.name, wanted.purpose, wanted.needs, works, MappingProxyType(tried), fix)


def _fix(wanted: _Wanted, tried: Mapping[str, TrialResult], machine: Machine) -> str:
    if wanted.needs_gpu and not machine.devices:
        return _gpu_fix(machine)
    install = wanted.install
    if any(gpu.cuda_version < (13,) for gpu in machine.devices):
        install = _FOR_CUDA_12.get(install, install)
    if any(gpu.integrated for gpu in machine.devices):
        install = _FOR_JETSON.get(wanted.name, install)
    if wanted.name == "tensorrt" and "is not installed" not in tried["run_tensorrt"].problem:
        return f"look at the problem above; reinstall with: {install}"
    return install


def _gpu_fix(machine: Machine) -> str:
    if machine.in_container and (machine.driver is not None or machine.has_nvidia_hardware):
        return "start the container with its GPU: docker run --gpus all …"
    if machine.driver is not None:
        return "the driver shows no GPU: run nvidia-smi, and see whether CUDA_VISIBLE_DEVICES hides it"
    if machine.has_nvidia_hardware is False:
        return "this machine has no NVIDIA GPU: use a machine that has one"
    if platform.system() == "Linux":
        return "install NVIDIA's driver: sudo ubuntu-drivers install (Ubuntu), or https://www.nvidia.com/drivers"
    return "install NVIDIA's driver: https://www.nvidia.com/drivers"
