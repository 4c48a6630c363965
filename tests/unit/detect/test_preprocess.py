from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from yoloship.detect.preprocess import device_hw, letterbox_batch, to_float, to_input
from yoloship.letterbox import Letterbox


def test_floats_are_rgb_planes_over_255() -> None:
    canvases = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), dtype=np.uint8)
    planes = to_float(canvases)
    assert planes.dtype == np.float32
    assert planes.flags.c_contiguous
    np.testing.assert_array_equal(planes, canvases[..., ::-1].transpose(0, 3, 1, 2) / np.float32(255))


def test_an_input_of_bytes_takes_the_canvases_as_they_are() -> None:
    canvases = np.zeros((1, 32, 32, 3), np.uint8)
    assert to_input(canvases, "uint8") is canvases


def test_an_input_of_half_precision_gets_rounded_floats() -> None:
    canvases = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    floats, halves = to_input(canvases, "float32"), to_input(canvases, "float16")
    assert floats.shape == (1, 3, 32, 32)
    assert halves.dtype == np.float16
    np.testing.assert_array_equal(halves, floats.astype(np.float16))


def test_images_of_different_sizes_share_a_batch_and_spare_canvases_are_black() -> None:
    images = [np.full((10, 20, 3), 200, np.uint8), np.full((30, 10, 3), 50, np.uint8)]
    boxes = [Letterbox.fixed(image.shape[:2], (32, 32)) for image in images]
    out = np.full((3, 32, 32, 3), 9, np.uint8)
    assert letterbox_batch(images, boxes, out) is out
    for row in range(2):
        np.testing.assert_array_equal(out[row], boxes[row].apply(images[row]))
    assert not out[2].any()


def test_an_array_on_a_device_may_state_its_shape_in_its_interface_alone() -> None:
    assert device_hw(SimpleNamespace(shape=(4, 6, 3))) == (4, 6)
    assert device_hw(SimpleNamespace(__cuda_array_interface__={"shape": (4, 6, 3)})) == (4, 6)
