"""From what the machine built to records: frozen, free of cycles, of bounded depth and size.

A pickle can make a list that holds itself, or thirty levels of pairs that share their halves and unfold to a thousand
million values. Both cost nothing to build, and would hang whoever walks them. So each object is finished once, and
with it go the height and the unfolded size of what lies below it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from yoloship.checkpoint.drafts import ArrayDraft, Draft, DTypeDraft, Global
from yoloship.checkpoint.records import Module, Opaque, Tensor
from yoloship.checkpoint.storages import LazyStorage
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.records import Value

_Place: TypeAlias = "tuple[_Place | None, object]"
"""Where a value stands: the place of what holds it, and its key there. Spelt out only where an error needs it."""

_Kind = TypeVar("_Kind", Tensor, Module)

_TABLES = frozenset({"_parameters", "_buffers", "_modules"})
_SCALARS = frozenset({type(None), bool, int, float})
_CHARS_A_VALUE = 64


class _Done(NamedTuple):
    """A finished value, and what lies in it, shared parts counted at each place."""

    value: Value
    values: int = 1
    modules: int = 0
    height: int = 0
    plain: bool = True


class Finisher:
    """Turns drafts into records; one for a file, because objects may be shared between its parts.

    Args:
        subject: The file's name, for messages.
        limits: Bounds on height and unfolded size.
    """

    def __init__(self, subject: str, limits: Limits) -> None:
        self._subject = subject
        self._limits = limits
        self._done: dict[int, _Done] = {}
        self._open: set[int] = set()

    def module(self, draft: Draft, key: str) -> Module:
        """The module that a draft stands for.

        Args:
            draft: What the machine made. Whoever calls keeps it alive as long as this object.
            key: Where it stands in the file, for messages.

        Raises:
            CheckpointError: it is no module, or one that holds itself, is too deep or too large.
        """
        value = self._finish(draft, (None, key), 0).value
        if not isinstance(value, Module):
            raise self._error((None, key), f"is a {draft.class_path!r} without layers, not a model")
        return value

    def plain_table(self, table: Mapping[object, object], left_out: frozenset[str]) -> Mapping[str, Value]:
        """Those entries of a table that hold neither tensors nor modules.

        Args:
            table: What the machine made; kept alive by the caller, as above.
            left_out: Keys that are not even looked at.

        Raises:
            CheckpointError: an entry holds itself, or they are too deep or too large.
        """
        made: dict[str, Value] = {}
        values = 0
        for key, entry in table.items():
            if not isinstance(key, str) or key in left_out:
                continue
            done = self._finish(entry, (None, key), 0)
            values += done.values
            if values > self._limits.values:
                raise self._error((None, key), f"and what stands before it unfold to over {self._limits.values} values")
            if done.plain:
                made[key] = done.value
        return MappingProxyType(made)

    def _error(self, place: _Place | None, problem: str) -> CheckpointError:
        keys: list[str] = []
        while place is not None:
            place, key = place
            keys.append(key[:40] if isinstance(key, str) else str(key))
        keys.reverse()
        where = ".".join(keys if len(keys) <= 10 else [*keys[:4], "…", *keys[-4:]])
        return CheckpointError(f"{where!r} {problem}", subject=self._subject)

    def _finish(self, value: object, place: _Place, depth: int) -> _Done:
        if type(value) in _SCALARS:
            return _Done(value)  # type: ignore[arg-type]  # one of the four
        if isinstance(value, str | bytes):
            return _Done(value, 1 + len(value) // _CHARS_A_VALUE)
        if isinstance(value, Tensor):
            return _Done(value, plain=False)
        key = id(value)  # stays its own as long as the root lives
        known = self._done.get(key)
        if known is not None:
            return known
        if key in self._open:
            raise self._error(place, "holds itself")
        if depth > self._limits.nesting:
            raise self._error(place, f"is nested deeper than {self._limits.nesting} levels")
        self._open.add(key)
        done = self._compound(value, place, depth)
        self._open.remove(key)
        if done.height > self._limits.nesting:
            raise self._error(place, f"is nested deeper than {self._limits.nesting} levels")
        if done.values > self._limits.values or done.modules > self._limits.modules:
            raise self._error(
                place, f"unfolds to more than {self._limits.modules} modules or {self._limits.values} values"
            )
        self._done[key] = done
        return done

    def _compound(self, value: object, place: _Place, depth: int) -> _Done:
        if isinstance(value, dict):
            parts = {key: self._finish(item, (place, key), depth + 1) for key, item in value.items()}
            table: dict[Value, Value] = {key: part.value for key, part in parts.items()}
            return _sum(table, parts.values(), own=1 + sum(map(_weight, parts)))
        if isinstance(value, list | tuple):
            items = [self._finish(item, (place, index), depth + 1) for index, item in enumerate(value)]
            finished = [part.value for part in items]
            return _sum(finished if isinstance(value, list) else tuple(finished), items)
        if isinstance(value, set | frozenset):
            return _Done(frozenset(value), 1 + sum(map(_weight, value)), height=1)
        if isinstance(value, Draft):
            return self._draft(value, place, depth)
        if isinstance(value, ArrayDraft):
            return _Done(Opaque("numpy.ndarray")) if value.value is None else _Done(value.value, 1 + value.value.size)
        if isinstance(value, DTypeDraft):
            return _Done(Opaque("numpy.dtype", (value.order + value.code,)))
        if isinstance(value, Global):
            return _Done(Opaque(value.class_path))
        if isinstance(value, LazyStorage):
            return _Done(Opaque("torch.storage", (value.dtype, value.length)))
        raise AssertionError(f"the machine made a {type(value).__name__}")

    def _draft(self, draft: Draft, place: _Place, depth: int) -> _Done:
        state = draft.state
        if isinstance(state, tuple) and len(state) == 2 and state[1] is None:  # no slots
            state = state[0]
        if isinstance(state, dict) and not _TABLES.isdisjoint(state):
            return self._module(draft.class_path, state, place, depth)
        arguments = draft.arguments if state is None else (*draft.arguments, state)
        parts = [self._finish(item, (place, index), depth + 1) for index, item in enumerate(arguments)]
        return _sum(Opaque(draft.class_path, tuple(part.value for part in parts)), parts)

    def _module(self, class_path: str, state: dict[object, object], place: _Place, depth: int) -> _Done:
        parts: list[_Done] = []
        attributes: dict[str, Value] = {}
        for key, entry in state.items():
            if key in _TABLES or (not entry and isinstance(key, str) and "_hooks" in key):
                continue  # torch keeps a dozen empty tables of hooks in each module
            if not isinstance(key, str):
                raise self._error(place, f"has an attribute whose name is no text, in a {class_path!r}")
            done = self._finish(entry, (place, key), depth + 1)
            parts.append(done)
            attributes[key] = done.value
        module = Module(
            class_path,
            MappingProxyType(attributes),
            self._table(state, "_parameters", Tensor, parts, (place, depth)),
            self._table(state, "_buffers", Tensor, parts, (place, depth)),
            self._table(state, "_modules", Module, parts, (place, depth)),
        )
        return _sum(module, parts, modules=1, plain=False)

    def _table(
        self, state: dict[object, object], name: str, kind: type[_Kind], parts: list[_Done], at: tuple[_Place, int]
    ) -> Mapping[str, _Kind | None]:
        """One of a module's tables; what it holds is added to `parts`."""
        place, depth = at
        entries = state.get(name)
        if entries is None:
            return MappingProxyType({})
        if not isinstance(entries, dict):
            raise self._error((place, name), "is no table")
        made: dict[str, _Kind | None] = {}
        for key, entry in entries.items():
            if not isinstance(key, str) or len(key) > self._limits.name_chars:
                raise self._error((place, name), "has a name that is no short text")
            done = self._finish(entry, (place, key), depth + 1)
            if done.value is not None and not isinstance(done.value, kind):
                raise self._error((place, key), f"is no {kind.__name__.lower()}, but stands in {name}")
            parts.append(done)
            made[key] = done.value
        return MappingProxyType(made)


def _weight(value: object) -> int:
    return 1 + len(value) // _CHARS_A_VALUE if isinstance(value, str | bytes) else 1


def _sum(value: Value, parts: Iterable[_Done], *, own: int = 1, modules: int = 0, plain: bool = True) -> _Done:
    values, height = own, 0
    for part in parts:
        values += part.values
        modules += part.modules
        height = max(height, part.height)
        plain = plain and part.plain
    return _Done(value, values, modules, height + 1, plain)
