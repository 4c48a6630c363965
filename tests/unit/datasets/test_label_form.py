from __future__ import annotations

import pytest

from helpers.datasets import model_info
from yoloship.datasets.label_form import label_form, overlap_of
from yoloship.errors import InputError
from yoloship.evaluate.label_lines import BOXES, CornerLines, KeypointLines, OutlineLines


def test_each_task_has_its_form_of_labels() -> None:
    assert label_form(model_info()) is BOXES
    assert isinstance(label_form(model_info("segment")), OutlineLines)
    assert isinstance(label_form(model_info("pose", keypoint_shape=(2, 3))), KeypointLines)
    assert isinstance(label_form(model_info("obb")), CornerLines)


def test_each_task_says_what_it_is_about() -> None:
    found = [overlap_of(model_info(task)) for task in ("detect", "segment", "pose", "obb", "classify")]
    assert found == ["boxes", "masks", "keypoints", "oriented", None]


def test_a_task_of_somebody_else_is_refused() -> None:
    for ask in (label_form, overlap_of):
        with pytest.raises(InputError, match="no dataset can be read for the task 'depth'"):
            ask(model_info("depth"))
    with pytest.raises(InputError, match="no dataset can be read for the task 'classify'"):
        label_form(model_info("classify"))
