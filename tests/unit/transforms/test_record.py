from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from yoloship._util.fields import FieldReader
from yoloship.errors import InputError
from yoloship.transforms import Transform

CROP = Transform("crop", 256, (224, 224), "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SQUARE = Transform("square", None, (224, 224), "opencv-linear", (0.0,) * 3, (1.0,) * 3)


def read(data: Any) -> Transform:
    return Transform.read(FieldReader({"transform": data}, "model record", "m.onnx", InputError), "transform")


@pytest.mark.parametrize("one", [CROP, SQUARE, replace(CROP, mean=(0.5,), std=(0.5,))])
def test_it_comes_back_from_json_unchanged(one: Transform) -> None:
    assert read(json.loads(json.dumps(asdict(one)))) == one


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "pad"}, "bad 'kind': expected one of crop, square, stretch"),
        ({"kind": "square"}, "expected 1 to 8192 for the kind 'crop', and None for others, got 256"),
        ({"resize": None}, "expected 1 to 8192 for the kind 'crop'"),
        ({"resize": 0}, "bad 'resize'"),
        ({"resize": 1 << 40}, "bad 'resize'"),
        ({"crop": [224]}, "bad 'crop'"),
        ({"crop": [224, 1e3]}, "bad 'crop'"),
        ({"interpolation": "lanczos"}, "bad 'interpolation'"),
        ({"mean": []}, "bad 'mean'"),
        ({"mean": [0.1, "0.2", 0.3]}, "bad 'mean'"),
        ({"mean": [float("nan")] * 3}, "bad 'mean'"),
        ({"std": [0.0, 1.0, 1.0]}, "bad 'std'"),
        ({"std": [1.0]}, "needs one value of each for each channel"),
        ({"more": 1}, "an object with crop, interpolation, kind, mean, resize, std"),
    ],
)
def test_a_wrong_record_is_refused_by_its_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        read({**json.loads(json.dumps(asdict(CROP))), **change})
    assert words in str(caught.value)


def test_another_square_size_keeps_the_proportion_of_the_cut() -> None:
    assert CROP.at((112, 112)).resize == 128
    assert CROP.at((224, 224)) is CROP
    assert SQUARE.at((96, 128)).crop == (96, 128)


def test_a_size_for_which_no_library_defines_the_cut_is_refused() -> None:
    with pytest.raises(InputError, match="does not say how an image is cut for this size"):
        CROP.at((224, 320))


def test_a_transform_of_other_channels_is_refused_with_the_way_to_say_it() -> None:
    with pytest.raises(InputError, match=r"is for 3 channels, and the model has 1; .*NAME:mean=0\.5,std=0\.5"):
        CROP.check_channels(1)
    CROP.check_channels(3)


def test_its_text_says_what_it_does() -> None:
    assert str(CROP) == ("shorter side to 256, centre 224x224, bilinear, mean 0.485/0.456/0.406, std 0.229/0.224/0.225")
    assert str(SQUARE) == "centre square to 224x224, opencv-linear, values 0 to 1"
    assert CROP.normalises
    assert not SQUARE.normalises
