from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from yoloship.cuda.device import GpuInfo
from yoloship.doctor import CAPABILITIES, Machine, Report, TrialResult, examine, look_at_machine
from yoloship.doctor.examination import read_features
from yoloship.errors import InputError

WORKS = TrialResult(True, MappingProxyType({"version": "1"}), "", 0.1)
MISSING = TrialResult(False, MappingProxyType({}), "x: is not installed; install it with: pip install x", 0.1)
BROKEN = TrialResult(False, MappingProxyType({}), "TensorRT does not load it: no reason given", 0.1)
GPU = GpuInfo(0, "NVIDIA L4", (8, 9), 24 << 30, (12, 9))


def machine(**changes: Any) -> Machine:
    known: dict[str, Any] = {
        "python": "3.12",
        "system": "Linux",
        "processor": "CPU",
        "cores": 4,
        "processor_features": None,
        "devices": (),
        "driver": None,
        "has_nvidia_hardware": None,
        "in_container": False,
    }
    return Machine(**{**known, **changes})


def report(*names: str, place: Machine | None = None, **results: TrialResult) -> Report:
    return examine(names, machine=place or machine(), run=lambda trial: results.get(trial, MISSING))


def test_a_capability_works_when_all_that_it_needs_works() -> None:
    (detect,) = report("detect", onnxruntime=WORKS, opencv=WORKS).capabilities
    assert (detect.works, detect.fix) == (True, None)


def test_a_capability_with_one_broken_part_does_not_work_and_says_what_would_help() -> None:
    (detect,) = report("detect", onnxruntime=WORKS).capabilities
    assert not detect.works
    assert detect.fix == "pip install --force-reinstall onnxruntime opencv-python-headless"


def test_one_flavour_is_enough_to_build() -> None:
    assert report("build", build_rtx=WORKS).capabilities[0].works
    assert report("build", build_tensorrt=WORKS).capabilities[0].works
    assert report("build").capabilities[0].fix == "pip install 'yoloship[rtx]'"


@pytest.mark.parametrize(
    ("place", "fix"),
    [
        (machine(has_nvidia_hardware=False), "this machine has no NVIDIA GPU: use a machine that has one"),
        (machine(driver="570.1", has_nvidia_hardware=True), "the driver shows no GPU: run nvidia-smi, and see"),
        (
            machine(has_nvidia_hardware=True, in_container=True),
            "start the container with its GPU: docker run --gpus all …",
        ),
        (machine(devices=(GPU,)), "pip install 'yoloship[cuda12]' tensorrt-cu12"),
        (machine(devices=(replace(GPU, cuda_version=(13, 0)),)), "pip install 'yoloship[tensorrt,cuda]'"),
        (machine(devices=(replace(GPU, integrated=True),)), "sudo apt install python3-libnvinfer, and pip install 'cu"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_explained(place: Machine, fix: str) -> None:
    (tensorrt,) = report("tensorrt", place=place).capabilities
    assert not tensorrt.works
    assert tensorrt.fix is not None
    assert tensorrt.fix.startswith(fix)


def test_an_installation_that_is_broken_is_told_from_a_missing_one() -> None:
    (tensorrt,) = report("tensorrt", place=machine(devices=(GPU,)), run_tensorrt=BROKEN).capabilities
    assert tensorrt.fix == "look at the problem above; reinstall with: pip install 'yoloship[cuda12]' tensorrt-cu12"


def test_each_trial_is_run_once_and_told_of() -> None:
    told: list[str] = []
    examine(
        CAPABILITIES,
        machine=machine(),
        run=lambda _trial: WORKS,
        on_progress=lambda trial, _done, _total: told.append(trial),
    )
    assert sorted(told) == sorted(set(told))
    assert "run_rtx" in told


def test_the_base_is_detecting_and_exporting() -> None:
    assert not report("detect", "export", export=WORKS).base_works
    assert report("detect", "export", "cuda", export=WORKS, onnxruntime=WORKS, opencv=WORKS).base_works


def test_an_unknown_capability_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="doctor: no such capability: expected one of detect, export"):
        examine(["flying"])


def test_a_report_is_plain_data() -> None:
    data = report("build", place=machine(devices=(GPU,)), build_rtx=WORKS).to_dict()
    assert data["machine"]["devices"][0]["name"] == "NVIDIA L4"
    assert data["capabilities"]["build"]["tried"]["build_rtx"] == {
        "works": True,
        "facts": {"version": "1"},
        "problem": "",
        "elapsed_s": 0.1,
    }


def test_processor_features_are_read_from_the_kernel() -> None:
    intel = "model name\t: X\nflags\t\t: fpu avx2 avx512f avx512_vnni\n"
    assert read_features(intel) == {"AVX2": True, "AVX-512": True, "VNNI": True, "BF16": False, "AMX": False}
    assert read_features("Features\t: fp asimd asimddp\n") == {"NEON dot product": True}
    assert read_features("") is None


def test_this_machine_can_be_looked_at() -> None:
    here = look_at_machine()
    assert here.cores >= 1
    assert here.python.startswith("3.")
