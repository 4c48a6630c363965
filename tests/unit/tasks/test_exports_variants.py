"""The same exports in other dress: half precision, fixed batches, other orders of outputs, false metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import SessionError
from yoloship.model import ModelInfo, TensorSpec
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks.decode import heads_to_raw
from yoloship.tasks.foreign import cells_of
from yoloship.tasks.recognise import recognise_foreign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.model import DType

    Array = npt.NDArray[Any]

HW = (64, 96)
STRIDES = (8, 16, 32)
CELLS, SCALES = cells_of(STRIDES, HW)
NAMES = "{0: 'cat', 1: 'dog', 2: 'cow'}"
ULTRALYTICS = {"task": "detect", "names": NAMES, "version": "8.3.63"}
IMAGE = np.full((128, 192, 3), 90, np.uint8)
PROTOTYPES = np.ones((1, 4, HW[0] // 4, HW[1] // 4), np.float32)


def session(
    arrays: Sequence[Array], metadata: Mapping[str, str], *, dtype: DType = "float32", batch: int = 1
) -> ScriptedSession:
    cast = [array.astype(dtype) for array in arrays]
    return ScriptedSession(
        [TensorSpec("images", dtype, (batch, 3, *HW))],
        [TensorSpec(f"output{place}", dtype, array.shape) for place, array in enumerate(cast)],
        lambda _: cast,
        metadata=metadata,
    )


def recognised(found: ScriptedSession, names: Sequence[str] | None = None) -> ModelInfo:
    return recognise_foreign(found, "x.onnx", None, names)


def refused(found: ScriptedSession) -> str:
    with pytest.raises(SessionError) as caught:
        recognised(found)
    return str(caught.value)


def rows(batch: int = 1, further: Array | None = None) -> Array:
    """(B, 7 + E, N) with a cat of 0.9 at the cell 17."""
    found = np.zeros((batch, 7, len(CELLS)), np.float32)
    found[:, :2], found[:, 2:4], found[:, 4:] = ((CELLS + 0.5) * SCALES).T, 2 * SCALES.T, 0.01
    found[:, 4, 17] = 0.9
    return found if further is None else np.concatenate([found, further], axis=1)


def coefficients() -> Array:
    return np.random.default_rng(0).normal(0, 1, (1, 4, len(CELLS))).astype(np.float32)


def points(numbers: int = 3, count: int = 2) -> Array:
    """(1, K·D, N): keypoints near each cell."""
    rng = np.random.default_rng(5)
    found = np.empty((1, count, numbers, len(CELLS)), np.float32)
    for point in range(count):
        found[:, point, :2] = ((CELLS + rng.normal(0.5, 0.4, CELLS.shape)) * SCALES).T
        found[:, point, 2:] = rng.uniform(0, 1, len(CELLS))
    return found.reshape(1, -1, len(CELLS))


def found_cat(model: ScriptedSession) -> None:
    with Detector(model, recognised(model)) as detector:
        (cat,) = detector(IMAGE)
    x, y = (CELLS[17] + 0.5) * 8
    assert cat.class_name == "cat"
    np.testing.assert_allclose(cat.box_xyxy, (2 * (x - 8), 2 * (y - 8), 2 * (x + 8), 2 * (y + 8)), atol=0.1)


def test_half_precision_inputs_and_outputs() -> None:
    model = session([rows()], ULTRALYTICS, dtype="float16")
    found_cat(model)
    assert model.calls[-1]["images"].dtype == np.float16


def test_a_fixed_batch_of_several_images() -> None:
    model = session([rows(3)], ULTRALYTICS, batch=3)
    info = recognised(model)
    assert info.batch == 3
    with Detector(model, info) as detector:
        assert [len(one) for one in detector.detect_batch([IMAGE] * 2)] == [1, 1]


def test_more_outputs_than_the_decoded_one_in_any_order() -> None:
    maps = [np.zeros((1, 67, HW[0] // stride, HW[1] // stride), np.float32) for stride in STRIDES]
    for arrays in ([rows(), *maps], [*maps, rows()]):
        for metadata in (ULTRALYTICS, {"names": NAMES}):
            found_cat(session(arrays, metadata))


def test_two_outputs_that_could_both_be_the_rows_are_refused() -> None:
    assert "outputs (1, 7, 126), (1, 7, 126) of the task 'detect'" in refused(session([rows(), rows()], ULTRALYTICS))


def test_prototypes_may_come_first() -> None:
    metadata = {**ULTRALYTICS, "task": "segment"}
    for arrays in ([rows(further=coefficients()), PROTOTYPES], [PROTOTYPES, rows(further=coefficients())]):
        model = session(arrays, metadata)
        with Detector(model, recognised(model)) as detector:
            (cat,) = detector(IMAGE)
        assert cat.class_name == "cat"


@pytest.mark.parametrize(
    ("prototypes", "words"),
    [
        (PROTOTYPES[:, :3], "of the task 'segment' with 3 class names"),
        (PROTOTYPES[..., :5], "no prototypes of masks beside its boxes"),
    ],
)
def test_prototypes_that_contradict_the_rows_are_refused(prototypes: Array, words: str) -> None:
    arrays = [rows(further=coefficients()), prototypes]
    assert words in refused(session(arrays, {**ULTRALYTICS, "task": "segment"}))


def test_another_number_of_class_names_is_refused() -> None:
    message = refused(session([rows()], {**ULTRALYTICS, "names": "['a', 'b']"}))
    assert "outputs (1, 7, 126) of the task 'detect' with 2 class names" in message
    assert "give others with --names" in message


@pytest.mark.parametrize(
    ("shape", "numbers", "count", "words"),
    [
        ("[3, 2]", 3, 2, "keypoints in 0 to 1: normalised, or of a different shape than 3×2"),
        ("[2, 3]", 2, 3, "visibilities outside 0 to 1: its keypoint shape may be different from 2×3"),
        ("[1, 3]", 3, 2, "of the task 'pose' with 3 class names"),
        ("[0, 3]", 3, 2, "the keypoint shape '[0, 3]'"),
        ("[2, -3]", 3, 2, "the keypoint shape '[2, -3]'"),
        ("2 3", 3, 2, "the keypoint shape '2 3'"),
        ("[" + "9" * 10_000 + ", 3]", 3, 2, "the keypoint shape"),
        ("__import__('os')", 3, 2, "the keypoint shape"),
        ("", 3, 2, "the keypoint shape ''"),
    ],
)
def test_a_keypoint_shape_that_lies_is_refused(shape: str, numbers: int, count: int, words: str) -> None:
    metadata = {**ULTRALYTICS, "task": "pose", "kpt_shape": shape}
    message = refused(session([rows(further=points(numbers, count))], metadata))
    assert words in message
    assert len(message) < 600


def test_visibilities_of_an_old_faulty_export_are_refused() -> None:
    found = points().reshape(1, 2, 3, -1)
    raw_y = (found[:, :, 1] / SCALES[:, 0] - CELLS[:, 1]) / 2
    found[:, :, 2] = 1 / (1 + np.exp(-raw_y))
    model = session([rows(further=found.reshape(1, 6, -1))], {**ULTRALYTICS, "task": "pose", "kpt_shape": "[2, 3]"})
    assert "visibilities that are computed from y" in refused(model)


def test_final_rows_that_stay_empty_need_metadata_that_says_what_they_are() -> None:
    empty = np.zeros((1, 20, 6), np.float32)
    assert "final rows that stay empty" in refused(session([empty], ULTRALYTICS))
    for more in ({"end2end": "True"}, {"args": "{'nms': True, 'half': False}"}):
        assert recognised(session([empty], {**ULTRALYTICS, **more})).output_form == "end2end"


@pytest.mark.parametrize("text", ["(" * 5000, "{0: __import__('os').system('x')}", "[" + "'a'," * 3 + "0" * 5000 + "]"])
def test_names_that_are_not_names_are_refused_in_one_short_line(text: str) -> None:
    message = refused(session([rows()], {**ULTRALYTICS, "names": text}))
    assert "class names cannot be read" in message
    assert len(message) < 400


def object_rows(classes: int = 3, further: int = 4) -> Array:
    """(1, N, 5 + C + P) of YOLOv5's segmentation head, with one dog."""
    rng = np.random.default_rng(2)
    heads = [
        rng.normal(-2, 1, (1, 3 * (5 + classes + further), HW[0] // stride, HW[1] // stride)).astype(np.float32)
        for stride in STRIDES
    ]
    heads[0][0, 4:6, 2, 3] = 9, -9
    heads[0][0, 6, 2, 3] = 9
    anchors = tuple(((10.0 * stride / 8, 12.0 * stride / 8),) * 3 for stride in STRIDES)
    return heads_to_raw(heads, STRIDES, anchors, further)


def test_segmentation_of_yolov5_is_recognised_by_its_prototypes() -> None:
    for arrays in ([object_rows(), PROTOTYPES], [PROTOTYPES, object_rows()]):
        model = session(arrays, {"names": NAMES, "stride": "32"})
        info = recognised(model)
        assert (info.task, info.family, info.mask_rule, info.extra_columns) == ("segment", "yolov5", "yolov5", 4)
        assert ModelInfo.from_json(info.to_json()) == info
        with Detector(model, info, options=DetectOptions(score_threshold=0.5)) as detector:
            (dog,) = detector(IMAGE)
        assert dog.class_name == "dog"


def test_segmentation_of_yolov5_needs_class_names_and_real_coefficients() -> None:
    assert "give them with --names" in refused(session([object_rows(), PROTOTYPES], {}))
    flat = object_rows()
    flat[..., -4:] = 0.5
    assert "that are not mask coefficients" in refused(session([flat, PROTOTYPES], {"names": NAMES}))
    assert "1 class name beside an output" in refused(session([object_rows(), PROTOTYPES], {"names": "['a']"}))


def dynamic(metadata: Mapping[str, str], *, wide_for_noise: bool = False) -> ScriptedSession:
    """(B, N, 8) of one box for each cell, of any size; for noise the centres leave their cells if that is asked for."""

    def answer(feeds: Mapping[str, Array]) -> list[Array]:
        images = feeds["images"]
        cells, scales = cells_of(STRIDES, (images.shape[2], images.shape[3]))
        found = np.full((len(images), len(cells), 8), 0.3, np.float32)
        reach = 3.0 if wide_for_noise and np.abs(images).max() > 1 else 0.5
        found[..., :2] = (cells + 0.5 + np.random.default_rng(0).uniform(-reach, reach, cells.shape)) * scales
        found[..., 2:4], found[..., 4] = 3 * scales, 0.001
        return [found]

    return ScriptedSession(
        [TensorSpec("images", "float32", ("batch", 3, "height", "width"))],
        [TensorSpec("output0", "float32", ("batch", "boxes", 8))], answer, metadata=metadata,
    )  # fmt: skip


def test_decoded_boxes_of_yolox_leave_their_cells_for_noise() -> None:
    assert recognised(dynamic({"names": NAMES})).family == "yolov5"
    assert "centres that leave their cells for some images" in refused(dynamic({"names": NAMES}, wide_for_noise=True))


def test_a_dynamic_model_is_run_at_the_size_in_its_metadata_unless_another_is_asked_for() -> None:
    model = dynamic({"names": NAMES, "imgsz": "[128, 192]"})
    info = recognised(model)
    assert (info.input_hw, info.usual_hw) == ((None, None), (128, 192))
    assert model.calls[0]["images"].shape == (1, 3, 128, 192)
    with Detector(model, info) as detector:
        assert detector.input_hw == (128, 192)
    asked = dynamic({"names": NAMES, "imgsz": "[128, 192]"})
    recognise_foreign(asked, "x.onnx", (64, 64), None)
    assert asked.calls[0]["images"].shape == (1, 3, 64, 64)
    assert recognised(dynamic({"names": NAMES, "imgsz": "[128, 0]"})).usual_hw is None
