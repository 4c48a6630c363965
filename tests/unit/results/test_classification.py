from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.results.classification import Classification

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")
SCORES = np.array([0.05, 0.3, 0.05, 0.4, 0.1, 0.06, 0.04], np.float32)


def result(scores: Any = SCORES, names: tuple[str, ...] = NAMES) -> Classification:
    return Classification(np.array(scores, np.float32), names, (60, 80))


def test_it_knows_the_best_classes() -> None:
    one = result()
    assert (one.class_id, one.class_name, round(one.score, 6)) == (3, "dog", 0.4)
    assert [best.class_name for best in one.top()] == ["dog", "bee", "elk", "fox", "ant"]
    assert [best.class_id for best in one.top(2)] == [3, 1]
    assert len(one.top(100)) == len(NAMES)
    assert one.task == "classify"
    assert one.complete


def test_classes_of_one_probability_come_in_the_order_of_their_ids() -> None:
    one = result([0.25, 0.25, 0.25, 0.25], NAMES[:4])
    assert [best.class_id for best in one.top()] == [0, 1, 2, 3]
    assert one.class_id == 0


@pytest.mark.parametrize("k", [0, -1, True, 1.5, "2"])
def test_a_number_that_is_none_is_refused(k: Any) -> None:
    with pytest.raises(InputError, match="k: out of range: expected 1 or more"):
        result().top(k)


def test_it_says_the_best_five_as_text_and_as_data() -> None:
    one = result()
    assert one.table()[:3] == [("class", "score"), ("dog", "0.400"), ("bee", "0.300")]
    assert len(one.table()) == 6
    assert len(one.table(2)) == 3
    assert one.counts() == {"dog": 1}
    assert len(one) == 1
    data = json.loads(json.dumps(one.to_dict()))
    assert (data["width"], data["height"]) == (80, 60)
    assert [entry["class_name"] for entry in data["classes"]] == ["dog", "bee", "elk", "fox", "ant"]
    assert data["classes"][0] == {"class_id": 3, "class_name": "dog", "score": pytest.approx(0.4)}
    assert repr(one) == "Classification(dog 0.400 of 7 classes)"


def test_its_array_is_read_only_and_it_can_be_copied() -> None:
    one = result()
    with pytest.raises(ValueError, match="read-only"):
        one.probabilities[0] = 1
    copy = pickle.loads(pickle.dumps(one))
    assert copy == one
    assert not copy.probabilities.flags.writeable
    assert one != result(SCORES[::-1])
    assert one != 3


@pytest.mark.parametrize(
    "scores", [SCORES[:3], SCORES.astype(np.float64), SCORES[None], [0.5], np.zeros(0, np.float32)]
)
def test_an_array_that_does_not_fit_the_names_is_refused(scores: Any) -> None:
    with pytest.raises(InputError, match=r"Classification\.probabilities: wrong array: expected float32\(7,\)"):
        Classification(scores, NAMES, (60, 80))
    with pytest.raises(InputError, match="wrong array"):
        Classification(np.zeros(0, np.float32), (), (60, 80))


def test_its_label_is_drawn_on_a_copy() -> None:
    one, image = result(), np.full((60, 80, 3), 90, np.uint8)
    drawn = one.draw(image)
    assert (image == 90).all()
    assert (drawn != image).any()
    assert not np.array_equal(drawn, one.draw(image, hide_scores=True))
    np.testing.assert_array_equal(one.draw(image, hide_labels=True), image)
    assert one.draw(np.full((60, 80), 90, np.uint8)).shape == (60, 80, 3)


def test_an_image_too_small_for_letters_gets_none() -> None:
    one = Classification(SCORES, NAMES, (3, 4))
    np.testing.assert_array_equal(one.draw(np.zeros((3, 4, 3), np.uint8)), np.zeros((3, 4, 3), np.uint8))


def test_another_image_than_the_classified_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"Classification\.draw: the result is of an image of a different size"):
        result().draw(np.zeros((80, 60, 3), np.uint8))
    with pytest.raises(InputError, match="line width"):
        result().draw(np.zeros((60, 80, 3), np.uint8), line_width_px=0)
