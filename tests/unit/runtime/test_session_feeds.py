from __future__ import annotations

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.model import TensorSpec
from yoloship.runtime.session import check_feeds

IMAGES = TensorSpec("images", "float32", ("batch", 3, 4, 6))


def test_a_dynamic_axis_takes_any_extent() -> None:
    for batch in (1, 7):
        check_feeds((IMAGES,), {"images": np.zeros((batch, 3, 4, 6), np.float32)})


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (3, 4, 6), (1, 1, 3, 4, 6)])
def test_another_shape_is_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        check_feeds((IMAGES,), {"images": np.zeros(shape, np.float32)})
    assert str(caught.value) == f"images: wrong shape: expected (batch, 3, 4, 6), got {shape}"


def test_another_element_type_is_refused() -> None:
    with pytest.raises(InputError, match="images: wrong element type: expected float32, got uint8"):
        check_feeds((IMAGES,), {"images": np.zeros((1, 3, 4, 6), np.uint8)})
