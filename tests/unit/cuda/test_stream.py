"""Streams of others; tests/gpu/test_device.py and test_graph.py test ours, here on the stand-in driver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from yoloship.cuda.stream import Pace, stream_address
from yoloship.errors import InputError


@pytest.mark.parametrize(
    ("stream", "address"),
    [
        (SimpleNamespace(__cuda_stream__=lambda: (0, 7)), 7),
        (SimpleNamespace(cuda_stream=8), 8),
        (SimpleNamespace(ptr=9), 9),
        (10, 10),
    ],
)
def test_a_stream_of_each_library_has_an_address(stream: Any, address: int) -> None:
    assert stream_address(stream) == address


def test_a_protocol_of_another_version_is_refused() -> None:
    with pytest.raises(InputError, match="stream: unknown version of __cuda_stream__: expected 0, got 1"):
        stream_address(SimpleNamespace(__cuda_stream__=lambda: (1, 7)))


@pytest.mark.parametrize("stream", [None, "7", 1.5])
def test_what_is_not_a_stream_is_refused_by_its_type(stream: Any) -> None:
    with pytest.raises(InputError, match=type(stream).__name__):
        stream_address(stream)


def test_one_slow_run_does_not_make_the_next_ones_late() -> None:
    pace, usual = Pace(), []
    for took_s in (0.4, 0.02, 0.03, 0.5, 0.01):
        pace.note(took_s)
        usual.append(pace.usual_s)
    assert usual == [0, 0.02, 0.02, 0.03, 0.01]
