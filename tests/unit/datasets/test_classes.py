from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.datasets import model_info
from yoloship.datasets.classes import check_classes, ids_by_name
from yoloship.datasets.dataset import Dataset
from yoloship.errors import InputError

EMPTY = Dataset("d.yaml", "yolo", "detect", ("cat", "dog", "owl"), ())


def test_names_of_the_model_take_its_ids() -> None:
    assert ids_by_name(["owl", "cat"], model_info(), "d") == ((2, 0), ("cat", "dog", "owl"))


def test_names_that_the_model_does_not_know_at_all_count_in_their_order() -> None:
    assert ids_by_name(["x", "y"], model_info(), "d") == ((0, 1), ("x", "y"))


def test_names_of_which_the_model_knows_some_are_refused() -> None:
    with pytest.raises(InputError, match=r"d: has classes that the model does not have: .* got elk"):
        ids_by_name(["cat", "elk"], model_info(), "d")


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(InputError, match="has a class twice: got 'cat'"):
        ids_by_name(["cat", "dog", "cat"], model_info(), "d")


def test_the_same_names_and_other_names_of_the_same_number_are_taken() -> None:
    check_classes(EMPTY, model_info())
    check_classes(replace(EMPTY, class_names=("a", "b", "c")), model_info())


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(InputError, match=r"d\.yaml: has different classes from the model: expected 3 classes, got 2"):
        check_classes(replace(EMPTY, class_names=("cat", "dog")), model_info())


def test_the_same_names_in_another_order_are_refused() -> None:
    with pytest.raises(InputError, match="in a different order: expected class 1 'dog', got 'owl'"):
        check_classes(replace(EMPTY, class_names=("cat", "owl", "dog")), model_info())


@pytest.mark.parametrize("names", [("dog", "cat", "hen"), ("Cat", "Owl", "Dog")])
def test_some_names_in_another_order_are_refused_too(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="has classes of the model in a different order: expected class"):
        check_classes(replace(EMPTY, class_names=names), model_info())
