from __future__ import annotations

import pytest

from yoloship.validate.yolov5.plan import Canvas, Planned, rectangles, squares, whole_strides


@pytest.mark.parametrize(
    ("asked", "stride", "used"), [(640, 32, 640), (100, 32, 128), (1, 32, 32), (641, 32, 672), (672, 64, 704)]
)
def test_a_size_is_rounded_up_to_whole_strides(asked: int, stride: int, used: int) -> None:
    assert whole_strides(asked, stride) == used


def test_squares_keep_the_order_and_have_no_margin() -> None:
    assert squares(2, 640) == [Planned(0, 0, (640, 640)), Planned(1, 1, (640, 640))]


@pytest.mark.parametrize(
    ("sizes", "canvas"),
    [
        ([(480, 640)], (512, 672)),
        ([(640, 480)], (672, 512)),
        ([(640, 640)], (672, 672)),
        ([(480, 640), (100, 640)], (512, 672)),
        ([(640, 480), (640, 320)], (672, 512)),
        ([(480, 640), (640, 480)], (672, 672)),
    ],
)
def test_a_batch_has_the_canvas_of_its_tallest_or_widest_image_and_half_a_stride_more(
    sizes: list[tuple[int, int]], canvas: tuple[int, int]
) -> None:
    assert {planned.input_hw for planned in rectangles(sizes, Canvas(640, 32, 32))} == {canvas}


def test_images_are_sorted_by_their_aspect_ratio_and_equal_ones_keep_their_order() -> None:
    sizes = [(640, 480), (480, 640), (320, 640), (960, 1280)]
    plan = rectangles(sizes, Canvas(640, 2, 32))
    assert [(planned.index, planned.batch) for planned in plan] == [(2, 0), (1, 0), (3, 1), (0, 1)]
    assert [planned.input_hw for planned in plan] == [(512, 672), (512, 672), (672, 672), (672, 672)]


def test_a_batch_is_never_larger_than_the_dataset() -> None:
    assert len({planned.batch for planned in rectangles([(10, 10)] * 3, Canvas(64, 32, 32))}) == 1
    assert rectangles([], Canvas(640, 32, 32)) == []


def test_a_larger_stride_gives_larger_steps_and_margins() -> None:
    assert rectangles([(480, 640)], Canvas(640, 32, 64))[0].input_hw == (512, 704)
