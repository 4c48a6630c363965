from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import forge
from yoloship.checkpoint.limits import LIMITS, Limits
from yoloship.checkpoint.machine import Machine


def run(data: bytes, limits: Limits = LIMITS) -> object:
    return Machine(data, 0, limits, "best.pt").run()


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 200), 1 << 200),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
)
keys = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(1 << 63), (1 << 63) - 1))
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(keys, inner), st.tuples(inner, inner), st.frozensets(keys), st.sets(keys)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@settings(max_examples=40, deadline=None)
@given(value=values)
def test_plain_values_come_back_as_pickle_wrote_them(protocol: int, value: object) -> None:
    assert run(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [0, 1])
def test_values_of_the_text_protocols_come_back(protocol: int) -> None:
    value = {"a": [1, 2.5, None, True, -(1 << 70)], "b": ("x", {"y": False})}
    assert run(pickle.dumps(value, protocol)) == value


def test_a_python_2_stream_is_read() -> None:
    assert run(b"(dp0\nS'a'\np1\nI1\nsS'b'\nL3L\nsU\x01cF1.5\ns.") == {"a": 1, "b": 3, "c": 1.5}


def test_the_position_behind_the_stream_is_kept() -> None:
    machine = Machine(forge.end(forge.NONE) + b"rest", 0, LIMITS, "best.pt")
    assert machine.run() is None
    assert machine.position == 4


def test_lone_surrogates_become_replacement_characters() -> None:
    assert run(forge.end(forge.text("a\ud800b"))) == "a\ufffdb"
