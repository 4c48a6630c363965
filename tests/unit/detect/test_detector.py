from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor, wait
from io import BufferedReader, BytesIO, FileIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image

from helpers.models import ANCHORS, STRIDES, constant_raw, image_session, info, random_heads
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import ImageError, InputError, SessionError
from yoloship.letterbox import Letterbox
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.scripted import ScriptedSession
from yoloship.sources import Frame
from yoloship.tasks.decode import heads_candidates, heads_to_raw
from yoloship.tasks.nms import nms_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from yoloship.model import ModelInfo

HW = (64, 96)
HEADS = random_heads(0, HW, mean=0.0)
IMAGE = np.random.default_rng(5).integers(0, 256, (50, 120, 3), dtype=np.uint8)


MADE: list[Detector] = []


@pytest.fixture(autouse=True)
def _closed_in_the_end() -> Iterator[None]:
    """What submitted images has threads, which the tests of streams count."""
    yield
    while MADE:
        MADE.pop().close()


def detector(record: ModelInfo | None = None, script: Any = None, **arguments: Any) -> tuple[Detector, ScriptedSession]:
    session = image_session(record or info(), script or (lambda _: HEADS))
    MADE.append(Detector(session, **arguments))
    return MADE[-1], session


class Tensor:
    """What NumPy can convert, as a tensor of another library."""

    def __init__(self, values: npt.NDArray[np.uint8], trouble: Exception | None = None) -> None:
        self._values = values
        self._trouble = trouble

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.uint8]:
        if self._trouble is not None:
            raise self._trouble
        return self._values


def raw_of(*rows: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """(1, n, 8): cx, cy, w, h, objectness, three classes."""
    return np.array([rows], np.float32)


def test_detections_are_what_the_plain_steps_give() -> None:
    found = detector()[0](IMAGE)
    candidates = heads_candidates([head[0] for head in HEADS], STRIDES, ANCHORS, 0.25)
    kept = nms_reference(
        candidates.boxes_xyxy, candidates.scores, candidates.class_ids, iou_threshold=0.45, max_detections=300
    )
    boxes = Letterbox.fixed((50, 120), HW).to_image(candidates.boxes_xyxy[kept])
    boxes = np.clip(boxes, 0, [120, 50, 120, 50]).astype(np.float32)
    assert len(found) > 10
    np.testing.assert_array_equal(found.boxes_xyxy, boxes)
    np.testing.assert_array_equal(found.scores, candidates.scores[kept])
    np.testing.assert_array_equal(found.class_ids, candidates.class_ids[kept])
    assert found.class_names == ("alpha", "beta", "gamma")
    assert found.image_hw == (50, 120)
    assert (np.diff(found.scores) <= 0).all()


def test_the_model_is_fed_the_letterboxed_image() -> None:
    one, session = detector()
    one(IMAGE)
    np.testing.assert_array_equal(session.calls[0]["images"][0], Letterbox.fixed((50, 120), HW).apply(IMAGE))


def test_the_float_form_is_fed_rgb_planes() -> None:
    raw = heads_to_raw(HEADS, STRIDES, ANCHORS)
    session = OnnxRuntimeSession.open(constant_raw(raw, HW, {"names": "['a', 'b', 'c']"}).SerializeToString())
    with Detector(session) as one, detector()[0] as other:
        np.testing.assert_array_equal(one(IMAGE).boxes_xyxy, other(IMAGE).boxes_xyxy)
        assert one.info.input_form == "float"


@pytest.mark.parametrize(
    "encode",
    ["array", "path", "text", "bytes", "bytearray", "memoryview", "file", "buffer", "tensor", "pil", "view", "bgra"],
)
def test_a_image_comes_in_many_shapes(encode: str, tmp_path: Path) -> None:
    path = tmp_path / "an image.png"
    cv2.imwrite(str(path), IMAGE)
    open_file = BufferedReader(FileIO(path)) if encode == "file" else None
    source: Any = {
        "array": IMAGE,
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "memoryview": memoryview(path.read_bytes()),
        "file": open_file,
        "buffer": BytesIO(path.read_bytes()),
        "tensor": Tensor(IMAGE),
        "pil": Image.open(BytesIO(path.read_bytes())),
        "view": np.asfortranarray(IMAGE),
        "bgra": np.dstack([IMAGE, np.zeros((50, 120), np.uint8)]),
    }[encode]
    one, session = detector()
    assert one(source) == detector()[0](IMAGE)
    if open_file is not None:
        open_file.close()
    np.testing.assert_array_equal(session.calls[0]["images"][0], Letterbox.fixed((50, 120), HW).apply(IMAGE))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Tensor(IMAGE, TypeError("can't convert a cuda:0 tensor, use Tensor.cpu()")), "use Tensor.cpu()"),
        (StringIO("text"), "returns text, not bytes; open it with 'rb'"),
        (b"", "is empty"),
        ("https://example.org/a.jpg", "https://example.org/a.jpg: is an address, and yoloship reads files"),
        (object(), "is not an image"),
        ([IMAGE, IMAGE], "got list; use detect_batch or stream for several images"),
    ],
)
def test_what_cannot_become_an_image_says_why(source: Any, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        detector()[0](source)
    assert words in str(caught.value)


def test_a_closed_detector_names_its_model() -> None:
    one, session = detector(model_name="best.pt")
    one.close()
    one.close()
    assert session.closed
    for use in (lambda: one(IMAGE), lambda: one.detect_batch([IMAGE]), lambda: one.stream([IMAGE])):
        with pytest.raises(SessionError) as caught:
            use()
        assert str(caught.value) == "best.pt: the detector is closed"


def test_options_that_are_something_else_are_refused_where_they_are_given() -> None:
    wrong: Any = {}
    with pytest.raises(InputError, match="options: wrong type: expected a DetectOptions, got dict"):
        detector(options=wrong)
    for use in (lambda: detector()[0](IMAGE, options=wrong), lambda: detector()[0].stream([], options=wrong)):
        with pytest.raises(InputError, match="options: wrong type"):
            use()


def test_the_image_is_left_as_it_was() -> None:
    image = IMAGE.copy()
    image.flags.writeable = False
    detector()[0](image)
    np.testing.assert_array_equal(image, IMAGE)


def test_only_wanted_classes_are_kept_by_id_or_name() -> None:
    one, _ = detector(options=DetectOptions(classes=("beta", 2)))
    assert set(one(IMAGE).class_ids.tolist()) == {1, 2}
    assert set(one(IMAGE, options=DetectOptions(classes=(0,))).class_ids.tolist()) == {0}
    assert len(one(IMAGE, options=DetectOptions(classes=()))) == 0


def test_an_unknown_class_is_refused_when_the_detector_is_made() -> None:
    with pytest.raises(InputError, match="zebra: no such class"):
        detector(options=DetectOptions(classes=("zebra",)))
    with pytest.raises(InputError, match="zebra: no such class"):
        detector()[0].stream([], options=DetectOptions(classes=("zebra",)))


def test_classes_meet_only_where_they_are_ignored() -> None:
    raw = raw_of((48, 32, 20, 20, 1, 0.9, 0, 0), (48, 32, 20, 20, 1, 0, 0.8, 0))
    one, _ = detector(info("raw"), lambda _: [raw])
    assert one(IMAGE).class_ids.tolist() == [0, 1]
    assert one(IMAGE, options=DetectOptions(class_agnostic=True)).class_ids.tolist() == [0]


def test_no_more_than_the_most_are_kept() -> None:
    one, _ = detector(options=DetectOptions(max_detections=3))
    assert len(one(IMAGE)) == 3


def test_boxes_are_clipped_to_the_image() -> None:
    raw = raw_of((48, 32, 1000, 1000, 1, 0.9, 0, 0))
    (only,) = detector(info("raw"), lambda _: [raw])[0](IMAGE)
    assert only.box_xyxy == (0, 0, 120, 50)


def test_a_box_near_the_largest_number_is_clipped_too() -> None:
    raw = raw_of((48, 32, 6e38 / 2, 6e38 / 2, 1, 0.9, 0, 0))
    (only,) = detector(info("raw"), lambda _: [raw])[0](np.zeros((640, 960, 3), np.uint8))
    assert only.box_xyxy == (0, 0, 960, 640)


def test_thousands_of_candidates_are_cut_to_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.tasks.detect.MAX_CANDIDATES", 5)
    rows = [(10.0 * i, 10, 4, 4, 1, 0.3 + 0.05 * (i % 7), 0, 0) for i in range(10)]
    one, _ = detector(info("raw"), lambda _: [raw_of(*rows)])
    scores = sorted((row[5] for row in rows), reverse=True)[:5]
    np.testing.assert_allclose(one(IMAGE).scores, scores, rtol=1e-6)


def test_a_batch_of_one_runs_images_one_by_one() -> None:
    one, session = detector()
    images = [IMAGE, IMAGE[:20], IMAGE[:, :7]]
    assert one.detect_batch(images) == [one(image) for image in images]
    assert len(session.calls) == 6
    assert one.detect_batch([]) == []


def test_a_dynamic_batch_runs_images_together() -> None:
    def answer(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
        return [np.repeat(head, len(feeds["images"]), axis=0) for head in HEADS]

    one, session = detector(info(batch=None), answer)
    images = [IMAGE, IMAGE[:20], IMAGE[:, :7]]
    found = one.detect_batch(images)
    assert [len(call["images"]) for call in session.calls] == [3]
    assert found == [detector()[0](image) for image in images]
    assert len(one.detect_batch([IMAGE] * 20)) == 20
    assert [len(call["images"]) for call in session.calls[1:]] == [16, 4]


def test_a_fixed_batch_is_filled_up() -> None:
    heads = random_heads(3, HW, batch=4, mean=0.0)
    one, session = detector(info(batch=4), lambda _: heads)
    found = one.detect_batch([IMAGE] * 6)
    assert [call["images"].shape[0] for call in session.calls] == [4, 4]
    assert not session.calls[1]["images"][2:].any()
    assert found[4] == found[0]
    assert found[5] == found[1]
    assert found[1] != found[0]


def test_rect_groups_images_by_canvas() -> None:
    def answer(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
        batch, height, width, _ = feeds["images"].shape
        return random_heads(1, (height, width), batch)

    one, session = detector(info(batch=None, input_hw=(None, None)), answer, shape_mode="rect", imgsz=(128, 128))
    wide, tall = np.zeros((50, 128, 3), np.uint8), np.zeros((128, 50, 3), np.uint8)
    found = one.detect_batch([wide, tall, wide])
    assert [call["images"].shape for call in session.calls] == [(2, 64, 128, 3), (1, 128, 64, 3)]
    assert [result.image_hw for result in found] == [(50, 128), (128, 50), (50, 128)]


def test_rect_needs_a_dynamic_graph() -> None:
    with pytest.raises(InputError, match="rectangular input needs a graph with dynamic height and width: got 64×96"):
        detector(shape_mode="rect")


@pytest.mark.parametrize(
    ("record", "arguments", "words"),
    [
        (info(), {"imgsz": (64, 64)}, "the graph has a fixed size: expected 64×96, got 64×64"),
        (info(input_hw=(None, None)), {"imgsz": (650, 640)}, "imgsz: .* expected n × 32, got 650×640"),
        (info(), {"shape_mode": "oval"}, "shape_mode: no such mode: expected square or rect, got 'oval'"),
        (info(), {"parallel_runs": 0}, "parallel_runs: too few runs"),
    ],
)
def test_choices_that_contradict_the_model_are_refused(
    record: ModelInfo, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        detector(record, **arguments)


def test_a_dynamic_graph_has_a_canvas_of_640_unless_told() -> None:
    assert detector(info(input_hw=(None, None)))[0].input_hw == (640, 640)
    assert detector(info(input_hw=(None, None)), imgsz=(320, 96))[0].input_hw == (320, 96)


def test_what_is_no_image_is_refused() -> None:
    one, session = detector()
    for nonsense in (None, 7, [1, 2], np.zeros((3, 3, 3, 3), np.uint8), np.zeros((4, 4, 3)), b"", "none.jpg"):
        with pytest.raises(ImageError):
            one(nonsense)
    assert session.calls == ()


def test_an_answer_for_another_batch_is_refused() -> None:
    with pytest.raises(SessionError, match="another batch size: expected 1, got 2"):
        detector(script=lambda _: random_heads(0, HW, batch=2))[0](IMAGE)


def test_closing_the_detector_closes_its_session() -> None:
    one, session = detector()
    with one:
        one(IMAGE)
    assert session.closed
    one.close()
    with pytest.raises(SessionError, match="closed"):
        one(IMAGE)


def test_many_threads_share_one_detector() -> None:
    def answer(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
        level = float(np.median(np.asarray(feeds["images"])))
        return [raw_of((48, 32, 20, 20, 1, level / 255, 0, 0))]

    one, _ = detector(info("raw"), answer)
    images = [np.full((64, 96, 3), value, np.uint8) for value in range(70, 250)]
    with ThreadPoolExecutor(8) as pool:
        scores = [found.scores[0] for found in pool.map(one, images * 3)]
    np.testing.assert_allclose(scores, np.tile(np.arange(70, 250), 3) / 255, rtol=1e-6)


def test_it_describes_itself() -> None:
    assert repr(detector()[0]) == "Detector(3 classes, 64×96 square, scripted)"


def canvas_of(session: ScriptedSession) -> Any:
    return session.calls[-1]["images"][0]


@pytest.mark.parametrize("call", ["call", "batch", "submit", "stream", "load"])
def test_an_rgb_array_gives_the_boxes_of_the_same_image_in_bgr(call: str) -> None:
    rgb = np.ascontiguousarray(IMAGE[:, :, ::-1])
    one, session = detector(channels="rgb" if call == "load" else "bgr")
    found = {
        "call": lambda: one(rgb, channels="rgb"),
        "batch": lambda: one.detect_batch([rgb], channels="rgb")[0],
        "submit": lambda: one.submit(rgb, channels="rgb").result(),
        "stream": lambda: next(iter(one.stream([rgb], channels="rgb"))).unwrap(),
        "load": lambda: one(rgb),
    }[call]()
    np.testing.assert_array_equal(canvas_of(session), Letterbox.fixed((50, 120), HW).apply(IMAGE))
    assert found == detector()[0](IMAGE)


def test_a_stream_hands_out_its_images_in_bgr() -> None:
    rgb = np.ascontiguousarray(IMAGE[:, :, ::-1])
    (outcome,) = detector()[0].stream([rgb], channels="rgb", keep_images=True)
    np.testing.assert_array_equal(outcome.image, IMAGE)


def test_files_and_pil_images_say_their_own_order(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE)
    one, session = detector(channels="rgb")
    for source in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), Image.open(tmp_path / "a.png")):
        one(source)
        np.testing.assert_array_equal(canvas_of(session), Letterbox.fixed((50, 120), HW).apply(IMAGE))


def test_another_order_is_refused_by_name() -> None:
    wrong: Any = "RGB"
    for call in (lambda: detector(channels=wrong), lambda: detector()[0](IMAGE, channels=wrong)):
        with pytest.raises(InputError, match="channels: no such channel order: expected bgr or rgb, got 'RGB'"):
            call()


@pytest.mark.parametrize("call", ["call", "batch", "submit", "stream"])
def test_a_keyword_changes_that_option_alone(call: str) -> None:
    own = DetectOptions(0.1, 0.5, 20, class_agnostic=True)
    one = detector(options=own)[0]
    given: dict[str, Any] = {
        "score_threshold": np.float32(0.5),
        "iou_threshold": np.float64(0.25),
        "classes": ["beta", np.int64(2)],
    }
    found = {
        "call": lambda: one(IMAGE, **given),
        "batch": lambda: one.detect_batch([IMAGE], **given)[0],
        "submit": lambda: one.submit(IMAGE, **given).result(),
        "stream": lambda: next(iter(one.stream([IMAGE], **given))).unwrap(),
    }[call]()
    assert len(found) > 0
    assert found == one(IMAGE, options=DetectOptions(0.5, 0.25, 20, ("beta", 2), class_agnostic=True))
    assert found != one(IMAGE)


@pytest.mark.parametrize("name", ["score_threshold", "iou_threshold", "classes"])
def test_an_option_that_is_given_twice_is_refused(name: str) -> None:
    given: dict[str, Any] = {name: (0,) if name == "classes" else 0.5}
    with pytest.raises(
        InputError,
        match=f"{name}: is given twice, alone and inside options; set it inside options, or leave options out",
    ):
        detector()[0](IMAGE, options=DetectOptions(), **given)


def test_what_a_keyword_says_is_checked() -> None:
    one = detector()[0]
    with pytest.raises(InputError, match="score_threshold: out of range"):
        one(IMAGE, score_threshold=2)
    with pytest.raises(InputError, match="zebra: no such class"):
        one(IMAGE, classes=["zebra"])


def test_submitted_images_come_back_as_futures_of_what_a_call_gives() -> None:
    images = [IMAGE, IMAGE[:20], IMAGE[:, :7]]
    with detector()[0] as one:
        futures = [one.submit(image) for image in images]
        assert [future.result() for future in futures] == [one(image) for image in images]
        with pytest.raises(ImageError):
            one.submit(IMAGE.astype(np.float64))
    with pytest.raises(SessionError, match="the detector is closed"):
        one.submit(IMAGE)


@pytest.mark.timeout(10)
def test_a_future_whose_result_is_there_does_not_keep_the_image() -> None:
    one, _ = detector()
    image = IMAGE.copy()
    kept = weakref.ref(image)
    future = one.submit(image)
    del image
    assert len(future.result()) > 0
    one.submit(IMAGE).result()  # the one thread has let go of the image before it takes another
    assert kept() is None


@pytest.mark.timeout(10)
def test_closing_ends_the_run_that_was_submitted_and_fails_what_still_waits() -> None:
    begun, gate = threading.Event(), threading.Event()

    def held(_: Any) -> Any:
        begun.set()
        gate.wait()
        return HEADS

    one, session = detector(script=held)
    first = one.submit(IMAGE)
    begun.wait()
    second = one.submit(IMAGE)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(one.close)
        assert isinstance(second.exception(), SessionError)
        assert not session.closed
        gate.set()
        closing.result()
    assert len(first.result()) > 0
    assert session.closed


@pytest.mark.timeout(10)
def test_a_bounded_number_of_submitted_images_waits() -> None:
    begun, gate = threading.Event(), threading.Event()

    def held(_: Any) -> Any:
        begun.set()
        gate.wait()
        return HEADS

    one, _ = detector(script=held)
    futures = [one.submit(IMAGE)]
    begun.wait()
    futures += [one.submit(IMAGE) for _ in range(4)]
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(one.submit, IMAGE)
        try:
            assert not wait([blocked], timeout=0.2).done
        finally:
            gate.set()
        for future in (*futures, blocked.result()):
            assert len(future.result()) > 0
    one.close()


def test_submitting_in_a_forked_child_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = detector()
    one.submit(IMAGE).result()
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: -1)
        with pytest.raises(SessionError, match="before this process was forked"):
            one.submit(IMAGE)
    one.close()


def test_a_detector_says_where_its_network_runs_and_what_its_model_is_called() -> None:
    one = detector(model_name="best.pt")[0]
    assert (one.device, one.model_name, one.max_batch, one.device_bytes()) == ("cpu", "best.pt", 1, None)


@pytest.mark.parametrize(
    "images", ["photo.jpg", b"bytes", Path("photo.jpg"), BytesIO(b"bytes"), IMAGE, IMAGE[:, :, :1], None, 5]
)
def test_one_image_is_not_taken_apart_as_several(images: Any) -> None:
    model, session = detector()
    doors: list[Any] = [model.detect_batch, model.profile]
    for door in doors if isinstance(images, str | Path) else [*doors, model.stream]:
        with pytest.raises(InputError, match="images: wrong type: expected several images, got one"):
            door(images)
    assert not session.calls


def test_a_stream_of_one_name_reads_what_the_command_line_would(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / name), IMAGE)
    model, _ = detector()
    outcomes = list(model.stream(tmp_path))
    assert [outcome.frame.name for outcome in outcomes if outcome.frame] == [
        str(tmp_path / "a.png"), str(tmp_path / "b.png"),
    ]  # fmt: skip
    assert all(outcome.unwrap().image_hw == IMAGE.shape[:2] for outcome in outcomes)


def test_a_frame_that_its_source_could_not_decode_fails_in_its_place() -> None:
    model, _ = detector()
    broken = Frame(1, "clip.mp4#1", None, error=ImageError("is damaged", subject="clip.mp4#1"))
    first, second, third = model.stream([Frame(0, "clip.mp4#0", IMAGE), broken, IMAGE])
    assert first.unwrap().image_hw == third.unwrap().image_hw == IMAGE.shape[:2]
    assert (first.frame and first.frame.name, third.frame) == ("clip.mp4#0", None)
    assert second.error is broken.error
    assert second.frame is broken


def test_an_array_of_several_images_is_taken() -> None:
    model, _ = detector()
    assert model.detect_batch(np.stack([IMAGE, IMAGE])) == model.detect_batch([IMAGE, IMAGE])
    assert [one.result for one in model.stream(np.stack([IMAGE]))] == [model(IMAGE)]


@pytest.mark.parametrize("batches", [[0], [-1], ["x"], [True], 5, [], [1.0]])
def test_batches_to_prepare_are_whole_numbers_from_1(batches: Any) -> None:
    with pytest.raises(InputError, match="batches: out of range: expected whole numbers of 1 or more"):
        detector()[0].prepare(batches)


@pytest.mark.parametrize("image_hw", [(0, 5), (-1, 5), 5, (5,), (5, 5, 3), ("a", 5)])
def test_a_frame_has_a_height_and_a_width(image_hw: Any) -> None:
    with pytest.raises(InputError, match="image_hw: out of range: expected 2 whole numbers"):
        detector()[0].pinned_frame(image_hw)


def test_whatever_stands_for_a_path_is_one(tmp_path: Path) -> None:
    class Named:
        def __fspath__(self) -> str:
            return str(tmp_path / "a.png")

    cv2.imwrite(str(tmp_path / "a.png"), IMAGE)
    assert detector()[0](Named()) == detector()[0](IMAGE)


def test_a_file_that_was_read_already_is_not_called_empty() -> None:
    with pytest.raises(ImageError, match=r"open file: gives no bytes; if it was read already, go back with seek\(0\)"):
        detector()[0](BytesIO())


@pytest.mark.timeout(60)
def test_a_detector_that_is_dropped_finishes_what_was_submitted_and_lets_go_of_its_model() -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(_: object) -> Any:
        began.set()
        go_on.wait()
        return HEADS

    model, session = detector(script=slow)
    MADE.clear()
    futures = [model.submit(IMAGE) for _ in range(3)]
    assert began.wait()
    workers = list(model._batches()._threads)
    session_alive = weakref.ref(session)
    del model, session
    gc.collect()
    go_on.set()
    assert len({len(future.result()) for future in futures}) == 1
    for worker in workers:
        worker.join()
        assert not worker.is_alive()
    gc.collect()
    assert session_alive() is None


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_detector_says_that_it_cannot_be_copied(duplicate: Callable[[Detector], object]) -> None:
    with pytest.raises(InputError, match="model: a detector cannot be copied or pickled; load the model"):
        duplicate(detector()[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_is_refused_and_may_close() -> None:
    """Without the threads behind the session, a run there may wait for ever, and so may closing it."""
    model, session = detector()
    session.close = lambda: os._exit(9)  # type: ignore[method-assign]
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        code = 1
        try:
            model(IMAGE)
        except SessionError as error:
            code = 0 if "was made before this process was forked" in str(error) else 2
        model.close()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    del session.close
    assert len(model(IMAGE)) > 0


def test_a_head_without_suppression_refuses_an_iou_threshold_that_a_caller_gives() -> None:
    from helpers.samples import sample
    from yoloship.graph import GraphConfig, build_graph, graph_bytes

    network = sample("ultralytics", "detect")
    for form in ("end2end", "heads"):
        data = graph_bytes(build_graph(network, GraphConfig((64, 96), output_form=form, head="one2one")))
        with Detector(OnnxRuntimeSession.open(data)) as detector:
            image = np.random.default_rng(3).integers(0, 256, (64, 96, 3), np.uint8)
            found = detector(image, score_threshold=0.3)
            assert len(found)
            limited = detector(image, options=DetectOptions(0.3, max_detections=2))
            np.testing.assert_array_equal(limited.scores, found.scores[:2])
            with pytest.raises(InputError, match="has no effect, because the head 'one2one' needs no NMS"):
                detector(image, iou_threshold=0.5)
        with pytest.raises(InputError, match="cannot be above 300"):
            Detector(OnnxRuntimeSession.open(data), options=DetectOptions(max_detections=1000))
