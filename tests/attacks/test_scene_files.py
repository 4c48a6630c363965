"""Descriptions of zones and lines that are meant to do harm."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship.errors import InputError, YoloshipError
from yoloship.results.detections import Detections
from yoloship.tracking.scene import SceneCounter
from yoloship.tracking.scene_file import parse_scene, scene_of

BOMB = "units: pixels\na: &a [x, x, x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "has the alias"),
        ("units: pixels\nzones: !!python/object/apply:os.system ['true']", "has the tag"),
        ("units: pixels\nzones: !x []", "has the tag"),
        ("units: pixels\nunits: fractions", "has the key 'units' twice"),
        ("units: pixels\nzones: " + "[" * 500 + "]" * 500, "nested too deeply"),
        ("units: pixels\nzones: [" + "{}, " * 100_000 + "{}]", "has too many values|wrong number|has no 'name'"),
        ("--- {}\n--- {}", "begins a second document"),
        ("\x00", "is not valid YAML"),
        ("- 1", "is not a mapping"),
        ("", "is not a mapping"),
        ('units: pixels\nlines: [{name: "\\e[2J", from: [0, 0], to: [1, 1]}]', "a line needs a name"),
        ("units: pixels\nlines: [{name: a, from: [.inf, 0], to: [1, 1]}]", "is not a point"),
        ("units: pixels\nlines: [{name: a, from: [1e308, 0], to: [1, 1]}]", "is too far away"),
        ("units: pixels\nlines: [{name: a, from: [0, 0], to: [1, 1], band: 1e999}]", "band: out of range"),
    ],
)
def test_it_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_scene(text, "zones.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 999) | st.floats() | st.sampled_from(["a", "fractions", "x" * 200, ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "from", "to", "x"]), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["name", "polygon", "from", "to", "classes", "stream", "streams", "band", "anchor", "min_frames", "z"]
)
SHAPES = st.lists(st.dictionaries(KEYS, VALUES, max_size=6) | VALUES, max_size=4)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(["units", "zones", "lines"]), SHAPES | VALUES))
def test_any_plain_data_is_a_scene_or_refused(data: dict[str | int, Any]) -> None:
    data.setdefault("units", "fractions")
    said = ""
    try:
        scene_of(data)
    except YoloshipError as error:
        said = str(error)
    assert len(said) < 1000


POINT = st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(list)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(POINT, min_size=3, max_size=7), POINT, POINT, st.integers(0, 2**32 - 1))
def test_whatever_is_accepted_can_be_placed_counted_and_drawn(
    corners: list[list[float]], start: list[float], end: list[float], seed: int
) -> None:
    shapes = {"zones": [{"name": "z", "polygon": corners}], "lines": [{"name": "l", "from": start, "to": end}]}
    rng = np.random.default_rng(seed)
    for kind, items in shapes.items():
        try:
            config = scene_of({"units": "fractions", kind: items})
        except InputError:
            continue
        counter = SceneCounter(config, None)
        for second in range(4):
            boxes = rng.uniform(-20, 90, (5, 4)).astype(np.float32)
            boxes[0] = rng.choice(np.array([np.nan, np.inf, 0, 1e38], np.float32), 4)
            found = Detections(
                boxes, np.full(5, 0.5, np.float32), np.zeros(5, np.int32), ("a",), (40, 60),
                track_ids=np.array([1, 2, 3, -1, 4], np.int32),
            )  # fmt: skip
            scene = counter.update(found, {1, 2, 3, 4}, second, is_timed=True)
        json.dumps(scene.to_dict(), allow_nan=False)
        assert scene.draw(np.zeros((40, 60, 3), np.uint8)).shape == (40, 60, 3)
