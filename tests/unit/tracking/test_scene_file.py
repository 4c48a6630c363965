from __future__ import annotations

import json
from pathlib import Path

import pytest

from yoloship.errors import InputError
from yoloship.tracking.scene_file import MAX_SHAPES, SceneConfig, parse_scene, read_scene
from yoloship.tracking.shapes import Line, Rule, Zone

WHOLE = """
units: fractions
zones:
  - name: queue
    polygon: [[0.1, 0.4], [0.5, 0.4], [0.5, 0.9], [0.1, 0.9]]
    classes: [person, 2]
    anchor: center
    band: 0.02
    min_frames: 3
lines:
  - name: door
    from: [0.2, 0.6]
    to: [0.8, 0.6]
    stream: door.mp4
"""


def test_a_file_with_zones_and_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "zones.yaml"
    path.write_text(WHOLE, encoding="utf-8")
    config = read_scene(path)
    corners = ((0.1, 0.4), (0.5, 0.4), (0.5, 0.9), (0.1, 0.9))
    assert config.zones == (Zone("queue", corners, Rule("fractions", "center", ("person", 2), None, 0.02, 3)),)
    assert config.lines == (Line("door", (0.2, 0.6), (0.8, 0.6), Rule(streams=("door.mp4",))),)
    assert config.subject == str(path)


def test_json_is_read_too() -> None:
    data = {"units": "pixels", "lines": [{"name": "door", "from": [0, 5], "to": [9, 5], "streams": ["a", "b"]}]}
    (line,) = parse_scene(json.dumps(data)).lines
    assert line == Line("door", (0, 5), (9, 5), Rule("pixels", streams=("a", "b")))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("units: fractions", "", "does not say the unit of its coordinates: expected the line 'units: fractions'"),
        ("units: fractions", "units: metres", "zone 1: units: no such choice: expected fractions or pixels"),
        ("units: fractions", "units: fractions\nunit: 3", "has an unknown key 'unit'; did you mean 'units'?"),
        ("polygon:", "poligon:", "zone 1: has an unknown key 'poligon'; did you mean 'polygon'?"),
        ("    from: [0.2, 0.6]\n", "", "line 1: has no 'from': expected from: …"),
        ("- name: queue", "- name:", "zone 1: has no 'name'"),
        ("anchor: center", "anchor: feet", "zone 1: anchor: no such choice"),
        ("[person, 2]", "[[person]]", "zone 1: classes: wrong value: expected a name, or a list of names"),
        ("[person, 2]", "[]", "zone 1: classes: wrong value"),
        ("[0.2, 0.6]", "[0.8, 0.6]", "line 1: line 'door': has no length, so nothing can cross it"),
        ("[0.2, 0.6]", "[200, 600]", "line 1: line 'door': is too far away"),
        ("[0.2, 0.6]", "0.2 0.6", "line 1: line 'door': is not a point"),
        ("name: door", "name: queue", "two zones or lines have the same name: got 'queue'"),
        ("stream: door.mp4", "stream: a\n    streams: [b]", "line 1: has both 'stream' and 'streams'"),
        ("lines:\n  - name: door", "lines:\n  - door\n  - name: door", "line 1: is not a mapping: expected name: …"),
        ("zones:", "zones: 3\nother:", "'zones' is not a list|unknown key 'other'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(old: str, new: str, message: str) -> None:
    assert old in WHOLE
    with pytest.raises(InputError, match=message):
        parse_scene(WHOLE.replace(old, new, 1), "zones.yaml")


def test_a_scene_has_some_zones_or_lines_but_not_too_many() -> None:
    with pytest.raises(InputError, match=f"wrong number of zones and lines: expected 1 to {MAX_SHAPES}, got 0"):
        parse_scene("units: pixels\nzones: []")
    many = [{"name": f"line {i}", "from": [0, 0], "to": [9, 9]} for i in range(MAX_SHAPES + 1)]
    with pytest.raises(InputError, match=f"expected 1 to {MAX_SHAPES}, got 101"):
        parse_scene(json.dumps({"units": "pixels", "lines": many}))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml"):
        read_scene(tmp_path / "none.yaml")


def test_classes_that_the_model_does_not_have_are_refused() -> None:
    config = parse_scene(WHOLE, "zones.yaml")
    config.check_classes(("person", "dog", "cat"))
    with pytest.raises(InputError, match=r"zones\.yaml: zone 'queue': person: no such class"):
        config.check_classes(("car", "dog", "cat"))
    with pytest.raises(InputError, match=r"zones\.yaml: zone 'queue': 2: no such class"):
        config.check_classes(("person", "dog"))


def test_a_name_that_is_a_number_is_a_name() -> None:
    (zone,) = parse_scene(WHOLE.replace("queue", "7"), "x").zones
    assert zone.name == "7"
    assert SceneConfig((zone,)).shapes == (zone,)
