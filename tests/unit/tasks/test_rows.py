from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.decoded import HW, as_corners, foreign, grid_rows, raw, refusal
from helpers.models import NAMES, STRIDES
from yoloship.tasks import info_of

if TYPE_CHECKING:
    import numpy.typing as npt


@pytest.mark.parametrize(
    "strides",
    [(8,), (32,), (4, 8, 16), (32, 16, 8), (4, 8, 16, 32, 64), (16, 32), (64, 32, 16, 8), (5, 10, 20), (8, 32)],
)
@pytest.mark.parametrize("anchors", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_strides_are_found_from_the_numbers(strides: tuple[int, ...], anchors: int, dtype: type) -> None:
    rows: npt.NDArray[Any] = grid_rows(strides, (320, 640), anchors=anchors).astype(dtype)
    assert info_of(foreign(rows, {}, (1, 3, 320, 640)), "x.onnx").strides == strides


def normalised(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    changed: npt.NDArray[np.float32] = rows.copy()
    changed[..., :4] /= np.array([96, 64, 96, 64], np.float32)
    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (as_corners, "boxes that are corners (x1, y1, x2, y2)"),
        (normalised, "boxes that are centre and size normalised to 0..1"),
        (lambda rows: normalised(as_corners(rows)), "boxes that are corners normalised to 0..1"),
        (lambda rows: rows[..., [1, 0, 3, 2, 4, 5, 6, 7]], "boxes that are y before x"),
        (lambda rows: np.abs(rows[:, ::-1]), "boxes that are not around the cells of a 64×96 image"),
        (lambda rows: rows * np.array([1] * 4 + [50] * 4, np.float32), "scores outside 0 to 1"),
        (lambda rows: rows * np.array([1] * 4 + [0] + [1] * 3, np.float32) + np.eye(8, dtype=np.float32)[4], "YOLOv6"),
    ],
)
def test_rows_of_the_right_shape_that_mean_something_else_are_named(change: Any, words: str) -> None:
    assert words in refusal(foreign(change(grid_rows(STRIDES, HW))))


def quiet(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The same rows with the objectness that a trained model gives for a grey image."""
    changed: npt.NDArray[np.float32] = rows.copy()
    changed[..., 4] *= 1e-4
    return changed


def test_class_scores_that_hold_the_objectness_already_are_named() -> None:
    right = quiet(grid_rows(STRIDES, HW))
    assert info_of(foreign(right), "x.onnx").strides == STRIDES
    products = right.copy()
    products[..., 5:] *= right[..., 4:5]
    text = refusal(foreign(products))
    assert "class scores below the objectness in every row" in text
    assert "because detection multiplies them again" in text


def test_rows_without_an_objectness_are_named_unless_the_classes_are() -> None:
    right = quiet(grid_rows(STRIDES, HW))
    products = np.concatenate([right[..., :4], right[..., 5:] * right[..., 4:5]], axis=-1)
    products[..., 4] *= 0.1  # a rare class first, so that not every other one lies below it
    assert "(B, 378, 7) seems to be (B, N, 4 + classes)" in refusal(foreign(products, {}))
    assert "3 class names beside an output (B, 378, 7)" in refusal(foreign(products))
    assert info_of(foreign(products, {}), "x.onnx", class_names=("a", "b")).class_names == ("a", "b")
    assert info_of(foreign(right, {}), "x.onnx").class_names == ("0", "1", "2")


@pytest.mark.parametrize("names", ["", "['a', 'b', 'c']"])
def test_a_transposed_output_is_named(names: str) -> None:
    rows = np.ascontiguousarray(grid_rows(STRIDES, HW).transpose(0, 2, 1))
    text = refusal(foreign(rows, {"names": names}))
    assert "the transposed output (B, 8, 378): (B, 5 + classes, N)" in text


def test_rows_without_decoding_are_named() -> None:
    offsets = grid_rows((8, 16, 32), (320, 320), anchors=1)
    offsets[..., :4] = np.random.default_rng(0).normal(0, 1.5, offsets[..., :4].shape)
    assert "not decoded, as in YOLOX exports" in refusal(foreign(offsets, {}, (1, 3, 320, 320)))


@pytest.mark.parametrize(("strides", "stride"), [(STRIDES, 8), (STRIDES[::-1], 8), (STRIDES, 32)])
def test_a_stale_anchor_grid_is_said_in_one_line(strides: tuple[int, ...], stride: int) -> None:
    broken = grid_rows(strides, HW)
    start = 3 * sum((64 // other) * (96 // other) for other in strides[: strides.index(stride)])
    broken[:, start : start + 3 * (64 // stride) * (96 // stride), 2:4] = 0
    text = refusal(foreign(broken))
    assert text.startswith(f"x.onnx: every box of the level with stride {stride} has zero size")
    assert "export it again from its .pt" in text
    assert "\n" not in text


def test_the_finest_level_may_hold_some_boxes_without_size() -> None:
    healthy = raw()
    healthy[:, : 3 * 8 * 12 - 1, 2:4] = 0
    assert info_of(foreign(healthy), "x.onnx").class_names == NAMES
