"""Tables as people read them."""

from __future__ import annotations

import numpy as np

from yoloship.cli.output import MAX_ROWS, columns, display_width, facts_table, result_table
from yoloship.results.detections import Detections


def found(*class_ids: int, names: tuple[str, ...] = ("cat", "dog")) -> Detections:
    count = len(class_ids)
    boxes = np.tile(np.array([[1, 2, 30.25, 40]], np.float32), (count, 1))
    return Detections(
        boxes, np.linspace(0.9, 0.5, count, dtype=np.float32), np.array(class_ids, np.int32), names, (48, 64)
    )


def test_one_image_has_a_row_for_each_object() -> None:
    assert result_table(found(0, 1), "a.jpg") == (
        "a.jpg  64×48\n"
        "class  score   x1   y1    x2    y2\n"
        "cat    0.900  1.0  2.0  30.2  40.0\n"
        "dog    0.500  1.0  2.0  30.2  40.0\n"
    )


def test_a_image_without_objects_says_so() -> None:
    assert result_table(found(), "a.jpg") == "a.jpg  64×48: nothing found\n"


def test_long_tables_end_with_how_many_more_there_are() -> None:
    many = result_table(found(*[0] * (MAX_ROWS + 5)), "a.jpg")
    assert many.endswith("and 5 more\n")
    assert many.count("\n") == MAX_ROWS + 3


def test_a_table_without_a_limit_shows_every_row() -> None:
    assert result_table(found(*[0] * (MAX_ROWS + 5)), "a.jpg", None).count("\n") == MAX_ROWS + 7


def test_wide_letters_keep_the_columns_aligned() -> None:
    assert columns([("a", "b"), ("汽车", "x"), ("e\u0301", "y")]) == "a     b\n汽车  x\ne\u0301     y\n"
    assert display_width("汽车e\u0301") == 5


def test_control_characters_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in result_table(found(0, names=("\x1b[2J",)), "\x1b]0;x\a.jpg")


def test_facts_wrap_below_themselves() -> None:
    assert facts_table([("a", "one two three four five six"), ("long", "x"), ("none", "")], 26) == (
        "a     one two three four\n      five six\nlong  x\nnone\n"
    )


def test_a_hash_stays_in_one_piece_however_narrow_the_terminal_is() -> None:
    digest = "0123456789abcdef" * 4
    lines = facts_table([("made from", f"checkpoint with SHA-256 {digest}")], 60).splitlines()
    assert lines == ["made from  checkpoint with SHA-256", f"           {digest}"]
