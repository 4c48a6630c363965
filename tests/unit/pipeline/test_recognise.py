from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from _models import ANCHORS, NAMES, STRIDES, constant_raw, info, picture_session, random_heads
from yoloship.errors import InputError, SessionError
from yoloship.model import METADATA_KEY
from yoloship.pipeline import heads_to_raw, recognise
from yoloship.runtime import OnnxRuntimeSession, ScriptedSession
from yoloship.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from yoloship.model import ModelInfo
    from yoloship.tensors import DType

HW = (64, 96)
METADATA = {"names": "{0: 'alpha', 1: 'beta', 2: 'gamma'}", "stride": "32"}


def raw(seed: int = 0) -> npt.NDArray[np.float32]:
    return heads_to_raw(random_heads(seed, HW), STRIDES, ANCHORS)


def foreign(
    output: npt.NDArray[np.generic],
    metadata: Mapping[str, str] | None = None,
    shape: tuple[int | str, ...] = (1, 3, *HW),
    dtype: DType = "float32",
    declared: tuple[int | str, ...] | None = None,
) -> ScriptedSession:
    answer = TensorSpec("output0", "float32", output.shape if declared is None else declared)
    return ScriptedSession(
        [TensorSpec("images", dtype, shape)],
        [answer],
        lambda _: [output],
        metadata=METADATA if metadata is None else metadata,
    )


def refusal(session: ScriptedSession) -> str:
    with pytest.raises(SessionError) as caught:
        recognise(session, "x.onnx")
    return str(caught.value)


def test_a_file_of_ours_says_what_it_is_and_is_not_run() -> None:
    session = picture_session(info(), [])
    assert recognise(session, "x.onnx") == info()
    assert session.calls == ()


def test_a_standard_export_is_recognised_through_the_real_runtime() -> None:
    data = constant_raw(raw(), HW, METADATA).SerializeToString()
    with OnnxRuntimeSession.open(data) as session:
        found = recognise(session, "x.onnx")
    assert found.class_names == NAMES
    assert found.strides == STRIDES
    assert found.input_hw == HW
    assert found.batch == 1
    assert (found.input_form, found.output_form) == ("float", "raw")


def test_without_metadata_classes_are_numbered() -> None:
    assert recognise(foreign(raw(), {}), "x.onnx").class_names == ("0", "1", "2")


def test_dynamic_axes_stay_dynamic() -> None:
    heads = heads_to_raw(random_heads(0, (64, 64)), STRIDES, ANCHORS)
    session = foreign(heads, shape=("batch", 3, "height", "width"), declared=("batch", "anchors", 8))
    found = recognise(session, "x.onnx")
    assert found.input_hw == (None, None)
    assert found.batch is None
    assert session.calls[0]["images"].shape == (1, 3, 64, 64)


def test_four_levels_are_recognised_by_their_rows() -> None:
    rows = 3 * sum((64 // s) * (64 // s) for s in (8, 16, 32, 64))
    output = np.full((1, rows, 8), 0.5, np.float32)
    metadata = {**METADATA, "stride": "64"}
    assert recognise(foreign(output, metadata, (1, 3, 64, 64)), "x.onnx").strides == (8, 16, 32, 64)
    assert recognise(foreign(output, {}, (1, 3, 64, 64)), "x.onnx").strides == (8, 16, 32, 64)


@pytest.mark.parametrize("finest", [slice(0, 3 * 8 * 12), slice(-3 * 8 * 12, None)])
def test_a_stale_anchor_grid_is_said_in_one_line(finest: slice) -> None:
    broken = raw()
    broken[:, finest, 2:4] = 0
    text = refusal(foreign(broken))
    assert text.startswith("x.onnx: every box of the finest level (stride 8) has zero size")
    assert "export it again from its .pt" in text
    assert "\n" not in text


def test_the_finest_level_may_hold_some_boxes_without_size() -> None:
    healthy = raw()
    healthy[:, : 3 * 8 * 12 - 1, 2:4] = 0
    assert recognise(foreign(healthy), "x.onnx").class_names == NAMES


@pytest.mark.parametrize("names", ["{0: 'a', 1: 'b', 2: 'c', 3: 'd'}", ""])
def test_an_anchor_free_output_is_named(names: str) -> None:
    cells = sum((HW[0] // s) * (HW[1] // s) for s in STRIDES)
    output = np.full((1, 8, cells), 0.5, np.float32)
    metadata = {"names": names} if names else {}
    assert "the output (B, 4 + classes, N) of YOLOv8 and later" in refusal(foreign(output, metadata))
    assert "YOLOv8 and later" in refusal(foreign(output, metadata, declared=("b", "c", "n")))


@pytest.mark.parametrize(
    ("session", "words"),
    [
        (foreign(raw(), shape=(1, 1, 64, 96)), "got inputs images float32(1, 1, 64, 96)"),
        (foreign(raw(), dtype="uint8"), "got inputs images uint8(1, 3, 64, 96)"),
        (foreign(raw()[0]), "got outputs output0 float32(252, 8)".replace("252", str(raw().shape[1]))),
        (foreign(raw(), {"names": "{0: 'a'}"}), "1 class names beside an output"),
        (foreign(raw()[:, :-1]), "rows, which fit no grid of a 64×96 picture"),
        (foreign(raw() * 50), "scores outside 0 to 1"),
        (foreign(np.full((1, 300, 6), 0.5, np.float32), {}), "300 rows, which fit no grid"),
        (foreign(raw(), {**METADATA, "task": "segment"}), "a model for the task 'segment' cannot be run here yet"),
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
        (info(), info(task="segment").to_json(), "a model for the task 'segment'"),
        (info(), info("raw", class_names=()).to_json(), "names no classes"),
        (info(), info(input_form="float").to_json(), "expected one input float32(1, 3, 64, 96)"),
    ]
    for real, record, words in cases:
        session = picture_session(real, [])
        lying = ScriptedSession(session.inputs, session.outputs, [], metadata={METADATA_KEY: record})
        assert words in refusal(lying)


def test_a_damaged_record_is_refused() -> None:
    session = picture_session(info(), [])
    damaged = ScriptedSession(session.inputs, session.outputs, [], metadata={METADATA_KEY: "{"})
    with pytest.raises(InputError, match=r"x\.onnx: model record is no JSON"):
        recognise(damaged, "x.onnx")


def raw_session(record: ModelInfo, declared: tuple[int | str, ...]) -> ScriptedSession:
    """What an engine's metadata says, beside an output of this shape."""
    return ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW))],
        [TensorSpec("output0", "float32", declared)],
        lambda _: [np.zeros((1, 84, 126), np.float32)],
        metadata={METADATA_KEY: record.to_json()},
    )


@pytest.mark.parametrize(
    ("family", "declared"),
    [
        ("ultralytics", (1, 7, 126)),
        ("yolov5", (1, 7, 126)),
        ("ultralytics", ("b", "c", "n")),
        ("ultralytics", (1, 378, 8)),
    ],
)
def test_an_anchor_free_model_is_not_decoded_as_one_with_anchors(family: str, declared: tuple[int | str, ...]) -> None:
    record = info("raw", input_form="float", family=family)
    assert "(B, 4 + classes, N) of YOLOv8 and later" in refusal(raw_session(record, declared))


def test_an_output_that_contradicts_the_record_is_refused() -> None:
    record = info("raw", input_form="float")
    assert recognise(raw_session(record, (1, 378, 8)), "x.onnx") == record
    assert recognise(raw_session(record, ("b", "n", "c")), "x.onnx") == record
    assert "contradicts its output: expected (B, N, 8) for 3 classes, got" in refusal(raw_session(record, (1, 378, 9)))
    assert "contradicts its output" in refusal(raw_session(record, (378, 8)))
