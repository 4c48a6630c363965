from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from yoloship.evaluate.reports import WIDTH, Bar, chart_pixels, chart_svg

BARS = [
    Bar("best.pt <&>", "cpu, batch 1", (("letterbox", 1.0), ("network", 30.0)), 30.0, "31 ms"),
    Bar("best.engine", "cuda, batch 1", (("network", 0.4),), None, "0.4 ms"),
]
NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_the_svg_is_well_formed_and_says_all_words_as_they_are() -> None:
    root = ET.fromstring(chart_svg("A title", "what it means", "ms", BARS))
    words = [text.text for text in root.iter(f"{NAMESPACE}text")]
    for word in ("A title", "what it means", "best.pt <&>", "cuda, batch 1", "letterbox", "network", "31 ms", "ms"):
        assert word in words


def test_lengths_are_in_proportion_and_nothing_leaves_the_image() -> None:
    root = ET.fromstring(chart_svg("t", "s", "ms", BARS))
    rects = [
        {name: float(rect.get(name, "0")) for name in ("x", "y", "width", "height")}
        for rect in root[1:]
        if not rect.text
    ]
    bars = [rect["width"] for rect in rects if rect["height"] == 22]
    assert bars == pytest.approx([bars[1] / 30, bars[1], bars[1] * 0.4 / 30], rel=0.05)
    assert all(rect["x"] >= 0 and rect["x"] + rect["width"] <= WIDTH for rect in rects)
    assert max(rect["y"] + rect["height"] for rect in rects) <= float(root.get("height", "0"))


@pytest.mark.parametrize("longest", [1e-3, 0.7, 1.0, 99.0, 12345.0])
def test_ticks_are_few_and_round(longest: float) -> None:
    svg = chart_svg("t", "s", "ms", [Bar("a", "b", (("network", longest),), None, "")])
    words = [text.text or "" for text in ET.fromstring(svg).iter(f"{NAMESPACE}text")]
    ticks = [float(word) for word in words if word.replace(".", "").replace("e-", "").isdecimal()]
    assert 3 <= len(ticks) <= 12
    assert ticks[0] == 0
    assert max(ticks) >= longest


def test_the_pixels_show_the_same_chart() -> None:
    image = chart_pixels("A title", "what × it – means", "ms", BARS)
    assert image.dtype == np.uint8
    assert image.shape[1:] == (2 * WIDTH, 3)
    assert (image == (0xD7, 0x98, 0x40)).all(axis=2).sum() > 10_000  # the longest bar's blue
