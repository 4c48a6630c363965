from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.decoded import HW, METADATA, as_corners, foreign, grid_rows, raw, refusal
from helpers.models import ANCHORS, NAMES, STRIDES, constant_raw, image_session, info, random_heads
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError, SessionError
from yoloship.model import METADATA_KEY, ModelInfo, TensorSpec
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks import form_of, info_of
from yoloship.tasks.decode import heads_to_raw

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


def test_a_file_of_ours_says_what_it_is_and_is_not_run() -> None:
    session = image_session(info(), [])
    assert info_of(session, "x.onnx") == info()
    assert session.calls == ()


def test_a_standard_export_is_recognised_through_the_real_runtime() -> None:
    data = constant_raw(raw(), HW, METADATA).SerializeToString()
    with OnnxRuntimeSession.open(data) as session:
        found = info_of(session, "x.onnx")
    assert found.class_names == NAMES
    assert found.strides == STRIDES
    assert found.input_hw == HW
    assert found.batch == 1
    assert (found.input_form, found.output_form) == ("float", "raw")


def test_without_metadata_classes_are_numbered() -> None:
    assert info_of(foreign(raw(), {}), "x.onnx").class_names == ("0", "1", "2")


def test_dynamic_axes_stay_dynamic() -> None:
    heads = heads_to_raw(random_heads(0, (64, 64)), STRIDES, ANCHORS)
    session = foreign(heads, shape=("batch", 3, "height", "width"), declared=("batch", "anchors", 8))
    found = info_of(session, "x.onnx", canvas_hw=(64, 64))
    assert session.calls[0]["images"].shape == (1, 3, 64, 64)
    assert found.input_hw == (64, 64)  # this session answers for that size only
    assert found.batch == 1


def grid_session(
    strides: tuple[int, ...] = STRIDES,
    baked: tuple[int | None, int | None] = (None, None),
    anchors: int = 3,
    names: tuple[str, ...] = (),
) -> ScriptedSession:
    """A model of dynamic batch and size, of which some may be baked into constants."""

    def answer(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
        batch, _, height, width = feeds["images"].shape
        if baked[0] not in {None, batch} or baked[1] not in {None, height}:
            raise SessionError("the runtime failed: cannot broadcast")
        return [grid_rows(strides, (height, width), batch, anchors)]

    return ScriptedSession(
        [TensorSpec("images", "float32", ("batch", 3, "height", "width"))],
        [TensorSpec("output0", "float32", ("batch", "boxes", 8))],
        answer,
        metadata={"names": str(dict(enumerate(names)))} if names else {},
    )


def test_dynamic_sizes_are_tried_at_the_canvas_and_found_to_be_dynamic() -> None:
    session = grid_session()
    found = info_of(session, "x.onnx")
    assert session.calls[0]["images"].shape == (1, 3, 640, 640)
    assert found.input_hw == (None, None)
    assert found.batch is None


def test_a_baked_batch_is_found() -> None:
    found = info_of(grid_session(baked=(1, None)), "x.onnx", canvas_hw=(256, 256))
    assert (found.batch, found.input_hw) == (1, (None, None))


def test_a_baked_size_is_found() -> None:
    found = info_of(grid_session(baked=(None, 640)), "x.onnx")
    assert (found.batch, found.input_hw) == (None, (640, 640))


def test_another_size_than_the_baked_one_is_refused_with_the_one_that_works() -> None:
    with pytest.raises(SessionError) as caught:
        info_of(grid_session(baked=(None, 640)), "x.onnx", canvas_hw=(320, 320))
    assert "expected 640×640, got 320×320; give this size, which is --imgsz 640x640" in str(caught.value)
    with pytest.raises(SessionError, match=r"fails at 640×640: .* exported for as imgsz"):
        info_of(grid_session(baked=(None, 320)), "x.onnx")


def test_a_size_that_does_not_fit_the_stride_does_not_make_a_graph_fixed() -> None:
    def answer(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
        batch, _, height, width = feeds["images"].shape
        if height % 64 or width % 64:
            raise SessionError("the runtime failed: axes differ")
        return [grid_rows((8, 16, 32, 64), (height, width), batch)]

    session = ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, "height", "width"))], [TensorSpec("output0", "float32", (1, "n", 8))],
        answer,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"fails at 96×96: .*multiples of the model's largest stride"):
        info_of(session, "x.onnx", canvas_hw=(96, 96))


@pytest.mark.parametrize("names", ["", "['a', 'b', 'c']"])
def test_deepstream_outputs_are_named(names: str) -> None:
    metadata = {"names": names} if names else {}
    rows = as_corners(grid_rows(STRIDES, HW))
    joined = np.concatenate([rows[..., :5], rows[..., 5:].argmax(-1)[..., None].astype(np.float32)], axis=-1)
    assert "corners (x1, y1, x2, y2), as DeepStream" in refusal(foreign(joined, metadata))
    parts = [rows[..., :4], rows[..., 4:5], joined[..., 5:]]
    session = ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW))],
        [TensorSpec(f"o{place}", "float32", part.shape) for place, part in enumerate(parts)],
        lambda _: parts,
        metadata=metadata,
    )
    assert "boxes and scores in separate outputs, as in DeepStream" in refusal(session)
    assert refusal(session).endswith("'yoloship export' writes the standard form, without NMS")


def several(*outputs: npt.NDArray[np.float32]) -> ScriptedSession:
    return ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW))],
        [TensorSpec(f"o{place}", "float32", output.shape) for place, output in enumerate(outputs)],
        lambda _: list(outputs),
        metadata=METADATA,
    )


def test_of_several_decoded_outputs_the_one_with_all_levels_is_taken() -> None:
    rows = grid_rows(STRIDES, HW)
    first = 3 * 8 * 12
    found = info_of(several(rows[:, :first], rows, rows), "x.onnx")
    assert (found.decoded_output, found.strides) == ("o1", STRIDES)


def test_levels_in_outputs_of_their_own_are_refused_rather_than_lost() -> None:
    rows = grid_rows(STRIDES, HW)
    bounds = np.cumsum([3 * (64 // stride) * (96 // stride) for stride in STRIDES])[:-1]
    text = refusal(several(*np.split(rows, bounds, axis=1)))
    assert "levels in separate outputs: strides 8 and 16 and 32" in text
    assert "one output that joins them" in text


def test_a_decoded_output_that_is_not_the_first_is_found_and_recorded() -> None:
    rows = grid_rows(STRIDES, HW)
    maps = np.zeros((1, 3, 8, 12, 8), np.float32)
    session = ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW))],
        [
            TensorSpec("map", "float32", maps.shape), TensorSpec("corners", "float32", rows.shape),
            TensorSpec("decoded", "float32", rows.shape),
        ],
        lambda _: [maps, as_corners(rows), rows],
        metadata=METADATA,
    )  # fmt: skip
    found = info_of(session, "x.onnx")
    assert found.decoded_output == "decoded"
    assert ModelInfo.from_json(found.to_json()) == found
    with Detector(session, options=DetectOptions(0.0, 1.0)) as detector:
        assert len(detector(np.zeros((*HW, 3), np.uint8))) > 0
        (place,) = form_of(detector.info, "x.onnx").places(session.outputs, detector.info)
        np.testing.assert_array_equal((maps, maps, rows)[place], rows)


def test_names_with_gaps_do_not_become_numbers() -> None:
    text = refusal(foreign(raw(), {"names": "{0: 'a', 2: 'b', 5: 'c'}"}))
    assert "ids have gaps" in text
    assert "--names" in text
    given = info_of(foreign(raw(), {"names": "{0: 'a', 2: 'b', 5: 'c'}"}), "x.onnx", class_names=("a", "b", "c"))
    assert given.class_names == ("a", "b", "c")


def test_names_that_are_given_replace_those_of_a_file_of_ours() -> None:
    session = image_session(info(), [])
    assert info_of(session, "x.onnx", class_names=("x", "y", "z")).class_names == ("x", "y", "z")
    with pytest.raises(InputError, match="needs one class name for each class: expected 3, got 2"):
        info_of(session, "x.onnx", class_names=("x", "y"))


@pytest.mark.parametrize(
    ("extra", "words"),
    [(1, "an angle (oriented boxes)"), (180, "180 angle classes"), (32, "mask coefficients"), (10, "5 landmarks")],
)
def test_columns_too_many_are_named(extra: int, words: str) -> None:
    rows = np.concatenate([raw(), np.full((1, raw().shape[1], extra), 0.5, np.float32)], axis=2)
    assert words in refusal(foreign(rows))


def test_a_foreign_model_of_one_channel_takes_grey_images() -> None:
    session = foreign(raw(), shape=(1, 1, *HW))
    with Detector(session) as detector:
        assert detector.info.channels == 1
        detector(np.zeros((*HW, 3), np.uint8))
    assert [call["images"].shape for call in session.calls] == [(1, 1, *HW)] * 2


def test_a_half_precision_input_is_fed_with_half_precision() -> None:
    rows = raw().astype(np.float16)
    session = ScriptedSession(
        [TensorSpec("images", "float16", (1, 3, *HW))],
        [TensorSpec("output0", "float16", rows.shape)],
        lambda _: [rows],
        metadata=METADATA,
    )
    with Detector(session) as detector:
        detector(np.full((*HW, 3), 90, np.uint8))
    assert [call["images"].dtype for call in session.calls] == [np.float16, np.float16]


@pytest.mark.parametrize(
    ("session", "words"),
    [
        (foreign(raw(), shape=(1, 40, 64, 96)), "got inputs images float32(1, 40, 64, 96)"),
        (foreign(raw(), dtype="uint8"), "got images uint8(1, 3, 64, 96): images of 0..255"),
        (foreign(raw(), dtype="float64"), "got inputs images float64(1, 3, 64, 96)"),
        (foreign(raw()[0]), "got outputs output0 float32(252, 8)".replace("252", str(raw().shape[1]))),
        (foreign(raw(), {"names": "{0: 'a'}"}), "1 class name beside an output"),
        (foreign(raw()[:, :-1]), "rows, which fit no grid of a 64×96 image"),
        (foreign(np.full((1, 300, 6), 0.5, np.float32), {}), "300 rows, which fit no grid"),
        (foreign(raw(), {**METADATA, "task": "segment"}), "no prototypes of masks beside its boxes"),
        (foreign(raw(), {**METADATA, "task": "sing"}), "a model for the task 'sing' cannot be run here yet"),
        (foreign(raw(), shape=(1, 3, 100_000, 100_000)), "an input images"),
    ],
)
def test_other_forms_are_refused_with_what_was_expected(session: ScriptedSession, words: str) -> None:
    text = refusal(session)
    assert words in text
    assert "expected" in text
    assert "\n" not in text


def test_a_record_that_contradicts_its_graph_is_refused() -> None:
    cases = [
        (info(input_hw=(64, 64)), info().to_json(), "expected one input uint8(1, 64, 96, 3)"),
        (info(), info("raw").to_json(), "the model's record says 'raw': expected 1 outputs, got 3"),
        (info(), info(task="depth").to_json(), "a model for the task 'depth'"),
        (info(), info("raw", class_names=()).to_json(), "names no classes"),
        (info(), info(input_form="float").to_json(), "expected one input float32(1, 3, 64, 96)"),
    ]
    for real, record, words in cases:
        session = image_session(real, [])
        lying = ScriptedSession(session.inputs, session.outputs, [], metadata={METADATA_KEY: record})
        assert words in refusal(lying)


def test_a_damaged_record_is_refused() -> None:
    session = image_session(info(), [])
    damaged = ScriptedSession(session.inputs, session.outputs, [], metadata={METADATA_KEY: "{"})
    with pytest.raises(InputError, match=r"x\.onnx: model record is not JSON"):
        info_of(damaged, "x.onnx")


def raw_session(record: ModelInfo, declared: tuple[int | str, ...]) -> ScriptedSession:
    """What an engine's metadata says, beside an output of this shape."""
    return ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW))],
        [TensorSpec("output0", "float32", declared)],
        lambda _: [np.zeros((1, 84, 126), np.float32)],
        metadata={METADATA_KEY: record.to_json()},
    )


@pytest.mark.parametrize(
    ("family", "declared", "words"),
    [
        ("yolov5", (1, 7, 126), "(B, 4 + classes, N) of YOLOv8 and later"),
        ("ultralytics", (1, 378, 8), "contradicts its output: expected (B, 7, N) for 3 classes"),
    ],
)
def test_a_model_is_not_decoded_as_one_of_another_family(
    family: str, declared: tuple[int | str, ...], words: str
) -> None:
    record = info("raw", input_form="float", family=family)
    assert words in refusal(raw_session(record, declared))


@pytest.mark.parametrize("declared", [(1, 7, 126), ("b", "c", "n")])
def test_a_record_of_a_family_without_anchors_fits_its_output(declared: tuple[int | str, ...]) -> None:
    record = info("raw", input_form="float", family="ultralytics")
    assert info_of(raw_session(record, declared), "x.onnx") == record


def test_an_output_that_contradicts_the_record_is_refused() -> None:
    record = info("raw", input_form="float")
    assert info_of(raw_session(record, (1, 378, 8)), "x.onnx") == record
    assert info_of(raw_session(record, ("b", "n", "c")), "x.onnx") == record
    assert "contradicts its output: expected (B, N, 8) for 3 classes, got" in refusal(raw_session(record, (1, 378, 9)))
    assert "contradicts its output" in refusal(raw_session(record, (378, 8)))
