from __future__ import annotations

from typing import Any

import pytest

from helpers.models import info
from yoloship.detect.pipeline import DEFAULT_SIDE, ModelInput
from yoloship.errors import InputError
from yoloship.letterbox import Letterbox


def settled(input_hw: Any, imgsz: Any = None, mode: Any = "square") -> ModelInput:
    return ModelInput.checked(info(input_hw=input_hw), imgsz, mode, "best.onnx")


@pytest.mark.parametrize(
    ("input_hw", "imgsz", "expected"),
    [
        ((64, 96), None, (64, 96)),
        ((64, 96), (64, 96), (64, 96)),
        ((None, None), None, (DEFAULT_SIDE, DEFAULT_SIDE)),
        ((None, 96), None, (DEFAULT_SIDE, 96)),
        ((None, None), (320, 96), (320, 96)),
    ],
)
def test_the_canvas_is_the_graphs_own_where_it_has_one(input_hw: Any, imgsz: Any, expected: Any) -> None:
    assert settled(input_hw, imgsz).input_hw == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((64, 96), (96, 96)), "best.onnx: the graph has a fixed size: expected 64×96, got 96×96; leave the size out"),
        (((None, 96), (64, 64)), "expected any×96, got 64×64"),
        (((None, None), (100, 96)), "imgsz: the size is not a multiple of the model's stride: expected n × 32"),
        (((None, None), (0, 96)), "imgsz: the size is not a multiple"),
        (((64, 96), None, "rect"), "rectangular input needs a graph with dynamic height and width: got 64×96"),
        (((None, 96), None, "rect"), "got dynamic×96"),
        (((64, 96), None, "oval"), "shape_mode: no such mode: expected square or rect, got 'oval'"),
    ],
)
def test_what_contradicts_the_graph_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        settled(*arguments)
    assert words in str(caught.value)


def test_an_image_lies_on_the_whole_canvas_or_on_as_little_as_the_strides_allow() -> None:
    assert settled((None, None), (128, 128)).letterbox((50, 120)) == Letterbox.fixed((50, 120), (128, 128))
    rect = settled((None, None), (128, 128), "rect").letterbox((50, 120))
    assert rect == Letterbox.rect((50, 120), (128, 128), 32)
    assert rect.input_hw == (64, 128)
