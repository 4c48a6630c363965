from __future__ import annotations

import pytest

from yoloship.datasets.scan import scanned
from yoloship.errors import InputError


def test_every_item_is_looked_at_in_order_and_progress_is_said_now_and_then() -> None:
    said: list[tuple[str, float, float]] = []
    found = list(scanned(range(250), lambda item: item + 1, lambda *words: said.append(words)))
    assert found == list(range(1, 251))
    assert said == [("reading the dataset", done, 250) for done in (0, 100, 200)]


def test_the_first_error_in_order_is_raised() -> None:
    def look(item: int) -> int:
        if item in {3, 5}:
            raise InputError(f"item {item}")
        return item

    with pytest.raises(InputError, match="item 3"):
        list(scanned(range(10), look))
