"""Models of one channel, and of numbers that image files do not have."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from helpers.images import saved, smooth
from helpers.models import image_session, info
from helpers.shared import SHARED, require
from yoloship import load
from yoloship.detect.detector import Detector
from yoloship.detect.preprocess import to_float, with_channels
from yoloship.errors import ImageError, InputError
from yoloship.images import as_channels
from yoloship.letterbox import Letterbox

if TYPE_CHECKING:
    from collections.abc import Mapping

HW = (64, 96)
COLOUR = smooth(*HW)
GREY = cv2.cvtColor(COLOUR, cv2.COLOR_BGR2GRAY)
RNG = np.random.default_rng(1)


class Watched:
    """A detector that remembers what its network was fed."""

    def __init__(self, channels: int) -> None:
        self.fed: list[npt.NDArray[Any]] = []
        self.detector = Detector(image_session(info("raw", channels=channels), self._answer))

    def _answer(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
        self.fed.append(np.array(feeds["images"]))
        return [np.array([[[48, 32, 20, 20, 1, 0.9, 0, 0]]], np.float32)]


@pytest.mark.parametrize(
    "image",
    [
        GREY,
        GREY[:, :, None],
        COLOUR,
        np.dstack([COLOUR, GREY]),
        saved(COLOUR, "PNG"),
        Image.fromarray(np.ascontiguousarray(COLOUR[:, :, ::-1])),
        GREY.astype(np.uint16) * 257,
    ],
    ids=["(h, w)", "(h, w, 1)", "BGR", "BGRA", "file", "PIL", "16 bits"],
)
def test_a_network_of_one_channel_is_fed_grey_images_whatever_comes_in(image: object) -> None:
    watched = Watched(1)
    assert len(watched.detector(image)) == 1
    assert watched.fed[0].shape == (1, *HW, 1)
    assert np.array_equal(watched.fed[0][0, :, :, 0], GREY)


def test_a_grey_image_that_is_scaled_is_scaled_as_a_plane() -> None:
    watched = Watched(1)
    large = smooth(HW[0] * 3, HW[1] * 3)
    watched.detector(large)
    plane = cv2.resize(cv2.cvtColor(large, cv2.COLOR_BGR2GRAY), HW[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(watched.fed[0][0, :, :, 0], plane)


def test_a_stream_keeps_the_colours_of_images_that_are_shown_to_the_network_in_grey() -> None:
    (outcome,) = Watched(1).detector.stream([saved(COLOUR, "PNG")], keep_images=True)
    assert outcome.image is not None
    assert np.array_equal(outcome.image, COLOUR)
    assert outcome.unwrap().draw(outcome.image).shape == (*HW, 3)


def test_a_grey_array_can_be_drawn_on() -> None:
    (outcome,) = Watched(1).detector.stream([GREY], keep_images=True)
    assert outcome.image is not None
    assert outcome.unwrap().draw(outcome.image).shape == (*HW, 3)


@pytest.mark.parametrize("channels", [2, 4, 5, 12])
def test_other_numbers_of_channels_work_from_arrays(channels: int) -> None:
    watched = Watched(channels)
    image = RNG.integers(0, 255, (*HW, channels), dtype=np.uint8)
    assert len(watched.detector(image)) == 1
    assert np.array_equal(watched.fed[0][0], image)
    assert [outcome.error for outcome in watched.detector.stream([image])] == [None]


def test_channels_of_any_number_are_letterboxed_each_like_a_plane() -> None:
    image = RNG.integers(0, 255, (50, 70, 5), dtype=np.uint8)
    letterbox = Letterbox.fixed((50, 70), HW)
    whole = letterbox.apply(image)
    for place in range(5):
        assert np.array_equal(whole[:, :, place : place + 1], letterbox.apply(image[:, :, place : place + 1]))


@pytest.mark.parametrize("source", ["a.png", b"GIF89a"])
def test_files_are_refused_for_models_that_they_cannot_feed(source: object) -> None:
    with pytest.raises(InputError) as caught:
        Watched(5).detector(source)
    assert "the model takes images of 5 channels, which image files do not have" in str(caught.value)
    assert "pass arrays (height, width, 5) in Python" in str(caught.value)


@pytest.mark.parametrize("image", [COLOUR, GREY, Image.new("RGB", (9, 9)), np.zeros((4, 5, 5), np.float32), 7])
def test_images_of_another_number_of_channels_are_refused(image: object) -> None:
    with pytest.raises(ImageError):
        Watched(5).detector(image)


def test_only_three_channels_change_their_order() -> None:
    for channels, order in ((1, [0]), (3, [2, 1, 0]), (4, [0, 1, 2, 3])):
        image = RNG.integers(0, 255, (1, 2, 2, channels), dtype=np.uint8)
        assert np.array_equal(to_float(image), image.transpose(0, 3, 1, 2)[:, order].astype(np.float32) / 255)


def test_an_image_of_the_right_channels_is_not_copied() -> None:
    assert with_channels(COLOUR, 3) is COLOUR
    assert as_channels(COLOUR, 3) is COLOUR


def test_grey_is_at_most_one_level_from_what_opencv_makes_of_the_same_file() -> None:
    for kind in ("PNG", "BMP", "TIFF"):
        data = np.frombuffer(saved(COLOUR, kind), np.uint8)
        read = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.int16)
        assert np.abs(read - with_channels(COLOUR, 1)[:, :, 0]).max() <= 1


def test_a_checkpoint_of_one_channel_sees_the_same_in_a_file_and_in_its_pixels() -> None:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(COLOUR[:, :, ::-1])).save(out, "PNG")
    with load(require(SHARED / "cases" / "channels-1.pt")) as detector:
        found = [detector(image) for image in (out.getvalue(), COLOUR, GREY)]
    assert len(found[0])
    for other in found[1:]:
        assert np.array_equal(other.boxes_xyxy, found[0].boxes_xyxy)
