from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.modules import module, tensor
from yoloship.errors import GraphError
from yoloship.graph.heads.head import read_strides
from yoloship.graph.module_view import ModuleView


def view(**attributes: Any) -> ModuleView:
    return ModuleView(module("models.yolo.Detect", attributes), "model.24", "best.pt")


@pytest.mark.parametrize(
    "stride", [[8, 16], (8.0, 16.0), np.array([8, 16]), tensor(np.array([8, 16])), tensor(np.array([[8.0], [16.0]]))]
)
def test_strides_are_read_in_whatever_form_a_release_kept_them(stride: Any) -> None:
    assert read_strides(view(stride=stride), 2) == (8, 16)


@pytest.mark.parametrize("stride", [None, [8], [8, 16, 32], [8, 0], [8, -16], [8, 12.5], [8, 1 << 20], "8", [8, "16"]])
def test_strides_that_are_not_whole_numbers_for_each_level_are_refused(stride: Any) -> None:
    with pytest.raises(GraphError, match=r"best\.pt: model\.24 .*bad 'stride': expected 2 whole numbers of pixels"):
        read_strides(view(stride=stride), 2)
