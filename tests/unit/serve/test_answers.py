"""Which form of an answer a client gets."""

from __future__ import annotations

import numpy as np
import pytest

from yoloship.errors import ImageError
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks
from yoloship.serve.answers import is_quick, json_response, server_timing, wanted_form
from yoloship.serve.engine import Answer, Times
from yoloship.serve.errors import FormError


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("image/*", "jpeg"),
        ("image/png", "png"),
        ("text/html, image/png;q=0.5, image/jpeg;q=0.9", "jpeg"),
        ("IMAGE/PNG , application/json", "png"),
        ("image/png;q=0, */*;q=0.1", "json"),
        ("image/png;q=nan, application/json;q=0.001", "json"),
    ],
)
def test_the_form_with_the_highest_weight_is_taken_and_of_equal_ones_the_first(accept: str, form: str) -> None:
    assert wanted_form(accept) == form


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "image/webp;q=1", ";;;,,,"])
def test_a_form_that_there_is_not_is_refused(accept: str) -> None:
    with pytest.raises(FormError, match="application/json, image/jpeg or image/png"):
        wanted_form(accept)


def test_the_times_are_milliseconds_of_the_stages() -> None:
    timing = server_timing(Times(0.001, 0.002, 0.0305, 0.0335, 4))
    assert timing == "decode;dur=1.00, queue;dur=2.00, network;dur=30.50, total;dur=33.50"


def test_json_has_no_control_characters_as_they_are() -> None:
    assert json_response({"name": "a\u202eb"}).body == b'{"name": "a\\u202eb"}'


def test_few_objects_of_one_image_are_quick_to_write_and_others_are_not() -> None:
    def found(count: int, masks: Masks | None = None) -> Answer:
        boxes, scores, ids = np.ones((count, 4), np.float32), np.ones(count, np.float32), np.zeros(count, np.int32)
        return Answer(Detections(boxes, scores, ids, ("cat",), (9, 9), masks=masks), Times(0, 0, 0, 0, 1), None)

    assert is_quick([("a", found(0))])
    assert is_quick([("a", found(10))])
    assert not is_quick([("a", found(11))])
    assert not is_quick([("a", found(1, Masks.from_array(np.ones((1, 9, 9), np.bool_))))])
    assert not is_quick([("a", found(1)), ("b", found(1))])
    assert not is_quick([("a", ImageError("is damaged"))])
