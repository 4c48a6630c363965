from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from helpers.models import image_session, info
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.detect.slicing import SlicedDetector, Slicing
from yoloship.detect.slicing.tiles import Tile
from yoloship.errors import ImageError, InputError, SessionError
from yoloship.model import METADATA_KEY, TensorSpec
from yoloship.runtime.scripted import ScriptedSession
from yoloship.sources import Frame, Source
from yoloship.transforms import transform_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SIDE = 64
SHADES = range(1, 12)
"""A rectangle of the blue value 20 times one of these is an object of the class of that number modulo 3."""


def sees(feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """A network that finds every rectangle, as far as it is to be seen; the larger, the higher its score."""
    canvases = feeds["images"]
    boxes = np.zeros((len(canvases), len(SHADES), 4), np.float32)
    scores = np.zeros((len(canvases), len(SHADES)), np.float32)
    ids = np.zeros((len(canvases), len(SHADES)), np.int32)
    for place, canvas in enumerate(canvases):
        for row, shade in enumerate(SHADES):
            ys, xs = np.nonzero(canvas[..., 0] == 20 * shade)
            if len(xs):
                boxes[place, row] = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                scores[place, row] = 0.5 + len(xs) / 10_000
                ids[place, row] = shade % 3
    return [boxes, scores, ids]


def picture(hw: tuple[int, int], *boxes: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    image = np.zeros((*hw, 3), np.uint8)
    for shade, (x1, y1, x2, y2) in zip(SHADES, boxes, strict=False):
        image[y1:y2, x1:x2] = 20 * shade
    return image


@pytest.fixture
def session() -> ScriptedSession:
    return image_session(info("compact", input_hw=(SIDE, SIDE), batch=None), sees)


@pytest.fixture
def detector(session: ScriptedSession) -> Iterator[Detector]:
    with Detector(session, parallel_runs=2) as made:
        yield made


def test_small_objects_of_a_large_image_are_found_where_they_are(detector: Detector) -> None:
    boxes = [(3, 5, 9, 12), (60, 10, 68, 20), (100, 90, 110, 96), (140, 1, 149, 8), (55, 55, 63, 70)]
    found = SlicedDetector(detector, Slicing(whole=False))(picture((100, 150), *boxes))
    assert sorted(map(tuple, found.boxes_xyxy.tolist())) == sorted(boxes)
    assert found.image_hw == (100, 150)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_each_tile_reaches_the_network_as_it_is_in_the_image(detector: Detector, session: ScriptedSession) -> None:
    image = np.random.default_rng(0).integers(0, 19, (90, 150, 3)).astype(np.uint8)
    sliced = SlicedDetector(detector, Slicing(overlap=0.25, whole=False))
    sliced(image)
    fed = [canvas.tobytes() for call in session.calls for canvas in call["images"]]
    tiles = sliced.tiles((90, 150))
    want = [image[tile.top : tile.bottom, tile.left : tile.right].tobytes() for tile in tiles]
    assert len(tiles) == 6
    assert sorted(fed) == sorted(want)


def test_the_whole_image_is_the_last_part_and_finds_what_is_larger_than_a_tile(
    detector: Detector, session: ScriptedSession
) -> None:
    sliced = SlicedDetector(detector)
    assert sliced.tiles((128, 128))[-1] == Tile.whole((128, 128))
    found = sliced(picture((128, 128), (10, 10, 120, 118)))
    assert len(session.calls) == len(sliced.tiles((128, 128))) == 10
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes_xyxy, [[10, 10, 120, 118]], atol=2)


def test_an_image_that_fits_into_a_tile_is_one_run_and_gives_what_the_detector_gives(
    detector: Detector, session: ScriptedSession
) -> None:
    image = picture((50, 64), (3, 5, 9, 12), (40, 1, 64, 20))
    assert SlicedDetector(detector)(image) == detector(image)
    assert len(session.calls) == 2


def test_a_stream_gives_an_outcome_for_each_source_in_order(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    small, large = picture((30, 30), (3, 5, 9, 12)), picture((90, 150), (100, 70, 110, 80))
    broken = str(tmp_path / "broken.jpg")
    sources: list[Any] = [broken, small, broken, large, Frame(4, "clip.mp4#4", small), broken]
    outcomes = list(SlicedDetector(detector, Slicing(whole=False)).stream(sources, keep_images=True))
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3, 4, 5]
    assert [outcome.source for outcome in outcomes] == sources
    assert [isinstance(outcome.error, ImageError) for outcome in outcomes] == [True, False, True, False, False, True]
    assert outcomes[3].unwrap().boxes_xyxy.tolist() == [[100, 70, 110, 80]]
    np.testing.assert_array_equal(outcomes[3].image, large)
    assert outcomes[4].frame is sources[4]
    assert [outcome.image is None for outcome in outcomes] == [True, False, True, False, False, True]
    assert outcomes[1].unwrap() == outcomes[4].unwrap()


def test_a_stream_can_be_iterated_asynchronously(detector: Detector) -> None:
    images = [picture((90, 150), (100, 70, 110, 80)), picture((SIDE, SIDE), (3, 5, 9, 12))]

    async def collected() -> list[list[list[float]]]:
        outcomes = SlicedDetector(detector, Slicing(whole=False)).astream(images, score_threshold=0.3)
        return [one.unwrap().boxes_xyxy.tolist() async for one in outcomes]

    assert asyncio.run(collected()) == [[[100, 70, 110, 80]], [[3, 5, 9, 12]]]
    with pytest.raises(InputError, match="no such class"):
        SlicedDetector(detector).astream(images, classes=["cow"])


def test_a_single_name_is_opened_as_a_source(detector: Detector, tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), picture((80, 80), (3, 5, 9, 12)))
    (outcome,) = SlicedDetector(detector, Slicing(whole=False)).stream(tmp_path)
    assert outcome.unwrap().boxes_xyxy.tolist() == [[3, 5, 9, 12]]


def test_the_error_of_a_tile_is_that_of_its_image_and_stops_no_other() -> None:
    def fails_on_white(feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        if (feeds["images"] == 255).any():
            raise SessionError("cannot", subject="x")
        return sees(feeds)

    bad = picture((100, 100))
    bad[90, 90] = 255
    good = picture((100, 100), (3, 5, 9, 12))
    with Detector(image_session(info("compact", input_hw=(SIDE, SIDE), batch=None), fails_on_white)) as detector:
        outcomes = list(SlicedDetector(detector).stream([bad, good]))
        assert isinstance(outcomes[0].error, SessionError)
        assert len(outcomes[1].unwrap()) == 1
        with pytest.raises(SessionError, match="cannot"):
            SlicedDetector(detector)(bad)


def test_options_reach_the_runs_of_the_tiles_and_are_checked_at_once(detector: Detector) -> None:
    image = picture((100, 150), (3, 5, 9, 12), (100, 80, 120, 96))
    sliced = SlicedDetector(detector, Slicing(whole=False))
    assert sliced(image, classes=["beta"]).class_ids.tolist() == [1]
    assert len(sliced(image, score_threshold=0.51)) == 1
    assert len(sliced(image, options=DetectOptions(score_threshold=0.9))) == 0
    with pytest.raises(InputError, match="no such class"):
        sliced.stream([image], classes=["cow"])
    with pytest.raises(InputError, match="put a single image into a list"):
        sliced.stream(image)
    with pytest.raises(InputError, match="channels"):
        sliced(image, channels="gbr")  # type: ignore[arg-type]


def test_the_colour_order_of_the_caller_is_that_of_the_tiles(detector: Detector) -> None:
    image = picture((100, 100))
    image[5:12, 3:9, 2] = 20
    assert len(SlicedDetector(detector)(image)) == 0
    assert len(SlicedDetector(detector)(image, channels="rgb")) == 1


def test_only_a_few_tiles_are_ahead_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory does not grow with the image: its tiles are cut as they are run."""
    gate, cut, ahead = threading.Event(), [], []

    def waits(feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        gate.wait()
        return sees(feeds)

    def counted(index: int, name: str, image: Any) -> Frame:
        cut.append(index)
        return Frame(index, name, image)

    def go_on() -> None:
        ahead.append(len(cut))
        gate.set()

    monkeypatch.setattr("yoloship.detect.slicing.sliced.Frame", counted)
    with Detector(image_session(info("compact", input_hw=(SIDE, SIDE), batch=None), waits)) as detector:
        outcomes = SlicedDetector(detector, Slicing(whole=False)).stream([picture((640, 640))])
        timer = threading.Timer(0.3, go_on)
        timer.start()
        next(outcomes)
        timer.join()
    assert len(cut) == 169
    assert ahead[0] <= 10


class Camera(Source):
    """Its next frame comes once the result of the last one was seen."""

    help = "Frames."
    is_live = True

    def __init__(self) -> None:
        self.seen = threading.Event()

    @classmethod
    def open(cls, texts: Any, options: Any = None) -> Camera:
        return cls()

    def is_ready(self) -> bool:
        return self.seen.is_set()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(3):
            yield Frame(index, f"cam#{index}", picture((100, 100), (3, 5, 9, 12)))
            self.seen.wait()
            self.seen.clear()


def test_the_result_of_a_camera_does_not_wait_for_its_next_frame(detector: Detector) -> None:
    camera, names = Camera(), []
    for outcome in SlicedDetector(detector).stream(camera):
        assert outcome.frame is not None
        names.append(outcome.frame.name)
        camera.seen.set()
    assert names == ["cam#0", "cam#1", "cam#2"]


def test_dropping_the_stream_ends_the_runs(detector: Detector) -> None:
    before = threading.active_count()
    outcomes = SlicedDetector(detector).stream(picture((100, 100)) for _ in range(1000))
    next(outcomes)
    del outcomes
    assert threading.active_count() <= before


def test_a_model_that_answers_for_whole_images_is_refused() -> None:
    record = info(
        "raw", task="classify", family="torchvision", class_names=("a", "b"), strides=(), anchors=(),
        input_hw=(32, 32), class_scores="logits", transform=transform_of("torchvision-v1", (32, 32)),
    )  # fmt: skip
    session = ScriptedSession(
        [TensorSpec("images", "uint8", (1, 32, 32, 3))], [TensorSpec("out", "float32", (1, 2))],
        lambda _: [np.zeros((1, 2), np.float32)], metadata={METADATA_KEY: record.to_json()},
    )  # fmt: skip
    with pytest.raises(InputError, match="is a classification model, which gives one result for the whole image"):
        SlicedDetector(Detector(session))


def test_oriented_boxes_have_a_measure_of_their_own() -> None:
    record = info(
        "compact", task="obb", family="ultralytics", anchors=(), extra_columns=1, input_hw=(SIDE, SIDE), batch=None
    )
    detector = Detector(image_session(record, sees, outputs=4))
    assert SlicedDetector(detector).slicing == Slicing()
    with pytest.raises(InputError, match=r"merge \(--slice-merge\): cannot be 'ios' for oriented boxes"):
        SlicedDetector(detector, Slicing(merge="ios"))
