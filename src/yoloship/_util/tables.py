"""Tables of extension points: names, each with the place of a class that is imported when somebody asks for it.

A package of yoloship that can be extended has one `Table`. Its own entries are in the source, one line each. A third
party adds one by an entry point of the table's group, in the metadata of its own package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
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


@dataclass(frozen=True, eq=False)
class Table(Mapping[str, str], Generic[T]):
    """Names, each with the place of its class as ``module:Class``. It cannot be changed, and imports nothing by itself.

    Attributes:
        group: The group of entry points by which installed packages add to it, such as ``yoloship.sinks``.
        kind: What one entry is, for messages: "task".
        own: The entries of this project alone, for callers that have no time to look for others. No package can replace
            one of them.
        base: The class that an entry of another package must be a subclass of, as ``module:Class``.
    """

    group: str
    kind: str
    own: Mapping[str, str]
    base: str = "builtins:object"

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
                f"is not a known {self.kind}",
                subject=name[:60],
                expected=", ".join(names),
                hint=f"did you mean {close[0]!r}?" if close else None,
            )
        return self._imported(name, others[name])

    def _others(self) -> dict[str, EntryPoint]:
        """Entries of installed packages, without those that have a name of ours. Of two with one name, the first."""
        points = reversed(_points(self.group, tuple(sys.path)))
        return {point.name: point for point in points if point.name not in self.own}

    def _imported(self, name: str, point: EntryPoint) -> type[T]:
        from inspect import get_annotations

        for other in _points(self.group, tuple(sys.path)):
            if other.name == name and other.value != point.value:
                raise DependencyError(
                    f"two installed packages add a {self.kind} of this name: {point.value} and {other.value}",
                    subject=name,
                    hint="uninstall one of them",
                )
        try:
            found = point.load()
        except Exception as error:  # it runs another project's module
            said = error if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
            raise self._unfit(point, f"cannot be imported: {said}") from error
        if not isinstance(found, type):
            raise self._unfit(point, "is not a class")
        module, _, attribute = self.base.partition(":")
        base: type[T] = getattr(import_module(module), attribute)
        if not issubclass(found, base):
            raise self._unfit(point, f"is not a subclass of {base.__module__}.{base.__qualname__}")
        lacks = [one for one in get_annotations(base) if not hasattr(found, one)]
        lacks += sorted(getattr(found, "__abstractmethods__", ()))
        if lacks:
            raise self._unfit(point, f"does not define {', '.join(lacks)}")
        return found

    def _unfit(self, point: EntryPoint, problem: str) -> DependencyError:
        package = "a package" if point.dist is None else point.dist.name
        return DependencyError(
            f"the {self.kind} that {package} adds {problem}",
            subject=point.name,
            expected=point.value,
            hint="install a compatible version, or uninstall it",
        )
