from __future__ import annotations

import pytest

from yoloship._util.text import silent, tracked


def test_items_pass_through_and_each_says_before_it_how_many_are_done() -> None:
    said: list[object] = []

    def note(*step: object) -> None:
        said.append(step)

    for item in tracked("abc", "reading", note):
        said += [item]
    assert said == [("reading", 0, 3), "a", ("reading", 1, 3), "b", ("reading", 2, 3), "c"]


def test_what_the_callback_raises_ends_the_job() -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(tracked([1], "reading", stop))


def test_nobody_has_to_listen() -> None:
    assert list(tracked([1, 2], "reading", None)) == list(tracked([1, 2], "reading", silent)) == [1, 2]
