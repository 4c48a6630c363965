"""Class names, file names and faults are what strangers wrote: none of it becomes part of the page's own markup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import pytest

from helpers.pages import Page
from yoloship.datasets.dataset import Dataset, Fault, Sample
from yoloship.evaluate.coco import Scored, Truth
from yoloship.validate.choices import ValOptions
from yoloship.validate.objects import judge_objects
from yoloship.validate.report.page import report_html

HOSTILE = (
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "<svg/onload=alert(1)>",
    "&lt;b&gt;&#x3c;script&#x3e;",
    "--></title><base href=//evil>",
    "javascript:alert(1)",
    "\u202ecilbup\u2066\x00\x1b[2J",
    "--s0:0;background:url(//evil)",
    "x" * 100_000,
)  # fmt: skip
PLAIN = "plain"


def page(words: str, folder: Path) -> str:
    """A report in which every text that is not ours is this one."""
    path = folder / "a.png"
    assert cv2.imwrite(str(path), np.zeros((50, 50, 3), np.uint8))
    boxes = np.array([[5.0, 5, 20, 20], [25, 25, 45, 45]])
    sample = Sample(path, words, (50, 50), Truth(boxes, np.array([0, 1])))
    scored = Scored(boxes.astype(np.float32), np.array([0.9, 0.8], np.float32), np.array([1, 1], np.int32), (50, 50))
    fault = Fault(Path(f"labels/{words.replace('/', '_')}"[:200]), 1, words, "kept")
    data = Dataset(words, "yolo", "detect", (words, f"{words} too"), (sample,), (fault,))
    one = replace(
        judge_objects([sample], [scored], data, ValOptions()),
        model=words,
        settings=MappingProxyType({"runtime": words, "evaluator": words}),
        versions=MappingProxyType({"processor": words}),
        notes=(words,),
    )
    return report_html([one, one]).decode()


@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
def test_the_page_of_hostile_names_has_the_elements_of_a_plain_page(words: str, tmp_path: Path) -> None:
    hostile, plain = Page(page(words, tmp_path)), Page(page(PLAIN, tmp_path))
    assert hostile.tags == plain.tags
    assert hostile.handlers == []
    assert hostile.addresses == plain.addresses
    assert hostile.ids == plain.ids


def test_letters_that_turn_text_round_do_not_reach_the_page(tmp_path: Path) -> None:
    html = page("a\u202eb\x1b[2Jc\x00", tmp_path)
    assert not {"\u202e", "\x1b", "\x00"} & set(html)
