"""Which class of a model is which class of a dataset."""

from __future__ import annotations

import pytest

from yoloship.errors import InputError
from yoloship.validate.naming import class_map


def test_the_same_names_need_no_word() -> None:
    found = class_map(("cat", "dog"), ("cat", "dog"), "best.pt")
    assert (found.ids.tolist(), found.note) == ([0, 1], "")


def test_names_in_another_order_are_matched_by_name() -> None:
    found = class_map(("cat", "dog"), ("dog", "cat"), "best.pt")
    assert (found.ids.tolist(), found.note) == ([1, 0], "classes are matched by name")


def test_classes_that_the_dataset_does_not_have_do_not_count() -> None:
    found = class_map(("cat", "dog", "owl"), ("owl",), "best.pt")
    assert found.ids.tolist() == [-1, -1, 0]
    assert "its 2 other classes does not count" in found.note


def test_other_names_but_as_many_are_matched_by_id_and_said() -> None:
    found = class_map(("cat", "dog"), ("cat", "hound"), "best.pt")
    assert found.ids.tolist() == [0, 1]
    assert found.note == "classes are matched by id: class 1 is 'dog' in the model and 'hound' in the dataset"


def test_other_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"best\.pt: has different classes from the dataset.*without 'hen'"):
        class_map(("cat", "dog"), ("cat", "dog", "hen"), "best.pt")


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        (("cat", "dog", "owl"), ("dog", "cat", "hen")),  # one new name does not make the others' ids right
        (("cat", "dog"), ("Dog", "Cat")),
        (("cat", "dog", "owl"), ("cat", "dog", "cat")),
    ],
)
def test_ids_are_not_taken_if_a_name_of_both_stands_at_another_id(
    own: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    with pytest.raises(InputError, match=r"best\.pt: has classes of the dataset at other ids, .* expected class"):
        class_map(own, wanted, "best.pt")
