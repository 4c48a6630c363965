from __future__ import annotations

import threading

import pytest

from yoloship._util.threads import in_threads


@pytest.mark.timeout(60)
def test_results_come_in_order_whoever_is_first() -> None:
    second_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            second_done.wait()
        if item == 1:
            second_done.set()
        return item * 10

    assert list(in_threads(range(5), work, threads=2, ahead=4)) == [0, 10, 20, 30, 40]


def test_items_are_drawn_only_as_far_ahead_as_asked() -> None:
    drawn: list[int] = []

    def items() -> object:
        for item in range(100):
            drawn.append(item)
            yield item

    results = in_threads(items(), lambda item: item, threads=2, ahead=3)  # type: ignore[arg-type, var-annotated]
    assert next(results) == 0
    assert len(drawn) == 3
    results.close()  # type: ignore[attr-defined]
    assert len(drawn) == 3


def test_an_error_comes_after_the_results_before_it() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    results = in_threads(range(4), work, threads=2, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_none_is_an_item_as_any_other() -> None:
    assert list(in_threads([None, None], lambda item: item, threads=1, ahead=1)) == [None, None]
