"""Boxes and labels: where they are, how they scale, what they leave alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship.errors import InputError
from yoloship.results.detections import Detections
from yoloship.results.drawing import _visual_order, as_canvas, class_color, draw_boxes, text_color

Image = npt.NDArray[np.uint8]


def plain(height: int, width: int, value: int = 128) -> Image:
    return np.full((height, width, 3), value, np.uint8)


def drawn(image: Image, boxes: list[list[float]], labels: list[str], class_ids: list[int] | None = None) -> Image:
    ids = np.array(class_ids or [0] * len(boxes), np.int32)
    return draw_boxes(image.copy(), np.array(boxes, np.float32).reshape(-1, 4), ids, labels)


def changed(before: Image, after: Image) -> npt.NDArray[np.bool_]:
    return np.asarray((before != after).any(axis=2))


def test_the_image_itself_is_not_written_to() -> None:
    image = plain(100, 100)
    result = drawn(image, [[10, 40, 60, 90]], ["cat 0.9"])
    assert (image == 128).all()
    assert changed(image, result).any()


def test_without_boxes_the_copy_is_equal_and_separate() -> None:
    image = plain(20, 30)
    result = drawn(image, [], [])
    assert np.array_equal(result, image)
    assert not np.shares_memory(result, image)


def test_a_box_is_drawn_where_it_is() -> None:
    image = plain(400, 400)
    marks = changed(image, drawn(image, [[100, 150, 300, 350]], [""]))
    rows, columns = np.nonzero(marks)
    assert (abs(columns.min() - 100), abs(columns.max() - 300)) <= (3, 3)
    assert (abs(rows.min() - 150), abs(rows.max() - 350)) <= (3, 3)
    assert not marks[160:340, 110:290].any()


def test_an_empty_label_gives_a_box_without_a_tag() -> None:
    image = plain(200, 200)
    assert not changed(image, drawn(image, [[50, 80, 150, 150]], [""]))[:70].any()
    assert changed(image, drawn(image, [[50, 80, 150, 150]], ["dog"]))[:76].any()


@pytest.mark.parametrize("side", [320, 640, 1280, 2560])
def test_lines_and_letters_grow_with_the_image(side: int) -> None:
    image = plain(side, side)
    box = [side * 0.3, side * 0.4, side * 0.8, side * 0.9]
    marks = changed(image, drawn(image, [box], ["person 0.93"]))
    line_px = int(marks[int(side * 0.65), : int(side * 0.5)].sum())
    assert line_px == pytest.approx(1 + side / 480, abs=3.5)
    tag_px = int(marks[: int(side * 0.39), int(side * 0.32)].sum())
    assert 0.012 <= tag_px / side <= 0.05


@pytest.mark.parametrize("background", [0, 64, 128, 192, 255])
def test_every_class_shows_on_dark_and_light(background: int) -> None:
    image = plain(640, 640, background)
    for class_id in range(20):
        result = drawn(image, [[100, 100, 500, 500]], [""], [class_id])
        contrast = np.abs(result[changed(image, result)].astype(int) - background).max()
        assert contrast >= 90


def luminance(color: tuple[int, int, int]) -> float:
    blue, green, red = ((c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("class_id", range(0, 1000, 7))
def test_the_text_stands_out_from_its_tag(class_id: int) -> None:
    tag = class_color(class_id)
    high, low = sorted((luminance(tag), luminance(text_color(tag))), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, criterion 1.4.3


def test_a_class_keeps_its_colour_and_neighbours_differ() -> None:
    colors = [class_color(i) for i in range(80)]
    assert colors == [class_color(i) for i in range(80)]
    assert len(set(colors)) == 80
    for one, other in pairwise(colors):
        assert np.abs(np.subtract(one, other)).max() >= 60


@pytest.mark.parametrize(
    "box", [[0, 0, 30, 30], [370, 0, 399, 30], [0, 270, 30, 299], [370, 270, 399, 299], [0, 0, 399, 299]]
)
def test_labels_at_the_edges_stay_inside_the_image(box: list[float]) -> None:
    image = plain(300, 400)
    label = "a longer label 0.99"
    at_edge = drawn(image, [box], [label])
    in_middle = drawn(image, [[180, 150, 180 + box[2] - box[0], 180]], [label])
    assert letters(at_edge) == pytest.approx(letters(in_middle), rel=0.25)


def letters(image: Image) -> int:
    """Black or white pixels, which only text has here."""
    return int(((image < 40).all(axis=2) | (image > 215).all(axis=2)).sum())


@pytest.mark.parametrize(
    "name", ["person", "Fußgänger", "žluťoučký kůň", "машина", "Ωμέγα", "汽车", "自転車", "사람", "سيارة", "אדם"]
)
def test_letters_beyond_ascii_are_drawn_and_not_replaced(name: str) -> None:
    image = plain(1200, 1200)
    box: list[list[float]] = [[50, 100, 550, 190]]
    assert letters(drawn(image, box, [name])) > 20
    assert not np.array_equal(drawn(image, box, [name]), drawn(image, box, ["?" * len(name)]))


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("אדם עץ 0.91", "ץע םדא 0.91"),
        ("big אדם, small", "big םדא, small"),
        ("машина 0.5", "машина 0.5"),
        ("אדם", "םדא"),
    ],
)
def test_right_to_left_letters_are_laid_out_for_the_eye(written: str, shown: str) -> None:
    assert _visual_order(written) == shown


def test_a_label_wider_than_the_image_is_cut_with_an_ellipsis() -> None:
    image = plain(120, 160)
    result = drawn(image, [[20, 60, 140, 110]], ["endless " * 40])
    tag = changed(image, result)[:58]
    assert tag.any()
    assert np.array_equal(result, drawn(image, [[20, 60, 140, 110]], ["endless " * 41]))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 3), (9, 9), (16, 20)])
def test_tiny_images_are_drawn_on_without_failing(size: tuple[int, int]) -> None:
    height, width = size
    assert drawn(plain(height, width), [[0, 0, width, height]], ["person 0.93"]).shape == (height, width, 3)


def test_labels_of_neighbours_do_not_hide_each_other() -> None:
    image = plain(600, 600)
    boxes = [[200.0 + 3 * i, 300, 400, 500] for i in range(3)]
    together = letters(drawn(image, boxes, ["person"] * 3))
    alone = letters(drawn(image, boxes[:1], ["person"]))
    assert together >= 2.8 * alone


def test_the_best_box_lies_on_top() -> None:
    image = plain(400, 400)
    both = drawn(image, [[100, 100, 300, 300], [100, 100, 300, 300]], ["", ""], [0, 1])
    assert tuple(both[200, 100]) == class_color(0)


@pytest.mark.parametrize("label", ["two\nlines", "tab\there", "bell\a", "\0", "\ud800", "e\u0301", "a\u202eb"])
def test_odd_letters_in_a_name_do_no_harm(label: str) -> None:
    assert drawn(plain(100, 300), [[10, 50, 200, 90]], [label]).shape == (100, 300, 3)


def test_boxes_that_are_not_finite_are_left_out() -> None:
    image = plain(60, 60)
    boxes = [[float("nan"), 0, 10, 10], [0, 0, float("inf"), 10]]
    assert np.array_equal(drawn(image, boxes, ["a", "b"]), image)


def test_numbers_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="boxes, class ids and labels differ in number: got 1, 1 and 2"):
        drawn(plain(9, 9), [[0, 0, 1, 1]], ["a", "b"])


@pytest.mark.parametrize(
    "image", [np.zeros((5, 0), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((0, 5, 3), np.uint8)]
)
def test_a_image_of_another_form_is_refused(image: Image) -> None:
    with pytest.raises(InputError, match="somebody: wrong image"):
        as_canvas(image, "somebody", (image.shape[0], image.shape[1]))


def test_what_is_no_array_is_refused() -> None:
    with pytest.raises(InputError, match="somebody: is not an image: expected an array, got str"):
        as_canvas("photo.jpg", "somebody", (9, 9))  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.lists(
        st.tuples(
            st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4),
            st.integers(0, 2**31 - 1),
            st.text(max_size=30),
        ),
        max_size=6,
    ),
)
def test_any_boxes_and_any_texts_can_be_drawn(size: tuple[int, int], rows: list[tuple[list[float], int, str]]) -> None:
    image = plain(*size)
    result = drawn(image, [row[0] for row in rows], [row[2] for row in rows], [row[1] for row in rows])
    assert result.shape == image.shape


def test_boxes_are_drawn_without_labels_or_without_scores() -> None:
    image = np.full((200, 300, 3), 90, np.uint8)
    found = Detections(
        np.array([[60, 60, 200, 150]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32), ("cat",),
        (200, 300),
    )  # fmt: skip
    full, named, bare = (
        found.draw(image),
        found.draw(image, hide_scores=True),
        found.draw(image, hide_labels=True),
    )
    above = [(drawn[:55] != 90).any(axis=2).sum() for drawn in (full, named, bare)]
    assert above[0] > above[1] > above[2] == 0
    assert (bare[60:150] != 90).any()


@pytest.mark.parametrize("width", [1, 3, 9])
def test_the_line_width_is_the_one_asked_for(width: int) -> None:
    image = np.full((200, 300, 3), 90, np.uint8)
    drawn = draw_boxes(image, np.array([[60, 60, 200, 150]], np.float32), np.zeros(1, np.int32), [""], width)
    color = np.array(class_color(0), np.uint8)
    assert (drawn[100, :130] == color).all(axis=1).sum() in {width, width + 2}  # OpenCV rounds the ends of thick lines


@pytest.mark.parametrize("width", [0, -1, 201])
def test_a_line_width_out_of_range_is_refused(width: int) -> None:
    with pytest.raises(InputError, match="line width: out of range: expected 1 to 200 pixels"):
        as_canvas(np.zeros((9, 9, 3), np.uint8), "somebody", (9, 9), width)


def test_grey_images_are_drawn_on_in_colour_and_none_is_written_to() -> None:
    grey = np.full((50, 60), 90, np.uint8)
    colored = np.dstack([grey] * 3)
    for image in (grey, grey[:, :, None], colored):
        canvas = as_canvas(image, "somebody", (50, 60))
        assert np.array_equal(canvas, colored)
        canvas[:] = 0
        assert (image == 90).all()
