"""Tables of what can be added to: each name with the place of its class, which is imported when somebody asks for it.

A room that can be extended has one `Table`. Its own entries stand in the source, one line each. A third party adds one
by an entry point of the table's group in the metadata of its own package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from yoloship.errors import DependencyError, InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


@lru_cache(maxsize=32)
def _points(group: str, _path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group. Looking through the installed packages takes 2 ms, so it is done once for a path."""
    from importlib.metadata import entry_points

    return tuple(entry_points(group=group))


class Table(Mapping[str, str], Generic[T]):
    """Names, each with the place of its class as ``module:Class``. It cannot be changed, and imports nothing by itself.

    Args:
        group: The group of entry points by which installed packages add to it, such as ``yoloship.sinks``.
        kind: What one entry is, for messages: "task".
        own: The entries of this project. No package can replace one of them.

    Attributes:
        own: Those alone, for whom looking for others takes too long.
    """

    def __init__(self, group: str, kind: str, own: Mapping[str, str]) -> None:
        self.group = group
        self._kind = kind
        self.own: Mapping[str, str] = MappingProxyType(dict(own))

    def others(self) -> list[str]:
        """The names that installed packages add."""
        return list(self._others())

    def __getitem__(self, name: str) -> str:
        return self.own[name] if name in self.own else self._others()[name].value

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._others()

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self._others()

    def __len__(self) -> int:
        return len(self.own) + len(self._others())

    def load(self, name: str) -> type[T]:
        """Import the class of an entry.

        Raises:
            InputError: there is no such entry.
            DependencyError: an installed package adds it, and its class cannot be imported.
        """
        if name in self.own:
            module, _, attribute = self.own[name].partition(":")
            return cast("type[T]", getattr(import_module(module), attribute))
        others = self._others()
        if name not in others:
            names = [*self.own, *others]
            close = get_close_matches(name, names, n=1)
            raise InputError(
                f"is not a known {self._kind}",
                subject=name[:60],
                expected=", ".join(names),
                hint=f"did you mean {close[0]!r}?" if close else None,
            )
        return self._imported(name, others[name])

    def _others(self) -> dict[str, EntryPoint]:
        """Entries of installed packages, without those that bear a name of ours.

        Raises:
            DependencyError: two packages add different classes under one name.
        """
        found: dict[str, EntryPoint] = {}
        for point in _points(self.group, tuple(sys.path)):
            first = found.setdefault(point.name, point)
            if first.value != point.value:
                raise DependencyError(
                    f"two installed packages add a {self._kind} of this name: {first.value} and {point.value}",
                    subject=point.name,
                    hint="uninstall one of them",
                )
        return {name: point for name, point in found.items() if name not in self.own}

    def _imported(self, name: str, point: EntryPoint) -> type[T]:
        package = "a package" if point.dist is None else point.dist.name
        try:
            found = point.load()
        except (ImportError, AttributeError) as error:
            raise DependencyError(
                f"the {self._kind} that {package} adds cannot be imported: {error}",
                subject=name,
                expected=point.value,
                hint="install a version of it that fits, or uninstall it",
            ) from error
        if not isinstance(found, type):
            raise DependencyError(
                f"the {self._kind} that {package} adds is not a class", subject=name, got=point.value,
                hint="install a version of it that fits, or uninstall it",
            )  # fmt: skip
        return cast("type[T]", found)
