"""Exports of other projects: what is recognised, from which numbers, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloship.detect.detector import Detector
from yoloship.errors import InputError, SessionError
from yoloship.model import ModelInfo, TensorSpec
from yoloship.models.loading import load
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks.foreign import cells_of
from yoloship.tasks.recognise import recognise_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    Arrays = list[npt.NDArray[Any]]

HW = (64, 96)
STRIDES = (8, 16, 32)
CELLS = len(cells_of(STRIDES, HW)[0])
IMAGE = np.full((128, 192, 3), 90, np.uint8)
NAMES = "{0: 'cat', 1: 'dog', 2: 'cow'}"


def session(
    answer: Callable[[Mapping[str, npt.NDArray[Any]]], Arrays] | Arrays,
    outputs: Sequence[tuple[str, tuple[int | str, ...]]],
    metadata: Mapping[str, str],
    *,
    takes_size: bool = False,
    shape: tuple[int | str, ...] = (1, 3, *HW),
) -> ScriptedSession:
    inputs = [TensorSpec("images", "float32", shape)]
    if takes_size:
        inputs.append(TensorSpec("orig_target_sizes", "int64", (shape[0], 2)))
    script = answer if callable(answer) else lambda _: answer
    return ScriptedSession(
        inputs, [TensorSpec(name, "float32", axes) for name, axes in outputs], script, metadata=metadata
    )


def recognised(found: ScriptedSession, names: Sequence[str] | None = None) -> ModelInfo:
    return recognise_foreign(found, "x.onnx", None, names)


def refused(found: ScriptedSession, names: Sequence[str] | None = None) -> str:
    with pytest.raises(SessionError) as caught:
        recognised(found, names)
    return str(caught.value)


def channel_rows(batch: int = 1, further: int = 0, score: float = 0.01, hw: tuple[int, int] = HW) -> npt.NDArray[Any]:
    """(B, 7 + E, N): boxes of two cells around every cell; one cat of a score of 0.9."""
    cells, scales = cells_of(STRIDES, hw)
    rows = np.zeros((batch, 7 + further, len(cells)), np.float32)
    rows[:, :2] = ((cells + 0.5) * scales).T
    rows[:, 2:4] = 2 * scales.T
    rows[:, 4:7] = score
    rows[:, 4, 17] = 0.9
    return rows


def with_points(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The rows with two keypoints of three numbers behind the class scores, near each cell."""
    rng = np.random.default_rng(5)
    cells, scales = cells_of(STRIDES, HW)
    for start in (7, 10):
        rows[:, start : start + 2] = (cells + rng.normal(0.5, 0.4, cells.shape)).T * scales.T
        rows[:, start + 2] = rng.uniform(0, 1, len(cells))
    return rows


ULTRALYTICS = {"task": "detect", "names": NAMES, "stride": "32", "version": "8.3.0"}


def test_ultralytics_detection_is_read_by_its_metadata_and_its_numbers() -> None:
    model = session([channel_rows()], [("output0", (1, 7, CELLS))], ULTRALYTICS)
    found = recognised(model)
    assert (found.task, found.family, found.output_form, found.strides) == ("detect", "ultralytics", "raw", STRIDES)
    with Detector(model, found) as detector:
        (cat,) = detector(IMAGE)
    x, y = (cells_of(STRIDES, HW)[0][17] + 0.5) * 8
    assert cat.class_name == "cat"
    assert cat.box_xyxy == (2 * (x - 8), 2 * (y - 8), 2 * (x + 8), 2 * (y + 8))


@pytest.mark.parametrize(
    ("task", "further", "more", "expected"),
    [
        ("obb", 1, {}, {"extra_columns": 1}),
        ("pose", 6, {"kpt_shape": "[2, 3]"}, {"extra_columns": 6, "keypoint_shape": (2, 3)}),
    ],
)
def test_other_tasks_have_their_columns(
    task: str, further: int, more: dict[str, str], expected: dict[str, object]
) -> None:
    rows = channel_rows(further=further)
    if task == "pose":
        rows = with_points(rows)
    model = session([rows], [("output0", rows.shape)], {**ULTRALYTICS, "task": task, **more})
    found = recognised(model)
    assert found.task == task
    assert {name: getattr(found, name) for name in expected} == expected


def test_segmentation_needs_its_prototypes_and_the_exporters_version() -> None:
    rows, prototypes = channel_rows(further=4), np.zeros((1, 4, HW[0] // 4, HW[1] // 4), np.float32)
    outputs = [("output0", rows.shape), ("output1", prototypes.shape)]
    metadata = {**ULTRALYTICS, "task": "segment"}
    found = recognised(session([rows, prototypes], outputs, metadata))
    assert (found.task, found.extra_columns, found.mask_rule) == ("segment", 4, "ultralytics-8.2.43")
    assert "no prototypes" in refused(session([rows], outputs[:1], metadata))
    assert "no version of the exporter" in refused(session([rows, prototypes], outputs, {**metadata, "version": ""}))


def test_final_rows_of_a_model_without_suppression() -> None:
    rows = np.zeros((1, 5, 6), np.float32)
    rows[0, 0] = (10, 20, 30, 40, 0.8, 2)
    model = session([rows], [("output0", (1, 5, 6))], {**ULTRALYTICS, "end2end": "True"})
    with Detector(model, recognised(model)) as detector:
        (cow,) = detector(IMAGE)
    assert (cow.class_name, cow.box_xyxy) == ("cow", (20, 40, 60, 80))


def test_without_metadata_the_numbers_must_be_those_of_boxes_around_cells() -> None:
    found = recognised(session([channel_rows()], [("output0", (1, 7, CELLS))], {}))
    assert (found.family, found.class_names) == ("ultralytics", ("0", "1", "2"))
    corners = channel_rows()
    half = corners[:, 2:4] / 2
    corners[:, :4] = np.concatenate([corners[:, :2] - half, corners[:, :2] + half], axis=1)
    for rows, words in (
        (corners, r"corners \(x1, y1, x2, y2\)"),
        (
            channel_rows() * np.array([1 / 96, 1 / 64, 1 / 96, 1 / 64, 1, 1, 1], np.float32)[:, None],
            "normalised to 0..1",
        ),
        (np.roll(channel_rows(), 40, axis=2), "not around their cells"),
        (channel_rows(score=3.0), "scores outside 0 to 1"),
    ):
        with pytest.raises(SessionError, match=words):
            recognised(session([rows], [("output0", (1, 7, CELLS))], {}))
    message = refused(session([channel_rows(further=1)], [("output0", (1, 8, CELLS))], {"names": NAMES}))
    assert "cannot be told apart" in message


def test_dynamic_axes_are_tried() -> None:
    def answer(feeds: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        batch, _, *hw = feeds["images"].shape
        return [channel_rows(batch, hw=(hw[0], hw[1]))]

    shape = ("batch", 3, "height", "width")
    found = recognised(session(answer, [("output0", ("batch", 7, "anchors"))], ULTRALYTICS, shape=shape))
    assert (found.batch, found.input_hw) == (None, (None, None))


def test_an_objectness_of_one_is_yolov6() -> None:
    channels = channel_rows()
    rows = np.concatenate([channels[:, :4], np.ones((1, 1, CELLS), np.float32), channels[:, 4:]], axis=1)
    rows = np.ascontiguousarray(rows.transpose(0, 2, 1))
    model = session([rows], [("outputs", rows.shape)], {"names": NAMES})
    with Detector(model, recognised(model)) as detector:
        (cat,) = detector(IMAGE)
    assert (cat.class_name, cat.score) == ("cat", pytest.approx(0.9))


def yolox_rows() -> npt.NDArray[Any]:
    rows = np.random.default_rng(0).normal(0, 0.3, (1, CELLS, 8)).astype(np.float32)
    rows[..., 4:] = 0.01
    rows[0, 17] = (0.5, 0.25, np.log(2), np.log(3), 0.9, 0.0, 1.0, 0.0)
    return rows


def test_yolox_is_decoded_and_fed_bytes_at_the_top_left() -> None:
    model = session([yolox_rows()], [("output", (1, CELLS, 8))], {"names": NAMES})
    found = recognised(model)
    assert (found.family, found.output_form, found.framing, found.pixels) == ("yolox", "offsets", "top_left", "bgr255")
    image = np.zeros((64, 48, 3), np.uint8)
    image[:] = (10, 20, 30)
    with Detector(model, found) as detector:
        (dog,) = detector(image)
    column, row = cells_of(STRIDES, HW)[0][17]
    x, y = (column + 0.5) * 8, (row + 0.25) * 8
    expected = np.clip([x - 8, y - 12, x + 8, y + 12], 0, [48, 64, 48, 64])
    assert dog.class_name == "dog"
    np.testing.assert_allclose(dog.box_xyxy, expected, rtol=1e-6)
    fed = model.calls[-1]["images"][0]
    assert fed[:, 0, 0].tolist() == [10, 20, 30]
    assert fed[:, -1, -1].tolist() == [114] * 3


def test_a_network_that_sees_objects_in_grey_is_not_taken_for_yolox() -> None:
    rows = yolox_rows()
    rows[..., 4] = 0.5
    assert "not decoded, as in YOLOX exports" in refused(session([rows], [("output", (1, CELLS, 8))], {"names": NAMES}))


def detr(feeds: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    width, height = feeds["orig_target_sizes"][0]
    boxes = np.array([[[0.25, 0.5, 0.5, 1.0], [0, 0, 0.1, 0.1]]], np.float32)
    return [
        np.array([[1, 0]]),
        boxes * np.array([width, height, width, height], np.float32),
        np.array([[0.9, 0.1]], np.float32),
    ]


DETR_OUTPUTS = [("labels", (1, 2)), ("boxes", (1, 2, 4)), ("scores", (1, 2))]


def test_a_detr_is_stretched_and_asked_for_boxes_on_its_canvas() -> None:
    model = session(detr, DETR_OUTPUTS, {"names": NAMES}, takes_size=True)
    found = recognised(model)
    assert (found.output_form, found.framing) == ("set", "stretch")
    with Detector(model, found) as detector:
        (dog,) = detector(np.zeros((100, 300, 3), np.uint8))
    assert dog.class_name == "dog"
    np.testing.assert_allclose(dog.box_xyxy, (75, 50, 150, 100), rtol=1e-6)
    assert model.calls[-1]["orig_target_sizes"].tolist() == [[HW[1], HW[0]]]


def test_a_detr_needs_class_names_and_boxes_that_follow_the_size() -> None:
    assert "give them with --names" in refused(session(detr, DETR_OUTPUTS, {}, takes_size=True))
    assert recognised(session(detr, DETR_OUTPUTS, {}, takes_size=True), ["a", "b"]).class_names == ("a", "b")

    def fixed(feeds: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        return detr({"orig_target_sizes": np.array([[96, 64]] * len(feeds["images"]))})

    assert "not follow the requested size" in refused(session(fixed, DETR_OUTPUTS, {"names": NAMES}, takes_size=True))
    assert "class ids up to 1 beside 1 class names" in refused(session(detr, DETR_OUTPUTS, {}, takes_size=True), ["a"])


def test_yolov7_with_suppression_is_made_to_find_something_and_then_checked() -> None:
    def answer(feeds: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        loud = np.abs(feeds["images"]).max() > 5
        rows = [(0, 10, 20, 30, 40, 1, 0.5), (0, 1, 2, 3, 4, 2, 0.9)] if loud or feeds["images"].max() < 0.4 else []
        return [np.array(rows, np.float32).reshape(-1, 7)]

    model = session(answer, [("output", ("n", 7))], {"names": NAMES})
    found = recognised(model)
    assert (found.family, found.output_form) == ("yolov7", "list")
    with Detector(model, found) as detector:
        best, other = detector(IMAGE)
    assert (best.class_name, other.class_name) == ("cow", "dog")
    assert other.box_xyxy == (20, 40, 60, 80)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "stays empty"),
        ([(0, 10, 20, 30, 40, 0.5, 1)], "not YOLOv7's"),
        ([(0, 30, 40, 10, 20, 1, 0.5)], "not corners (x1, y1, x2, y2)"),
        ([(0, 0.1, 0.2, 0.3, 0.4, 1, 0.5)], "normalised"),
        ([(3, 10, 20, 30, 40, 1, 0.5)], "not YOLOv7's"),
        ([(0, 10, 20, 30, 40, 7, 0.5)], "class ids up to 7"),
    ],
)
def test_another_list_of_seven_numbers_is_refused(rows: list[tuple[float, ...]], words: str) -> None:
    array = np.array(rows, np.float32).reshape(-1, 7)
    assert words in refused(session([array], [("output", ("n", 7))], {"names": NAMES}))


def test_the_outputs_of_tensorrts_plugin() -> None:
    arrays: Arrays = [
        np.array([[1]], np.int32), np.array([[[10, 20, 30, 40], [9, 9, 9, 9]]], np.float32),
        np.array([[0.7, 0.9]], np.float32), np.array([[2, 0]], np.int32),
    ]  # fmt: skip
    outputs = [("num_dets", (1, 1)), ("det_boxes", (1, 2, 4)), ("det_scores", (1, 2)), ("det_classes", (1, 2))]
    model = session(arrays, outputs, {"names": NAMES})
    with Detector(model, recognised(model)) as detector:
        (cow,) = detector(IMAGE)  # the second row is padding
    assert (cow.class_name, cow.box_xyxy) == ("cow", (20, 40, 60, 80))


def test_such_models_have_no_rectangles_of_their_own() -> None:
    model = session(detr, DETR_OUTPUTS, {"names": NAMES}, takes_size=True)
    with pytest.raises(InputError):
        Detector(model, recognised(model), shape_mode="rect")


def test_the_records_of_such_models_can_be_stored() -> None:
    found = recognised(session([yolox_rows()], [("output", (1, CELLS, 8))], {"names": NAMES}))
    assert ModelInfo.from_json(found.to_json()) == found


def detr_file() -> bytes:
    """A graph with a DETR's inputs and outputs, whose second box follows the mean of the image."""
    constants = {
        "one": np.array([[0]], np.int64), "labels": np.array([[1, 0]]), "scores": np.array([[0.9, 0.1]], np.float32),
        "parts": np.array([[[0.25, 0.5, 0.5, 1.0], [0, 0, 0.1, 0.1]]], np.float32), "axis": np.array([1], np.int64),
        "grid": np.zeros((1, 1, 1, 2), np.float32), "shape": np.array([1, 1, 1], np.int64),
        "channels": np.ones((1, 3, 1, 1), np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Concat", ["orig_target_sizes", "orig_target_sizes"], ["twice"], axis=1),
        helper.make_node("Cast", ["twice"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "axis"], ["sizes"]),
        helper.make_node("Conv", ["images", "channels"], ["map"]),
        helper.make_node("GridSample", ["map", "grid"], ["sample"]),
        helper.make_node("Reshape", ["sample", "shape"], ["nothing"]),
        helper.make_node("Mul", ["nothing", "zero"], ["zeros"]),
        helper.make_node("Add", ["parts", "zeros"], ["moved"]),
        helper.make_node("Mul", ["moved", "sizes"], ["boxes"]),
        helper.make_node("Identity", ["labels_in"], ["labels"]),
        helper.make_node("Identity", ["scores_in"], ["scores"]),
    ]
    names = {"labels": "labels_in", "scores": "scores_in"}
    stored = [numpy_helper.from_array(value, names.get(name, name)) for name, value in constants.items()]
    stored.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    graph = helper.make_graph(
        nodes,
        "detr",
        [
            helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]),
            helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *HW]),
        ],
        [
            helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 2]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 2, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2]),
        ],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def test_a_detr_runs_through_the_real_runtime_whatever_the_order_of_its_inputs() -> None:
    with load(detr_file(), class_names=["cat", "dog"]) as detector:
        (dog,) = detector(np.zeros((100, 300, 3), np.uint8))
    assert dog.class_name == "dog"
    np.testing.assert_allclose(dog.box_xyxy, (75, 50, 150, 100), rtol=1e-6)
