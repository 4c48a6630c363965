from __future__ import annotations

import numpy as np
import pytest

from yoloship.demo._paint import blend, chance, fill, flat, hsv, letters, log_uniform, mottle, photograph, words


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_colours_are_bgr() -> None:
    assert hsv(0, 1, 1) == (0, 0, 255)
    assert hsv(1 / 3, 1, 1) == (0, 255, 0)
    assert flat(1, 2, (1, 2, 3)).tolist() == [[[1, 2, 3], [1, 2, 3]]]


def test_a_part_of_an_image_is_filled_where_it_lies_and_nothing_beside_it() -> None:
    image = flat(4, 5, (0, 0, 0))
    fill(image[1:3, 2:4], (300, 7, -1))
    assert image[1:3, 2:4].tolist() == [[[255, 7, 0]] * 2] * 2
    assert image.sum() == 4 * (255 + 7)


def test_noise_of_128_changes_nothing_and_the_input_stays() -> None:
    image = flat(3, 3, (10, 20, 30))
    np.testing.assert_array_equal(mottle(image, np.full((3, 3), 128, np.uint8), 50), image)
    assert (mottle(image, np.full((3, 3), 255, np.uint8), 64) > image).all()
    assert image[0, 0].tolist() == [10, 20, 30]


def test_alpha_says_which_image_shows() -> None:
    below, above = flat(1, 3, (0, 0, 0)), flat(1, 3, (200, 200, 200))
    mixed = blend(below, above, np.array([[0, 255, 128]], np.uint8))
    assert mixed[0, 0].tolist() == [0, 0, 0]
    assert mixed[0, 1].tolist() == [200, 200, 200]
    assert 95 <= mixed[0, 2, 0] <= 105


def test_chances_are_those_that_are_asked_for_and_a_number_stays_in_its_range() -> None:
    source = rng()
    assert [chance(source, 0), chance(source, 1)] == [False, True]
    numbers = [log_uniform(source, 2, 32) for _ in range(400)]
    assert all(2 <= number <= 32 for number in numbers)
    assert 130 < sum(number < 8 for number in numbers) < 270  # two of its four octaves


def test_texts_are_of_the_length_and_the_letters_that_are_asked_for() -> None:
    assert len(words(rng(), 3).split()) == 3
    assert set(letters(rng(), 50, "AB")) == {"A", "B"}
    assert words(rng(), 9) == words(rng(), 9)


@pytest.mark.parametrize("finest_px", [2.0, 8.0])
def test_a_photograph_keeps_the_size_and_depends_on_the_seed_alone(finest_px: float) -> None:
    image = flat(64, 96, (90, 120, 150))
    first, again = (photograph(rng(), image.copy(), finest_px) for _ in range(2))
    assert first.shape == (64, 96, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
