"""The tests of src/yoloship/ROOM/MODULE.py stand in tests/unit/ROOM/test_MODULE.py or test_MODULE_TOPIC.py."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE, UNIT = ROOT / "src" / "yoloship", ROOT / "tests" / "unit"
WITHOUT = {
    "__main__": "calls the command line, which tests/architecture/test_start.py starts as a process",
    "_version": "holds a string",
}
"""Modules that need no test of their own, and why. A package's `__init__` only names what its modules hold."""


@cache
def modules() -> frozenset[Path]:
    """Every module but a package's `__init__`, as a path below `SOURCE` without its suffix."""
    paths = (path for path in SOURCE.rglob("*.py") if path.stem != "__init__")
    return frozenset(path.relative_to(SOURCE).with_suffix("") for path in paths)


def module_of(path: Path) -> Path | None:
    """The module that a test file is named after: the longest name that fits; what follows it is the topic."""
    room, name = path.parent.relative_to(UNIT), path.stem.removeprefix("test_") + "_"
    fitting = [one for one in modules() if one.parent == room and name.startswith(one.name.lstrip("_") + "_")]
    return max(fitting, key=lambda one: len(one.name), default=None)


FILES = sorted(UNIT.rglob("test_*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(UNIT).as_posix())
def test_a_test_file_is_named_after_a_module(path: Path) -> None:
    """What tests several rooms together belongs in tests/golden, tests/engines, tests/contract or tests/property."""
    assert module_of(path) is not None


def test_every_module_has_a_test_file() -> None:
    have = {module_of(path) for path in FILES}
    lacking = {module.as_posix() for module in modules() if module not in have}
    assert lacking == set(WITHOUT), "write tests/unit/ROOM/test_MODULE.py"


def test_the_house_stays_easy_to_walk_through() -> None:
    """The bounds may fall; whoever must raise one says why."""
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) <= 477  # batches over machines, streams of batches, a server's priorities; parts of four files
    long = [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 600]
    assert long == []
    names = Counter(path.name for path in files if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 2] == []
