"""From what the machine built to records: frozen, free of cycles, of bounded depth and size.

A pickle can make a list that holds itself, or thirty levels of pairs that share their halves and unfold to a thousand
million values. Both cost nothing to build, and would hang whoever walks them. So each object is finished once, and
with it go the height and the unfolded size of what lies below it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from yoloship.checkpoint.drafts import ArrayDraft, Draft, DTypeDraft, Global
from yoloship.checkpoint.records import Module, Opaque, Tensor
from yoloship.checkpoint.storages import LazyStorage
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.records import Value

_TABLES = ("_parameters", "_buffers", "_modules")
_CHARS_A_VALUE = 64


class _Done(NamedTuple):
    value: Value
    values: int
    modules: int
    height: int


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

    def module(self, draft: Draft, place: str) -> Module:
        """The module that a draft stands for.

        Args:
            draft: What the machine made.
            place: Where it stands in the file, for messages.

        Raises:
            CheckpointError: it is no module, or one that holds itself, is too deep or too large.
        """
        value = self.value(draft, place)
        if not isinstance(value, Module):
            raise self._error(f"{place} is a {draft.class_path!r} without layers, not a model")
        return value

    def value(self, value: object, place: str) -> Value:
        """Any value of the file as records.

        Raises:
            CheckpointError: it holds itself, or is too deep or too large.
        """
        return self._finish(value, place, 0).value

    def _error(self, problem: str) -> CheckpointError:
        return CheckpointError(problem, subject=self._subject)

    def _finish(self, value: object, place: str, depth: int) -> _Done:
        if value is None or isinstance(value, bool | int | float):
            return _Done(value, 1, 0, 0)
        if isinstance(value, str | bytes):
            return _Done(value, 1 + len(value) // _CHARS_A_VALUE, 0, 0)
        if isinstance(value, Tensor):
            return _Done(value, 1, 0, 0)
        key = id(value)  # safe as a name: the root keeps everything alive until we are done
        done = self._done.get(key)
        if done is not None:
            return done
        if key in self._open:
            raise self._error(f"{place} holds itself")
        if depth > self._limits.nesting:
            raise self._error(f"{place[:80]} is nested deeper than {self._limits.nesting} levels")
        self._open.add(key)
        done = self._compound(value, place, depth)
        self._open.remove(key)
        if done.height > self._limits.nesting:
            raise self._error(f"{place[:80]} is nested deeper than {self._limits.nesting} levels")
        if done.values > self._limits.values or done.modules > self._limits.modules:
            raise self._error(
                f"{place[:80]} unfolds to more than {self._limits.modules} modules or {self._limits.values} values"
            )
        self._done[key] = done
        return done

    def _compound(self, value: object, place: str, depth: int) -> _Done:
        if isinstance(value, dict):
            return self._dict(value, place, depth)
        if isinstance(value, list | tuple):
            parts = [self._finish(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
            items = [part.value for part in parts]
            return _sum(items if isinstance(value, list) else tuple(items), parts)
        if isinstance(value, set | frozenset):  # the machine admits plain members only
            return _sum(frozenset(value), [self._finish(item, place, depth + 1) for item in value])
        if isinstance(value, Draft):
            return self._draft(value, place, depth)
        if isinstance(value, ArrayDraft):
            if value.value is None:
                return _Done(Opaque("numpy.ndarray"), 1, 0, 0)
            return _Done(value.value, 1 + value.value.size, 0, 0)
        if isinstance(value, DTypeDraft):
            return _Done(Opaque("numpy.dtype", (value.order + value.code,)), 1, 0, 0)
        if isinstance(value, Global):
            return _Done(Opaque(value.class_path), 1, 0, 0)
        if isinstance(value, LazyStorage):
            return _Done(Opaque("torch.storage", (value.dtype, value.length)), 1, 0, 0)
        raise AssertionError(f"the machine made a {type(value).__name__}")

    def _dict(self, table: dict[object, object], place: str, depth: int) -> _Done:
        parts = {key: self._finish(item, f"{place}[{key!r:.40}]", depth + 1) for key, item in table.items()}
        made: dict[Value, Value] = {key: part.value for key, part in parts.items()}  # type: ignore[misc]  # plain keys
        return _sum(made, parts.values(), extra=len(parts))

    def _draft(self, draft: Draft, place: str, depth: int) -> _Done:
        state = draft.state
        if isinstance(state, tuple) and len(state) == 2 and state[1] is None:
            state = state[0]
        if isinstance(state, dict) and any(name in state for name in _TABLES):
            return self._module(draft.class_path, state, place, depth)
        arguments = draft.arguments if state is None else (*draft.arguments, state)
        parts = [self._finish(item, place, depth + 1) for item in arguments]
        return _sum(Opaque(draft.class_path, tuple(part.value for part in parts)), parts)

    def _module(self, class_path: str, state: dict[object, object], place: str, depth: int) -> _Done:
        parts: list[_Done] = []

        def table(name: str, kind: type) -> dict[str, object]:
            entries = state.get(name)
            if entries is None:
                return {}
            if not isinstance(entries, dict):
                raise self._error(f"{place} ({class_path}): its {name} are no table")
            made: dict[str, object] = {}
            for key, entry in entries.items():
                if not isinstance(key, str) or len(key) > self._limits.name_chars:
                    raise self._error(f"{place} ({class_path}): its {name} have a name that is no short text")
                done = self._finish(entry, f"{place}.{key[:40]}", depth + 1)
                if done.value is not None and not isinstance(done.value, kind):
                    raise self._error(
                        f"{place}.{key[:40]} is no {kind.__name__.lower()}, but stands among the {name} of a {class_path}"
                    )
                parts.append(done)
                made[key] = done.value
            return made

        attributes: dict[str, Value] = {}
        for key, entry in state.items():
            if key in _TABLES:
                continue
            if not isinstance(key, str):
                raise self._error(f"{place} ({class_path}): an attribute's name is no text")
            if "_hooks" in key and not entry:
                continue  # torch's empty tables, a dozen a module
            done = self._finish(entry, f"{place}.{key[:40]}", depth + 1)
            parts.append(done)
            attributes[key] = done.value
        made = Module(
            class_path,
            MappingProxyType(attributes),
            MappingProxyType(table("_parameters", Tensor)),  # type: ignore[arg-type]  # checked by `table`
            MappingProxyType(table("_buffers", Tensor)),  # type: ignore[arg-type]
            MappingProxyType(table("_modules", Module)),  # type: ignore[arg-type]
        )
        return _sum(made, parts, modules=1)


def _sum(value: Value, parts: Iterable[_Done], *, extra: int = 0, modules: int = 0) -> _Done:
    values, height = 1 + extra, 0
    for part in parts:
        values += part.values
        modules += part.modules
        height = max(height, part.height)
    return _Done(value, values, modules, height + 1)


def is_plain(value: Value) -> bool:
    """Whether a finished value holds neither tensors nor modules."""
    if isinstance(value, Tensor | Module):
        return False
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    if isinstance(value, list | tuple | frozenset):
        return all(map(is_plain, value))
    if isinstance(value, Opaque):
        return all(map(is_plain, value.arguments))
    return value is None or isinstance(value, bool | int | float | str | bytes | np.ndarray)
