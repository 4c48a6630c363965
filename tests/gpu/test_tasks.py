"""Every task on a device, with networks that answer by copying, against the CPU pipeline with the same answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.canned_device import CannedSession
from helpers.task_answers import (
    DETECT_CASES,
    OBB_CASES,
    POSE_CASES,
    SEGMENT_CASES,
    TaskCase,
    assert_same_result,
    varied,
)
from yoloship.detect.detector import Defaults, Detector
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.options import DetectOptions
from yoloship.detect.pipeline import ModelInput
from yoloship.results.mask_rules import MASK_RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device

    Make = Callable[[TaskCase], Detector]

CASES = (*DETECT_CASES, *SEGMENT_CASES, *POSE_CASES, *OBB_CASES)
SIZES = ((50, 120), (200, 130), (64, 96), (33, 20))


@pytest.fixture
def make(device: Device, kernels: KernelSet) -> Iterator[Make]:
    before = device.usage()
    made: list[Detector] = []

    def on_device(case: TaskCase) -> Detector:
        session: Any = CannedSession(device, case.record, case.answer)
        pipeline = CudaPipeline(session, dict(kernels), ModelInput.checked(case.record, None, "square", "model"))
        made.append(Detector.over(pipeline, Defaults()))
        return made[-1]

    yield on_device
    for detector in made:
        detector.close()
    assert device.usage() == before


def make_images() -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (*hw, 3), dtype=np.uint8) for hw in SIZES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_images_give_the_results_of_the_cpu_pipeline(make: Make, case: TaskCase) -> None:
    detector, cpu = make(case), case.on_cpu()
    pipeline: Any = detector._pipeline
    assert pipeline.form.on_gpu(case.record)
    images = make_images()
    expected = [cpu(image) for image in images]
    assert all(len(one) > 2 for one in expected)
    for found, one in zip([detector(image) for image in images], expected, strict=True):
        assert_same_result(found, one)
    for found, one in zip(detector.detect_batch(images), expected, strict=True):
        assert_same_result(found, one)


@pytest.mark.parametrize(
    ("case", "retina"),
    [*((case, False) for case in CASES), *((case, True) for case in SEGMENT_CASES)],
    ids=lambda value: value.name if isinstance(value, TaskCase) else "image" if value else "canvas",
)
def test_each_image_of_a_batch_has_an_answer_of_its_own(
    device: Device, kernels: KernelSet, case: TaskCase, retina: bool
) -> None:
    options = DetectOptions(0.3, retina_masks=retina)
    images = make_images()

    def answer(canvas_hw: tuple[int, int], place: int) -> list[npt.NDArray[Any]]:
        return [varied(case, array, place) for array in case.answer(canvas_hw)]

    session: Any = CannedSession(device, case.record, case.answer, varied=partial(varied, case))
    pipeline = CudaPipeline(session, dict(kernels), ModelInput.checked(case.record, None, "square", "model"))
    assert len(images) in pipeline.batches
    expected = [
        replace(case, answer=partial(answer, place=place)).on_cpu()(image, options=options)
        for place, image in enumerate(images)
    ]
    assert expected[1] != case.on_cpu()(images[1], options=options)
    with Detector.over(pipeline, Defaults()) as detector:
        found = detector.detect_batch(images, options=options)
        for one, other in zip(found, expected, strict=True):
            assert_same_result(one, other)
        with ThreadPoolExecutor(4) as pool:
            for one in pool.map(lambda _: detector.detect_batch(images, options=options), range(8)):
                for place, result in enumerate(one):
                    assert_same_result(result, found[place])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize(
    "options",
    [
        DetectOptions(0.4, 0.3, 4, classes=("beta", 2)),
        DetectOptions(0.3, 0.7, 300, class_agnostic=True),
        DetectOptions(1.0),
    ],
    ids=["few", "agnostic", "nothing"],
)
def test_options_hold_for_every_task(make: Make, case: TaskCase, options: DetectOptions) -> None:
    if case.record.head == "one2one":  # which refuses options of suppression
        options = replace(options, class_agnostic=False)
    detector, cpu = make(case), case.on_cpu()
    for image in make_images():
        assert_same_result(detector(image, options=options), cpu(image, options=options))


@pytest.mark.parametrize("case", SEGMENT_CASES, ids=lambda case: case.name)
def test_masks_at_the_resolution_of_the_image_are_those_of_the_cpu_pipeline(make: Make, case: TaskCase) -> None:
    detector, cpu, options = make(case), case.on_cpu(), DetectOptions(0.3, 0.7, retina_masks=True)
    for image in make_images():
        found = detector(image, options=options)
        assert found.masks is not None
        assert found.masks.letterbox is None
        assert_same_result(found, cpu(image, options=options))


@pytest.mark.parametrize("case", SEGMENT_CASES[:4:2], ids=lambda case: case.name)
def test_masks_without_room_are_made_on_the_host(make: Make, case: TaskCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.detect.gpu.finishing._MASK_BYTES", 400)
    detector, image = make(case), make_images()[0]
    assert_same_result(detector(image), case.on_cpu()(image))


def test_a_row_of_no_class_is_an_error_as_on_the_cpu(make: Make) -> None:
    def answer(canvas_hw: tuple[int, int]) -> list[npt.NDArray[Any]]:
        (rows,) = CASES[3].answer(canvas_hw)
        rows[3, 5] = 7
        return [rows]

    case, image = replace(CASES[3], answer=answer), make_images()[0]
    with pytest.raises(Exception, match="class id outside") as on_cpu:
        case.on_cpu()(image)
    with pytest.raises(type(on_cpu.value), match="class id outside"):
        make(case)(image)


@pytest.mark.parametrize(
    "case", [DETECT_CASES[1], SEGMENT_CASES[3], POSE_CASES[1], OBB_CASES[1]], ids=lambda case: case.name
)
def test_more_candidates_than_the_kernels_look_at_give_the_exact_result_all_the_same(
    make: Make, case: TaskCase
) -> None:
    def many(canvas_hw: tuple[int, int]) -> list[npt.NDArray[Any]]:
        first, *rest = case.answer(canvas_hw)
        if case.record.output_form == "raw":
            first = np.tile(first, (1, 12))[:, :1500]
        return [first, *rest]

    crowded, image = replace(case, answer=many), make_images()[1]
    for options in (DetectOptions(0.0, 0.6, 300), DetectOptions(0.001, 0.2, 20, classes=("alpha",))):
        assert_same_result(make(crowded)(image, options=options), crowded.on_cpu()(image, options=options))


@pytest.mark.parametrize("case", [DETECT_CASES[1], POSE_CASES[2], OBB_CASES[2]], ids=lambda case: case.name)
def test_pairs_without_room_are_found_on_the_host(make: Make, case: TaskCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.detect.gpu.finishing._MOST_PAIRS", 1)
    options, image = DetectOptions(0.0), make_images()[0]
    assert_same_result(make(case)(image, options=options), case.on_cpu()(image, options=options))


@pytest.mark.parametrize("case", SEGMENT_CASES[1:4:2], ids=lambda case: case.name)
@pytest.mark.parametrize("retina", [False, True], ids=["canvas", "image"])
@pytest.mark.parametrize("rule", MASK_RULES)
def test_masks_are_made_by_the_rule_that_a_call_names(make: Make, case: TaskCase, rule: str, retina: bool) -> None:
    options = DetectOptions(0.3, 0.7, 20, retina_masks=retina, mask_rule=rule)
    detector, cpu = make(case), case.on_cpu()
    for image in make_images()[:2]:
        assert_same_result(detector(image, options=options), cpu(image, options=options))
