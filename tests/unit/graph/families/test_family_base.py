from __future__ import annotations

from typing import Any

import pytest

from helpers.modules import Maker, changed, checkpoint, module
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph

HW = (64, 96)


def detector(source: Any, *, head: Any = None) -> Any:
    """A stem, a block that takes from `source`, and a head."""
    make = Maker(1)
    layers = [(make.conv(3, 8, 8, 8, padding=(0, 0)), -1), (make.conv(8, 8), source)]
    return checkpoint([*layers, (make.detect([8], [8]) if head is None else head, [-1])])


def refusal(made: Any) -> str:
    with pytest.raises(GraphError) as caught:
        build_graph(made, GraphConfig(HW))
    return str(caught.value)


@pytest.mark.parametrize("source", [-1, 0, [0], (-1,)])
def test_a_layer_takes_from_the_one_before_or_from_a_number(source: Any) -> None:
    expected = build_graph(detector(-1), GraphConfig(HW))
    assert build_graph(detector(source), GraphConfig(HW)).graph == expected.graph


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (1, "takes its input from a layer that is not before it: expected below 1, got 1"),
        (-2, "takes its input from a layer that is not before it"),
        ([], "takes nothing: expected at least one layer in 'f'"),
        (True, "bad 'f': expected numbers of layers"),
        ("0", "bad 'f'"),
        (0.0, "bad 'f'"),
    ],
)
def test_a_layer_that_takes_what_is_not_there_is_refused_by_its_place(source: Any, words: str) -> None:
    message = refusal(detector(source))
    assert message.startswith("hand.pt: model.1 ")
    assert words in message


def test_another_last_layer_is_refused_with_the_alias_that_would_make_it_the_head() -> None:
    message = refusal(detector(-1, head=changed(module("my.heads.Detect"))))
    assert "is not a head that this version can write: expected models.yolo.Detect" in message
    assert "--alias my.heads.Detect=models.yolo.Detect" in message
