"""Tables of what can be added to: each name leads to a class that is imported when it is asked for.

A package of a third party adds to a table by an entry point, in its pyproject.toml:

[project.entry-points."yoloship.sinks"]
parquet = "my_package.parquet_sink:ParquetSink"
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar

from yoloship.errors import DependencyError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_Base = TypeVar("_Base")

_logger = logging.getLogger("yoloship.extensions")


class Extensions(Mapping[str, str], Generic[_Base]):
    """A read-only table: each name of ours with the ``module:Class`` that it leads to.

    Iterating shows our own entries. Those of third parties are found by `third_party`, and loaded by `load` like ours.

    Args:
        kind: What an entry is, for messages: ``sink``.
        group: The entry-point group by which third parties add to it: ``yoloship.sinks``.
        entries: Our own names, each with its ``module:Class``.
    """

    def __init__(self, kind: str, group: str, entries: Mapping[str, str]) -> None:
        self.kind, self.group = kind, group
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> str:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def third_party(self) -> dict[str, str]:
        """The entries that installed packages add, by name. One that has a name of ours is left out."""
        from importlib.metadata import entry_points  # takes longer to import than all of the command line

        found: dict[str, str] = {}
        for point in entry_points(group=self.group):
            if point.name in self._entries:
                _logger.warning("%s %r of %r is left out: yoloship has one", self.kind, point.name, point.value)
            else:
                found.setdefault(point.name, point.value)
        return found

    def load(self, name: str) -> type[_Base]:
        """Import the class of an entry, ours or a third party's.

        Raises:
            InputError: there is no entry of this name.
            DependencyError: a third party's module cannot be imported, or has no such class.
        """
        ours = self._entries.get(name)
        if ours is not None:
            return _imported(ours)
        others = self.third_party()
        if name not in others:
            raise InputError(
                f"there is no {self.kind} of this name", subject=name, expected=", ".join([*self._entries, *others])
            )
        try:
            return _imported(others[name])
        except Exception as error:  # a module of a third party may raise anything
            raise DependencyError(
                f"the {self.kind} {name!r} cannot be loaded: {type(error).__name__}: {error}",
                subject=others[name],
                hint="update or remove the package that brings it",
            ) from error


def _imported(place: str) -> type[_Base]:
    module, _, name = place.partition(":")
    found: type[_Base] = getattr(import_module(module), name)
    return found
