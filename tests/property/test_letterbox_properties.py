from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship.letterbox import Letterbox

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE = st.integers(1, 8192)
CORNERS = np.array([[0.0, 0.0], [0.25, 0.75], [1 / 3, 1 / 7], [1.0, 1.0]])


def on_the_canvas(box: Letterbox, boxes_xyxy: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Source pixels as model pixels, by the definition: scaled by what each axis was really scaled by, then shifted."""
    (height, width), (rows, columns) = box.image_hw, box.resized_hw
    scale = np.array([columns / width, rows / height] * 2)
    shift = np.array([box.left, box.top] * 2, float)
    moved: npt.NDArray[Any] = (boxes_xyxy * scale + shift).astype(boxes_xyxy.dtype)
    return moved


@settings(deadline=None, max_examples=400)
@given(height=SIDE, width=SIDE, input_side=st.integers(1, 64).map(lambda n: n * 32), rect=st.booleans())
def test_there_and_back_is_exact_for_every_size(height: int, width: int, input_side: int, rect: bool) -> None:
    limit = (input_side, input_side)
    box = Letterbox.rect((height, width), limit, 32) if rect else Letterbox.fixed((height, width), limit)
    boxes = np.concatenate([CORNERS * (width, height), (1 - CORNERS) * (width, height)], axis=1)
    assert np.abs(box.to_image(on_the_canvas(box, boxes)) - boxes).max() <= 1e-9 * max(height, width)
    rounded = boxes.astype(np.float32)
    assert np.abs(box.to_image(on_the_canvas(box, rounded)) - rounded).max() <= 1e-3
    inside = on_the_canvas(box, boxes)
    assert inside.min() >= -1e-9
    assert (inside[:, [0, 2]] <= box.input_hw[1] + 1e-6).all()
    assert (inside[:, [1, 3]] <= box.input_hw[0] + 1e-6).all()


@settings(deadline=None, max_examples=400)
@given(height=SIDE, width=SIDE, input_h=SIDE, input_w=SIDE)
def test_the_image_fits_the_canvas_centred(height: int, width: int, input_h: int, input_w: int) -> None:
    box = Letterbox.fixed((height, width), (input_h, input_w))
    assert box.input_hw == (input_h, input_w)
    assert 1 <= box.resized_hw[0] <= input_h
    assert 1 <= box.resized_hw[1] <= input_w
    assert 0 <= box.right - box.left <= 1
    assert 0 <= box.bottom - box.top <= 1
    assert box.resized_hw[0] == input_h or box.resized_hw[1] == input_w


@settings(deadline=None, max_examples=200)
@given(height=SIDE, width=SIDE)
def test_rect_never_pads_a_whole_stride(height: int, width: int) -> None:
    box = Letterbox.rect((height, width), (640, 640), 32)
    assert box.left + box.right < 32
    assert box.top + box.bottom < 32
    assert not box.input_hw[0] % 32
    assert not box.input_hw[1] % 32
