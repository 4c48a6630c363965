"""Which rows go with which columns, so that the sum of their gains is the largest possible: `best_pairs`.

It is an assignment problem in which rows and columns may stay alone, solved exactly by shortest augmenting paths. Most
rows of a tracker want a column that no other row wants, and take no search.

Source: R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
Computing 38, 1987. A row that stays alone is matched with a column of its own, which costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]


def best_pairs(gains: Floats) -> tuple[Ints, Ints]:
    """Choose pairs of rows and columns, each at most once, with the largest sum of gains.

    Args:
        gains: (n, m) float64, finite: what each pair adds to the sum; a pair with 0 or less is never chosen. Read only.

    Returns:
        (k,) rows, ascending, and (k,) columns; the caller owns them.
    """
    rows, columns = gains.shape
    if not rows or not columns:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    costs = np.where(gains > 0, -gains, np.inf)
    wanted = costs.argmin(axis=1)
    row_prices = np.minimum(costs[np.arange(rows), wanted], 0.0)
    column_of, row_of = np.full(rows, -1, np.intp), np.full(columns, -1, np.intp)
    has_pair = row_prices < 0
    first = np.unique(wanted[has_pair], return_index=True)[1]  # each column goes to the first row that wants it
    takers = np.flatnonzero(has_pair)[first]
    column_of[takers], row_of[wanted[takers]] = wanted[takers], takers
    state = _Matching(costs, row_prices, np.zeros(columns), column_of, row_of)
    for row in np.flatnonzero(has_pair & (column_of < 0)).tolist():
        state.add(row)
    chosen = np.flatnonzero(column_of >= 0)
    return chosen, column_of[chosen]


class _Matching:
    """A matching that is the best possible of its rows, with the prices that prove it.

    The price of a row and of a column together are at most the cost of their pair, and equal it if the pair is chosen.

    Args:
        costs: (n, m), infinite if the pair cannot be chosen.
        row_prices: (n,), at most 0.
        column_prices: (m,), at most 0, and 0 for each column without a row.
        column_of: (n,): the column of each row, -1 if it is alone; it is written to.
        row_of: (m,): the row of each column, -1 if it is alone; it is written to.
    """

    def __init__(self, costs: Floats, row_prices: Floats, column_prices: Floats, column_of: Ints, row_of: Ints) -> None:
        self._costs = costs
        self._row_prices, self._column_prices = row_prices, column_prices
        self._column_of, self._row_of = column_of, row_of

    def add(self, row: int) -> None:
        """Add a row: find the cheapest way to a free column, or to leave a row alone, and change the pairs along it."""
        columns = len(self._row_of)
        distances = np.full(columns, np.inf)
        came_from = np.full(columns, -1, np.intp)  # the row before a column on the way to it
        seen = np.zeros(columns, np.bool_)
        open_distances = distances.copy()  # infinite for the columns that were seen
        path, rows = [], [row]
        so_far, current = 0.0, row
        alone, alone_at = -1, np.inf
        while True:
            if so_far - self._row_prices[current] < alone_at:
                alone, alone_at = current, so_far - self._row_prices[current]
            reach = self._costs[current] - self._column_prices
            reach += so_far - self._row_prices[current]
            better = (reach < open_distances) & ~seen
            open_distances[better] = reach[better]
            came_from[better] = current
            column = int(open_distances.argmin())
            so_far = float(open_distances[column])
            if alone_at <= so_far:
                so_far, column = alone_at, -1
                break
            if self._row_of[column] < 0:
                break
            distances[column], seen[column], open_distances[column] = so_far, True, np.inf
            path.append(column)
            current = int(self._row_of[column])
            rows.append(current)
        walked = np.array(path, np.intp)
        self._row_prices[rows] += so_far - np.concatenate([[0.0], distances[walked]])
        self._column_prices[walked] += distances[walked] - so_far
        self._turn(row, column, alone, came_from)

    def _turn(self, row: int, column: int, alone: int, came_from: Ints) -> None:
        """Change the pairs on the way from `row` to a free column, or to the row that is left alone if that is -1."""
        if column < 0:
            column, self._column_of[alone] = int(self._column_of[alone]), -1
            if alone == row:
                return
        while True:
            before = int(came_from[column])
            self._row_of[column] = before
            column, self._column_of[before] = int(self._column_of[before]), column
            if before == row:
                return
