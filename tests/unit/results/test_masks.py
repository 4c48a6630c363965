from __future__ import annotations

import copy

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.results.masks import Masks


def some(count: int = 3) -> Masks:
    return Masks(np.random.default_rng(0).random((count, 4, 5)) > 0.5)


def test_rows_are_selected_as_in_an_array() -> None:
    masks = some()
    assert np.array_equal(masks[1:].array, masks.array[1:])
    assert masks[[2, 0]] == Masks(masks.array[[2, 0]])
    assert (len(masks[np.array([True, False, True])]), masks.image_hw) == (2, (4, 5))


def test_masks_are_joined_in_order() -> None:
    joined = Masks.concatenate([some(2), some(3)])
    assert np.array_equal(joined.array, np.concatenate([some(2).array, some(3).array]))


def test_the_array_cannot_be_written_even_in_a_copy() -> None:
    for masks in (some(), copy.deepcopy(some())):
        with pytest.raises(ValueError, match="read-only"):
            masks.array[0, 0, 0] = True


@pytest.mark.parametrize("array", [np.zeros((2, 4, 5)), np.zeros((4, 5), np.bool_), [[True]]])
def test_another_array_is_refused(array: object) -> None:
    with pytest.raises(InputError, match=r"expected bool \(n, height, width\)"):
        Masks(array)  # type: ignore[arg-type]


def test_masks_differ_from_other_things() -> None:
    assert some() != "masks"
    assert some() != some()[:2]
