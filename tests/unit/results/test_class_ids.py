from __future__ import annotations

import pytest

from yoloship.errors import InputError
from yoloship.results.class_ids import class_ids_of

NAMES = ("person", "car", "7")


def test_a_class_can_be_given_by_name_by_id_or_by_digits() -> None:
    assert class_ids_of(["car", 0, "0"], NAMES) == [1, 0, 0]
    assert class_ids_of(["7"], NAMES) == [2], "a name made of digits is a name first"
    assert class_ids_of([5], ()) == [5], "without names any id may be meant"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("bus", "one of person, car, 7, or an id from 0 to 2"),
        ("cars", "one of person, car, 7, or an id from 0 to 2; did you mean 'car'?"),
        (3, "an id from 0 to 2"),
        ("-1", "an id from 0 to 2"),
        (-1, "an id from 0 to 2"),
    ],
)
def test_an_unknown_class_is_refused_with_the_known_ones(wanted: int | str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        class_ids_of([wanted], NAMES)
    assert str(caught.value) == f"{wanted}: no such class: expected {expected}"


def test_a_single_text_is_not_taken_apart_as_several_names() -> None:
    with pytest.raises(InputError) as caught:
        class_ids_of("car", NAMES)
    assert str(caught.value) == "classes: wrong type: expected several ids or names, got 'car'"
