"""The worst images in the page: small, drawn on, and never more than a bound together."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np

from yoloship.validate.record import Mark, WorstImage
from yoloship.validate.report import pictures
from yoloship.validate.report.pictures import picture_figures

SQUARE = ((10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0))


def image(path: Path, hw: tuple[int, int] = (900, 1200)) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (*hw, 3), np.uint8)
    assert cv2.imwrite(str(path), noise)
    return path


def jpegs(html: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", html)]


def test_an_image_is_made_small_and_drawn_on_in_its_own_pixels(tmp_path: Path) -> None:
    marks = (Mark("found", "cat 0.90", SQUARE), Mark("missed", "dog", SQUARE), Mark("invented", "owl 0.70", SQUARE))
    (html,) = picture_figures([WorstImage("a.png", image(tmp_path / "a.png"), 1, 1, 1, marks)], "w")
    (data,) = jpegs(html)
    small = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert small is not None
    assert small.shape == (540, 720, 3)
    assert 'viewBox="0 0 1200 900"' in html
    assert re.findall(r'class="mark (\w+)"', html) == ["found", "invented", "missed"]
    assert html.count("<polygon") == 3
    assert "1 correct, 1 missed, 1 false" in html
    assert html.count("<text") == 2  # errors have their names on them


def test_all_images_together_stay_below_the_bound(tmp_path: Path) -> None:
    one = WorstImage("a.png", image(tmp_path / "a.png"), 0, 1, 0)
    full = len(jpegs(picture_figures([one], "w")[0])[0])
    html = "".join(picture_figures([one, one], "w", 3 * full // 2))
    assert 0 < sum(map(len, jpegs(html))) <= 3 * full // 2
    assert jpegs("".join(picture_figures([one], "w", 10))) == []


def test_an_image_that_is_gone_is_said_and_not_an_error(tmp_path: Path) -> None:
    (html,) = picture_figures([WorstImage("gone.jpg", tmp_path / "gone.jpg", 0, 1, 0)], "w")
    assert "cannot be shown" in html
    assert str(tmp_path) not in html


def test_names_and_labels_are_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    marks = (Mark("missed", hostile, SQUARE),)
    (html,) = picture_figures([WorstImage(hostile, image(tmp_path / "a.png", (40, 40)), 0, 1, 0, marks)], "w")
    assert "<script" not in html


def test_on_a_crowded_image_errors_are_drawn_first(tmp_path: Path) -> None:
    marks = [Mark("found", "cat", SQUARE)] * 400 + [Mark("missed", "cat", SQUARE)] * 100
    (html,) = picture_figures(
        [WorstImage("a.png", image(tmp_path / "a.png", (40, 40)), 400, 100, 0, tuple(marks))], "w"
    )
    assert html.count("<polygon") == pictures.MAX_MARKS
    assert html.count("missed: cat") == 100
    assert "<text" not in html  # too many to be read
