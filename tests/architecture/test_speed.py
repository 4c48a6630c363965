"""No test depends on how fast the machine is: what hangs is ended by pytest's own limit for each test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FILES = sorted(path for path in TESTS.rglob("*.py") if path != Path(__file__))
WAITING = frozenset({"run", "call", "check_call", "check_output", "communicate", "wait", "join", "result", "exception"})
MOMENT_S = 1.0
"""A shorter wait only gives something wrong the time to show."""


def limits(tree: ast.AST) -> list[tuple[int, float]]:
    """Line and seconds of each call that waits for a while only."""
    found: list[tuple[int, float]] = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr not in WAITING:
            continue
        given = [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
        if call.func.attr in {"wait", "join", "result", "exception"}:
            given += call.args[:1]
        seconds = [value.value for value in given if isinstance(value, ast.Constant)]
        found += [(call.lineno, float(one)) for one in seconds if isinstance(one, int | float) and one >= MOMENT_S]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_nothing_is_waited_for_with_a_limit(path: Path) -> None:
    """Leave the limit out; a test that may hang gets `@pytest.mark.timeout(60)`, long enough for any machine."""
    assert limits(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_limits_are_found() -> None:
    source = (
        "subprocess.run(['x'], timeout=60)\nthread.join(5)\nfuture.result(timeout=2.5)\nevent.wait(0.05)\n', '.join(x)"
    )
    assert limits(ast.parse(source)) == [(1, 60.0), (2, 5.0), (3, 2.5)]
