"""Reads what is counted in a scene from a small YAML or JSON file: `read_scene`.

units: fractions
zones:
  - name: queue
    polygon: [[0.1, 0.4], [0.5, 0.4], [0.5, 0.9], [0.1, 0.9]]
    classes: [person]
lines:
  - name: door
    from: [0.2, 0.6]
    to: [0.8, 0.6]
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.text import shortened
from yoloship._util.yaml_file import parse_yaml, read_yaml
from yoloship.errors import InputError
from yoloship.tracking.shapes import Line, Rule, Zone

if TYPE_CHECKING:
    from collections.abc import Collection
    from os import PathLike

MAX_SHAPES: Final = 100
LIMIT_BYTES: Final = 256 << 10
_COMMON: Final = frozenset({"anchor", "classes", "stream", "streams", "band", "min_frames"})


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """What is counted in a scene.

    Attributes:
        zones: Parts of the image.
        lines: Lines that objects cross.
        subject: Where they come from, for messages.

    Raises:
        InputError: there is none, there are too many, or two have the same name.
    """

    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    subject: str = "scene"

    def __post_init__(self) -> None:
        names = [shape.name for shape in self.shapes]
        if not 1 <= len(names) <= MAX_SHAPES:
            expected = f"1 to {MAX_SHAPES}"
            raise InputError("wrong number of zones and lines", subject=self.subject, expected=expected,
                             got=str(len(names)))  # fmt: skip
        double = next((name for place, name in enumerate(names) if name in names[:place]), None)
        if double is not None:
            raise InputError("two zones or lines have the same name", subject=self.subject, got=repr(double))

    @property
    def shapes(self) -> tuple[Zone | Line, ...]:
        """The zones, then the lines."""
        return (*self.zones, *self.lines)

    def check_classes(self, class_names: tuple[str, ...]) -> None:
        """Refuse classes that the model does not have.

        Raises:
            InputError: the zone or the line, and the class, are in the message.
        """
        for shape in self.shapes:
            _check_classes(shape, class_names, self.subject)


def read_scene(path: str | PathLike[str]) -> SceneConfig:
    """Read a scene from a YAML or JSON file.

    Args:
        path: The file; untrusted.

    Raises:
        InputError: it cannot be read, or is not a scene. The message names the file and what is wrong in it.
    """
    return scene_of(read_yaml(Path(path), wanted="zones and lines", limit_bytes=LIMIT_BYTES), str(path))


def parse_scene(text: str, subject: str = "scene") -> SceneConfig:
    """`read_scene` of a text.

    Args:
        text: YAML or JSON; untrusted.
        subject: Where it comes from, for messages.

    Raises:
        InputError: as for `read_scene`.
    """
    return scene_of(parse_yaml(text, subject=subject), subject)


def scene_of(data: dict[str | int, Any], subject: str = "scene") -> SceneConfig:
    """Make a scene of plain data, as the file has it.

    Args:
        data: ``units``, ``zones`` and ``lines``; untrusted.
        subject: Where it comes from, for messages.

    Raises:
        InputError: as for `read_scene`.
    """
    _check_keys(data, {"units", "zones", "lines"}, subject)
    units = data.get("units")
    if units is None:
        raise InputError(
            "does not say the unit of its coordinates", subject=subject,
            expected="the line 'units: fractions' (of the image's width and height) or 'units: pixels'",
        )  # fmt: skip
    shapes: dict[str, list[Any]] = {"zones": [], "lines": []}
    for kind, made in shapes.items():
        items = data.get(kind) or []
        if not isinstance(items, list):
            raise InputError(f"'{kind}' is not a list", subject=subject, expected=f"'- name: …' for each of the {kind}")
        for place, item in enumerate(items[: MAX_SHAPES + 1]):
            where = f"{subject}: {kind[:-1]} {place + 1}"
            if not isinstance(item, dict):
                raise InputError("is not a mapping", subject=where, expected="name: …", got=shortened(repr(item)))
            made.append(_shape(item, kind, units, where))
    return SceneConfig(tuple(shapes["zones"]), tuple(shapes["lines"]), subject)


def _shape(item: dict[str | int, Any], kind: str, units: Any, where: str) -> Zone | Line:
    own = {"polygon"} if kind == "zones" else {"from", "to"}
    _check_keys(item, {"name", *own, *_COMMON}, where)
    for key in ("name", *sorted(own)):
        if item.get(key) is None:
            raise InputError(f"has no '{key}'", subject=where, expected=f"{key}: …")
    if "stream" in item and "streams" in item:
        raise InputError("has both 'stream' and 'streams'", subject=where, hint="write one of them")
    name = item["name"] if isinstance(item["name"], str) else str(item["name"])
    try:
        rule = Rule(
            units,
            item.get("anchor", "bottom-center"),
            _texts(item.get("classes"), "classes", (str, int)),
            _texts(item.get("streams", item.get("stream")), "stream", (str, int)),
            item.get("band"),
            item.get("min_frames", 1),
        )
        if kind == "zones":
            return Zone(name, item["polygon"], rule)
        return Line(name, item["from"], item["to"], rule)
    except InputError as error:
        place = where if error.subject is None else f"{where}: {error.subject}"
        raise InputError(
            error.problem, subject=place, expected=error.expected, got=error.got, hint=error.hint
        ) from error  # fmt: skip


def _texts(value: Any, key: str, kinds: tuple[type, ...]) -> Any:
    """One text or a list of texts, as a tuple; None stays None."""
    if value is None:
        return None
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(one, kinds) and not isinstance(one, bool) for one in items):
        raise InputError("wrong value", subject=key, expected="a name, or a list of names", got=shortened(repr(value)))
    return tuple(items) if key == "classes" else tuple(map(str, items))


def _check_keys(data: dict[str | int, Any], known: Collection[str], where: str) -> None:
    for key in data:
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"the keys are {', '.join(sorted(known))}"
            raise InputError(f"has an unknown key {shortened(str(key))!r}", subject=where, hint=hint)


def _check_classes(shape: Zone | Line, class_names: tuple[str, ...], subject: str) -> None:
    from yoloship.results.class_ids import class_ids_of

    try:
        class_ids_of(shape.rule.classes or (), class_names)
    except InputError as error:
        place = f"{subject}: {'zone' if isinstance(shape, Zone) else 'line'} {shape.name!r}: {error.subject}"
        raise InputError(error.problem, subject=place, expected=error.expected, hint=error.hint) from error
