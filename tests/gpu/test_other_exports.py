"""Exports of other projects on a device: what runs there, what is left to the CPU, and engines with a prefix."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers import tensorrt_standin as standin
from helpers.canned_device import CannedSession
from helpers.device_sessions import stand_in_opener
from helpers.other_exports import CELLS, HW, STRIDES, channel_rows, constant_export, detr_export, yolox_export
from helpers.task_answers import DETECT_CASES, SEGMENT_CASES, TaskCase, assert_same_result
from yoloship.detect.cpu import CpuPipeline
from yoloship.detect.detector import Defaults, Detector
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.pipeline import ModelInput
from yoloship.errors import SessionError
from yoloship.models import gpu_loading
from yoloship.runtime.tensorrt import TensorRTSession

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device

IMAGE = np.full((128, 192, 3), 90, np.uint8)
NAMES = ["cat", "dog", "cow"]


@pytest.fixture
def folder(device: Device, tmp_path: Path) -> Path:
    """Where a test writes engines of the stand-in for TensorRT, if it can compute on this device."""
    stand_in_opener(device, tmp_path)
    return tmp_path


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str] | None = None) -> Detector:
    def opened(file: Path, device: Device, *_: object) -> TensorRTSession:
        return TensorRTSession.open(file, device, flavour=standin.flavour())

    monkeypatch.setattr(gpu_loading, "_open", opened)
    return gpu_loading.load_on_gpu(
        path, 0, defaults=Defaults(), imgsz=None, shape_mode="square", tuning=None, model_name="x.engine",
        class_names=names,
    )  # fmt: skip


def prefixed(path: Path, metadata: dict[str, Any], made: onnx.ModelProto) -> Path:
    about = json.dumps({"stride": 32, "batch": 1, "imgsz": list(HW), "names": dict(enumerate(NAMES)), **metadata})
    plan = standin.plan(made, [{"images": ((1, 3, *HW),) * 3}])
    path.write_bytes(b"".join([len(about).to_bytes(4, "little"), about.encode(), plan]))
    return path


ULTRALYTICS = {"task": "detect", "version": "8.3.63", "description": "Ultralytics YOLOv8n model"}


@pytest.mark.parametrize("description", ["Ultralytics YOLOv8n model", "Ultralytics best model trained on x.yaml", None])
def test_an_engine_with_metadata_in_front_is_recognised_by_its_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, description: str | None
) -> None:
    metadata = {**ULTRALYTICS, "description": description}
    made = constant_export({"output0": channel_rows()})
    with loaded(prefixed(folder / "a.engine", metadata, made), monkeypatch) as detector:
        info = detector.info
        assert (info.task, info.family, info.output_form, info.strides) == ("detect", "ultralytics", "raw", STRIDES)
        (cat,) = detector(IMAGE)
    x, y = (CELLS[17] + 0.5) * 8
    assert cat.class_name == "cat"
    np.testing.assert_allclose(cat.box_xyxy, (2 * (x - 8), 2 * (y - 8), 2 * (x + 8), 2 * (y + 8)), rtol=1e-6)


def test_engines_of_other_tasks_have_what_their_metadata_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    angles = np.random.default_rng(0).uniform(-0.7, 2, (1, 1, len(CELLS)))
    made = constant_export({"output0": channel_rows(angles)})
    with loaded(prefixed(folder / "a.engine", {**ULTRALYTICS, "task": "obb"}, made), monkeypatch) as detector:
        found = detector(IMAGE)
    assert found.boxes_xywhr is not None
    np.testing.assert_allclose(found.boxes_xywhr[0, 4], angles[0, 0, 17], rtol=1e-5)
    coefficients = np.random.default_rng(0).normal(0, 1, (1, 4, len(CELLS)))
    prototypes = np.ones((1, 4, HW[0] // 4, HW[1] // 4), np.float32)
    made = constant_export({"output0": channel_rows(coefficients), "output1": prototypes})
    with loaded(prefixed(folder / "b.engine", {**ULTRALYTICS, "task": "segment"}, made), monkeypatch) as detector:
        assert detector.info.mask_rule == "ultralytics-8.2.43"


@pytest.mark.parametrize(
    ("metadata", "words"),
    [({"names": {"0": "cat"}}, "with 1 class names"), ({"task": "pose", "kpt_shape": [1, 3]}, "of the task 'pose'")],
)
def test_an_engine_whose_metadata_contradicts_its_numbers_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, metadata: dict[str, Any], words: str
) -> None:
    path = prefixed(folder / "a.engine", {**ULTRALYTICS, **metadata}, constant_export({"output0": channel_rows()}))
    with pytest.raises(SessionError, match=words):
        loaded(path, monkeypatch)


def test_a_model_that_takes_other_pixels_leaves_all_but_the_network_to_the_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = standin.write_plan(folder / "a.engine", yolox_export(), [{"images": ((1, 3, *HW),) * 3}])
    with loaded(path, monkeypatch, NAMES) as detector:
        pipeline: Any = detector._pipeline
        assert isinstance(pipeline, CpuPipeline)
        assert pipeline.device.startswith("cuda")
        assert (detector.info.pixels, detector.info.framing) == ("bgr255", "top_left")
        (dog,) = detector(IMAGE)
    assert dog.class_name == "dog"


def test_a_model_with_a_second_input_leaves_all_but_the_network_to_the_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = {"images": ((1, 3, *HW),) * 3, "orig_target_sizes": ((1, 2),) * 3}
    path = standin.write_plan(folder / "a.engine", detr_export(), [shapes])
    with loaded(path, monkeypatch, NAMES[:2]) as detector:
        assert isinstance(detector._pipeline, CpuPipeline)
        (dog,) = detector(np.zeros((100, 300, 3), np.uint8))
        record = detector.info
    assert dog.class_name == "dog"
    np.testing.assert_allclose(dog.box_xyxy, (75, 50, 150, 100), rtol=1e-6)
    path = standin.write_plan(folder / "b.engine", detr_export(), [shapes], info=record)
    with loaded(path, monkeypatch) as detector:  # by its sidecar
        assert detector.info == record
        (dog,) = detector(np.zeros((100, 300, 3), np.uint8))
    np.testing.assert_allclose(dog.box_xyxy, (75, 50, 150, 100), rtol=1e-6)


@pytest.mark.parametrize("case", [*DETECT_CASES, *SEGMENT_CASES[:4:3]], ids=lambda case: case.name)
@pytest.mark.parametrize("framing", ["stretch", "top_left"])
def test_another_place_on_the_canvas_gives_the_results_of_the_cpu_pipeline(
    device: Device, kernels: KernelSet, case: TaskCase, framing: Any
) -> None:
    case = replace(case, record=replace(case.record, framing=framing))
    session: Any = CannedSession(device, case.record, case.answer)
    pipeline = CudaPipeline(session, dict(kernels), ModelInput.checked(case.record, None, "square", "model"))
    with Detector.over(pipeline, Defaults()) as detector, case.on_cpu() as cpu:
        for hw in ((50, 120), (200, 130), (64, 96), (33, 20), (7, 301), (1080, 810)):
            image = np.random.default_rng(3).integers(0, 256, (*hw, 3), dtype=np.uint8)
            assert_same_result(detector(image), cpu(image))
            fed = next(context.fed() for context in session.contexts if context.fed().any())
            placed = ModelInput.checked(case.record, None, "square", "model").placement(hw).apply(image)
            np.testing.assert_array_equal(fed[0], placed)
