"""The examination: each capability, what it needs, whether it works, and the command that would make it work."""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from yoloship._version import __version__
from yoloship.doctor.machine import Machine, look_at_machine
from yoloship.doctor.trial import TrialResult, run_trial
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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


_ALL = (
    _Wanted(
        "detect",
        "boxes in images, on the processor",
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
        "running TensorRT engines here",
        "an NVIDIA GPU and driver; tensorrt, tensorrt_rtx or tensorrt_lean",
        ("run_tensorrt", "run_rtx", "run_lean"),
        True,
        "pip install 'yoloship[tensorrt]'",
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
    _Wanted("eval", "mAP on labelled images", "pycocotools", ("evaluate",), False, "pip install 'yoloship[eval]'"),
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
        fix: The command, or the step, that would make it work; None where it works.
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
    told: Callable[[str], None] | None = None,
) -> Report:
    """Try what was asked for, each trial in a process of its own.

    Args:
        names: Of capabilities.
        machine: Where we are; None looks.
        run: Runs one trial by name.
        told: Told the name of each trial as it begins.

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
        if told is not None:
            told(trial)
        return run(trial)

    with ThreadPoolExecutor(_PARALLEL_TRIALS) as pool:
        results = dict(zip(trials, pool.map(attempt, trials), strict=True))
    return Report(machine, tuple(_judge(entry, results, machine) for entry in wanted))


def _judge(wanted: _Wanted, results: Mapping[str, TrialResult], machine: Machine) -> Capability:
    tried = {trial: results[trial] for trial in wanted.trials}
    works = (any if wanted.any_will_do else all)(result.works for result in tried.values())
    fix = None if works else _fix(wanted, tried, machine)
    return Capability(wanted.name, wanted.purpose, wanted.needs, works, MappingProxyType(tried), fix)


def _fix(wanted: _Wanted, tried: Mapping[str, TrialResult], machine: Machine) -> str:
    if wanted.needs_gpu and not machine.devices:
        return _gpu_fix(machine)
    if wanted.name == "tensorrt" and "is not installed" not in tried["run_tensorrt"].problem:
        return f"look at the problem above; reinstall with: {wanted.install}"
    return wanted.install


def _gpu_fix(machine: Machine) -> str:
    if machine.in_container and (machine.driver is not None or machine.has_nvidia_hardware):
        return "start the container with its GPU: docker run --gpus all …"
    if machine.driver is not None:
        return "the driver shows no GPU: run nvidia-smi, and see whether CUDA_VISIBLE_DEVICES hides it"
    if machine.has_nvidia_hardware is False:
        return "this machine shows no NVIDIA card: run engines on one that has it"
    if platform.system() == "Linux":
        return "install NVIDIA's driver: sudo ubuntu-drivers install (Ubuntu), or https://www.nvidia.com/drivers"
    return "install NVIDIA's driver: https://www.nvidia.com/drivers"
