"""Whatever a label file holds, it gives boxes inside the image's reach or an error that names the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.evaluate.label_lines import MAX_CLASS_ID, CornerLines, KeypointLines, LabelLines, OutlineLines
from yoloship.evaluate.labels import read_label

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
WORDS = st.one_of(
    st.integers(-5, 10**25).map(str),
    st.floats().map(repr),
    st.floats(0, 1).map(repr),
    st.sampled_from(["0", "1", "0.5", "1e23", "0x1", "1_0", "nan", "inf", "-0", "+.5", "٣", "²", "1e-400", "9" * 5000]),
    st.text(max_size=4),
)
LINES = st.lists(WORDS, max_size=7).map(" ".join)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (200, 50)).save(path)
    return path


def read(label: Path, image: Path) -> Truth | str:
    """What is in an image, or why that cannot be said."""
    try:
        return read_label(label, image)
    except InputError as error:
        return str(error)


@QUICK
@given(st.lists(LINES, max_size=5).map("\n".join))
def test_any_lines_give_boxes_or_an_error_that_names_the_file(image: Path, text: str) -> None:
    label = image.with_suffix(".txt")
    label.write_bytes(text.encode("utf-8", "surrogatepass"))
    truth = read(label, image)
    if isinstance(truth, str):
        assert str(label) in truth
        assert len(truth) < 1000
        return
    assert len(truth.class_ids) <= text.count("\n") + 1
    assert all(0 <= number <= MAX_CLASS_ID for number in truth.class_ids.tolist())
    assert np.isfinite(truth.boxes_xyxy).all()
    assert (np.abs(truth.boxes_xyxy - [100, 25, 100, 25]) <= [200, 50, 200, 50]).all()


def read_text(form: LabelLines, text: str) -> Truth | str:
    """The objects of a label file of an image of 50×200 pixels, or why they cannot be said."""
    try:
        return form.truth(text, (50, 200), "a.txt")
    except InputError as error:
        return str(error)


FORMS = (OutlineLines(), KeypointLines(2), CornerLines())
SHARES = st.lists(st.one_of(st.floats(0, 1).map(repr), st.sampled_from(["0", "1", "2", "0.5", "nan"])), max_size=11)
OBJECTS = SHARES.map(lambda shares: " ".join(["1", *shares]))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
@QUICK
@given(st.lists(st.one_of(OBJECTS, LINES), max_size=4).map("\n".join))
def test_labels_of_every_task_are_finite_and_inside_the_image_or_refused_by_line(form: LabelLines, text: str) -> None:
    truth = read_text(form, text)
    if isinstance(truth, str):
        assert truth.startswith("a.txt, line ")
        assert len(truth) < 1000
        return
    count = len(truth.class_ids)
    assert truth.boxes_xyxy.shape == (count, 4)
    extras = [array for array in (truth.polygons, truth.keypoints, truth.boxes_xywhr) if array is not None]
    assert [len(array) for array in extras] == [count]
    places = [*(truth.polygons or ()), *(truth.keypoints if truth.keypoints is not None else ())]
    assert all(((place[:, :2] >= 0) & (place[:, :2] <= [200, 50])).all() for place in places)
    assert truth.boxes_xywhr is None or np.isfinite(truth.boxes_xywhr).all()


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes_give_boxes_or_an_error_that_names_the_file(image: Path, data: bytes) -> None:
    label = image.with_suffix(".txt")
    label.write_bytes(data)
    truth = read(label, image)
    assert isinstance(truth, Truth) or str(label) in truth
