"""Models of a validation are opened with one preprocessing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from helpers.models import finds_a_cat
from helpers.scenes import MODEL
from yoloship.errors import InputError
from yoloship.validate.opened import OpenOptions, open_model, sha256_of


def test_images_are_padded_to_the_square_unless_another_shape_is_asked_for() -> None:
    with open_model(MODEL, OpenOptions()) as detector:
        assert (detector.shape_mode, detector.input_hw) == ("square", (640, 640))
    with open_model(MODEL, OpenOptions((320, 320), "rect")) as detector:
        assert (detector.shape_mode, detector.input_hw) == ("rect", (320, 320))


def test_a_graph_of_a_fixed_size_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "cat.onnx"
    path.write_bytes(finds_a_cat((64, 96)).SerializeToString())
    with open_model(path, OpenOptions(class_names=("a", "b"))) as detector:
        assert (detector.input_hw, detector.class_names) == ((64, 96), ("a", "b"))
    with pytest.raises(InputError, match=r"cat\.onnx"):
        open_model(path, OpenOptions((320, 320)))


def test_the_digest_is_that_of_the_file() -> None:
    assert sha256_of(MODEL) == hashlib.sha256(MODEL.read_bytes()).hexdigest()
