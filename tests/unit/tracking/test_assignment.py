from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest

from yoloship.tracking.assignment import best_pairs

Gains = npt.NDArray[np.float64]


def best_sum(gains: Gains) -> float:
    """The best sum of all that is possible, by trying everything."""
    if gains.shape[0] > gains.shape[1]:
        gains = gains.T
    rows, columns = gains.shape
    worth = np.maximum(gains, 0)
    orders = permutations(range(columns), rows)
    return max((float(sum(worth[row, column] for row, column in enumerate(order))) for order in orders), default=0.0)


def of_pairs(gains: Gains) -> float:
    rows, columns = best_pairs(gains)
    assert len(set(rows.tolist())) == len(rows) == len(set(columns.tolist())) == len(columns)
    assert (gains[rows, columns] > 0).all()
    assert (np.diff(rows) > 0).all()
    return float(gains[rows, columns].sum())


@pytest.mark.parametrize("steps", [None, 4, 2], ids=["all different", "some equal", "many equal"])
def test_no_other_choice_has_a_larger_sum(steps: int | None) -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        gains = rng.random(rng.integers(0, 6, 2)) - rng.random() * 0.8
        if steps:
            gains = np.round(gains * steps) / steps
        assert of_pairs(gains) == pytest.approx(best_sum(gains), abs=1e-9)


def test_a_row_may_stay_alone_so_that_the_others_gain_more() -> None:
    rows, columns = best_pairs(np.array([[0.9, 0.1], [0.8, -1.0], [0.7, 0.75]]))
    assert (rows.tolist(), columns.tolist()) == ([0, 2], [0, 1])


def test_pairs_without_gain_are_not_chosen() -> None:
    rows, columns = best_pairs(np.array([[0.0, -2.0], [-1.0, 0.5]]))
    assert (rows.tolist(), columns.tolist()) == ([1], [1])


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_without_rows_or_columns_there_are_no_pairs(shape: tuple[int, int]) -> None:
    rows, columns = best_pairs(np.empty(shape))
    assert len(rows) == len(columns) == 0


def test_one_more_row_moves_a_whole_chain_of_rows_to_their_next_column() -> None:
    n = 50
    gains = np.zeros((n + 1, n + 1))
    gains[range(n), range(n)] = 0.6
    gains[range(n), range(1, n + 1)] = 0.59
    gains[n, 0] = 0.9
    rows, columns = best_pairs(gains)
    assert rows.tolist() == list(range(n + 1))
    assert columns.tolist() == [*range(1, n + 1), 0]


def test_hundreds_of_rows_find_the_only_choice_in_which_all_gain_the_most() -> None:
    rng = np.random.default_rng(5)
    gains = rng.random((300, 300)) * 0.999
    order = rng.permutation(300)
    gains[range(300), order] = 1
    rows, columns = best_pairs(gains)
    assert rows.tolist() == list(range(300))
    assert columns.tolist() == order.tolist()


def test_the_gains_are_not_written_to() -> None:
    gains = np.array([[0.5, 0.6], [0.7, 0.1]])
    before = gains.copy()
    best_pairs(gains)
    np.testing.assert_array_equal(gains, before)
