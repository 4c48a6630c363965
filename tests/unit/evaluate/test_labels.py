from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.evaluate.labels import read_label


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((50, 200, 3), np.uint8))
    return path


def test_lines_become_boxes_in_source_pixels(picture: Path) -> None:
    label = picture.with_suffix(".txt")
    label.write_text("2 0.5 0.5 0.25 1\n\n0 0.1 0.2 0.1 0.2\n")
    truth = read_label(label, picture)
    np.testing.assert_allclose(truth.boxes_xyxy, [[75, 0, 125, 50], [10, 5, 30, 15]])
    assert truth.class_ids.tolist() == [2, 0]


def test_a_picture_without_a_label_file_holds_nothing(picture: Path) -> None:
    assert read_label(picture.with_suffix(".txt"), picture).boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    "line", ["1 0.5 0.5 0.1", "x 0 0 0 0", "0 0.5 0.5 1.5 1", "0 nan 0 0 0", "-1 0 0 0 0", "<html>"]
)
def test_what_is_no_label_is_refused_with_its_line(picture: Path, line: str) -> None:
    label = picture.with_suffix(".txt")
    label.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(InputError, match=r"a\.txt, line 2: is no label: expected class cx cy w h"):
        read_label(label, picture)


def test_bytes_that_are_no_text_are_refused(picture: Path) -> None:
    label = picture.with_suffix(".txt")
    label.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_label(label, picture)
