"""Installed packages that add to yoloship by entry points, made by a test in a folder of its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest


def install(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    group: str,
    entries: Mapping[str, str],
    *,
    package: str = "acme",
    modules: Mapping[str, str] | None = None,
) -> None:
    """Make a package importable, with its metadata, until the test ends.

    Args:
        monkeypatch: Undoes it.
        folder: Empty, or not there yet.
        group: Group of the entry points.
        entries: Name and ``module:Class`` of each.
        package: The distribution's name.
        modules: Name and source of each top-level module.
    """
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    lines = "".join(f"{name} = {place}\n" for name, place in entries.items())
    info.joinpath("entry_points.txt").write_text(f"[{group}]\n{lines}", encoding="utf-8")
    for name, source in (modules or {}).items():
        folder.joinpath(f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(folder))
