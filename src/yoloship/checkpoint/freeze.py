"""Turns the machine's drafts into records: frozen, without cycles, with bounded depth and size, and with known names.

A pickle can make a list that holds itself, or thirty levels of pairs that share their halves and unfold to a thousand
million values. Both are cheap to build, but any program that walks them hangs. So each object is frozen once, and the
height and the unfolded size of its content are kept with it.

Only the objects that the frozen tree reaches count. The order in which the pickle made them does not matter: an object
may be made under a key that nobody reads and also be part of the model, or the reverse.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from yoloship.checkpoint.drafts import ArrayDraft, Draft, DTypeDraft, Global, OddKey
from yoloship.checkpoint.records import NUMPY_DTYPES, LazyStorage, Module, Opaque, Tensor
from yoloship.checkpoint.wrappers import FORWARD_HOOKS, NotUnderstoodError, explained
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from yoloship.checkpoint.limits import Budget
    from yoloship.checkpoint.records import Value


_Place: TypeAlias = "tuple[_Place | None, object]"
"""The place of a value: the place of its container, and its key there. It becomes text only if an error needs it."""

_Kind = TypeVar("_Kind", Tensor, Module)

_TABLES = frozenset({"_parameters", "_buffers", "_modules"})
_TRAINING_HOOKS = frozenset(
    {
        "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks", "_state_dict_pre_hooks",
        "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_forward_hooks_with_kwargs",
        "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called",
    }
)  # fmt: skip
"""Tables of hooks that a run never calls, and tables that only say how other hooks are called."""
_METHODS = frozenset({"forward", "_call_impl", "_wrapped_call_impl", "_slow_forward", "_conv_forward", "_forward_impl"})
_FUSED = frozenset({"forward", "forward_fuse", "fuseforward"})
"""Methods that may replace `forward`: a fused layer leaves out the norm that it no longer has."""
_SCALARS = frozenset({type(None), bool, int, float})
_CHARS_A_VALUE = 64
_LEAST_BYTES = 4
"""Bytes of an element in a graph, which holds float32."""


class _Done(NamedTuple):
    """A frozen value, and the counts of its content. Shared values count at each place."""

    value: Value
    values: int = 1
    modules: int = 0
    nbytes: int = 0
    height: int = 0
    plain: bool = True


class Finisher:
    """Turns drafts into records. Each file has one, because its parts may share objects.

    Args:
        subject: The file's name, for messages.
        budget: Bounds on height, unfolded size and work.
        aliases: Class paths that stand for others.
    """

    def __init__(self, subject: str, budget: Budget, aliases: Mapping[str, str] = MappingProxyType({})) -> None:
        self._subject = subject
        self._budget = budget
        self._limits = budget.limits
        self._aliases = aliases
        self.used_aliases: dict[str, str] = {}
        self._done: dict[int, _Done] = {}
        self._open: set[int] = set()

    def module(self, draft: Draft, key: str) -> Module:
        """The module that a draft stands for.

        Args:
            draft: Made by the machine. The caller keeps it alive as long as this object.
            key: Its key in the file, for messages.

        Raises:
            CheckpointError: it is not a module, contains itself, is too deep or too large, or reaches an object that
                is not a module and whose class is outside the allow-table.
        """
        value = self._freeze(draft, (None, key), 0).value
        if not isinstance(value, Module):
            raise self._error((None, key), f"is a {draft.class_path!r} without layers, not a model")
        return value

    def plain(self, value: object, key: str) -> Value | None:
        """A value of the file's top level if it is plain data; None if it is not, or is too deep or too large.

        Args:
            value: Made by the machine. The caller keeps it alive as long as this object.
            key: Its key in the file, for messages.
        """
        try:
            done = self._freeze(value, (None, key), 0)
        except CheckpointError:
            return None
        return done.value if done.plain and self._budget.takes(done.values) else None

    def _error(self, place: _Place | None, problem: str, hint: str | None = None) -> CheckpointError:
        keys: list[str] = []
        while place is not None:
            place, key = place
            keys.append(key[:40] if isinstance(key, str) else str(key))
        keys.reverse()
        where = ".".join(keys if len(keys) <= 10 else [*keys[:4], "…", *keys[-4:]])
        return CheckpointError(f"{where!r} {problem}", subject=self._subject, hint=hint)

    def _freeze(self, value: object, place: _Place, depth: int) -> _Done:
        if type(value) in _SCALARS:
            return _Done(value)  # type: ignore[arg-type]  # one of the four
        if isinstance(value, str | bytes):
            return _Done(value, 1 + len(value) // _CHARS_A_VALUE)
        if isinstance(value, Tensor):
            itemsize = max(_LEAST_BYTES, NUMPY_DTYPES[value.dtype].itemsize)
            return _Done(value, nbytes=value.size * itemsize, plain=False)
        key = id(value)  # stays its own as long as the root lives
        known = self._done.get(key)
        if known is not None:
            return known
        if key in self._open:
            raise self._error(place, "holds itself")
        if depth > self._limits.nesting:
            raise self._error(place, f"is nested deeper than {self._limits.nesting} levels")
        self._open.add(key)
        try:
            done = self._compound(value, place, depth)
        finally:
            self._open.remove(key)
        self._check(done, place)
        self._done[key] = done
        return done

    def _check(self, done: _Done, place: _Place) -> None:
        limits = self._limits
        if done.height > limits.nesting:
            raise self._error(place, f"is nested deeper than {limits.nesting} levels")
        if done.values > limits.values or done.modules > limits.modules:
            raise self._error(place, f"unfolds to more than {limits.modules} modules or {limits.values} values")
        if done.nbytes > self._budget.nbytes:
            raise self._error(
                place,
                f"holds tensors of {done.nbytes} bytes once they are spread out, the file allows {self._budget.nbytes}",
            )

    def _compound(self, value: object, place: _Place, depth: int) -> _Done:
        if isinstance(value, dict):
            self._budget.work(len(value))
            parts = {self._key(key, place): self._freeze(item, (place, key), depth + 1) for key, item in value.items()}
            table: dict[Value, Value] = {key: part.value for key, part in parts.items()}
            return _sum(table, parts.values(), own=1 + sum(map(_weight, parts)))
        if isinstance(value, list | tuple):
            self._budget.work(len(value))
            items = [self._freeze(item, (place, index), depth + 1) for index, item in enumerate(value)]
            finished = [part.value for part in items]
            return _sum(finished if isinstance(value, list) else tuple(finished), items)
        if isinstance(value, set | frozenset):
            self._budget.work(len(value))
            return _Done(frozenset(self._key(key, place) for key in value), 1 + sum(map(_weight, value)), height=1)
        if isinstance(value, Draft):
            return self._draft(value, place, depth)
        if isinstance(value, ArrayDraft):
            if isinstance(value.value, list):
                return _Done([*value.value], 1 + sum(map(_weight, value.value)), height=1)
            return _Done(Opaque("numpy.ndarray")) if value.value is None else _Done(value.value, 1 + value.value.size)
        if isinstance(value, DTypeDraft):
            return _Done(Opaque("numpy.dtype", (value.order + value.code,)))
        if isinstance(value, Global):
            if value.foreign:
                raise self._foreign(place, value.class_path)
            return _Done(Opaque(value.class_path))
        if isinstance(value, LazyStorage):
            return _Done(Opaque("torch.storage", (value.dtype, value.length)))
        raise AssertionError(f"the machine made a {type(value).__name__}")

    def _key(self, key: object, place: _Place) -> Value:
        if isinstance(key, OddKey):
            raise self._error(place, "has a key that is not plain")
        return key  # type: ignore[return-value]  # all other keys were checked by the machine

    def _foreign(self, place: _Place, class_path: str, odd: str | None = None) -> CheckpointError:
        what = f"is a {class_path!r}, which {odd}" if odd else f"is a {class_path!r}, which is not in the allow-table"
        return self._error(place, what, "nothing was executed; take it out of the model before you save it")

    def _draft(self, draft: Draft, place: _Place, depth: int) -> _Done:
        if draft.odd is not None:
            raise self._foreign(place, draft.class_path, draft.odd)
        state = draft.state
        if isinstance(state, tuple) and len(state) == 2 and state[1] is None:  # no slots
            state = state[0]
        if isinstance(state, dict) and not _TABLES.isdisjoint(state):
            forward = state.get("forward")
            if isinstance(forward, Draft) and forward.owner not in {None, draft}:
                raise self._error(place, f"is a {draft.class_path!r} whose method 'forward' is that of another module")
            return self._module(draft.class_path, state, place, depth)
        if draft.foreign:
            raise self._foreign(place, draft.class_path)
        arguments = draft.arguments if state is None else (*draft.arguments, state)
        self._budget.work(1 + len(arguments))
        parts = [self._freeze(item, (place, index), depth + 1) for index, item in enumerate(arguments)]
        return _sum(Opaque(draft.class_path, tuple(part.value for part in parts)), parts)

    def _module(self, class_path: str, state: dict[object, object], place: _Place, depth: int) -> _Done:
        parts: list[_Done] = []
        attributes: dict[str, Value] = {}
        self._budget.work(len(state))
        for key, entry in state.items():
            if key in _TABLES or key in _TRAINING_HOOKS or (not entry and key in FORWARD_HOOKS):
                continue
            if not isinstance(key, str):
                raise self._error(place, f"has an attribute whose name is not text, in a {class_path!r}")
            done = self._freeze(entry, (place, key), depth + 1)
            parts.append(done)
            attributes[key] = done.value
        module = Module(
            self._named(class_path),
            MappingProxyType(attributes),
            self._table(state, "_parameters", Tensor, parts, (place, depth)),
            self._table(state, "_buffers", Tensor, parts, (place, depth)),
            self._table(state, "_modules", Module, parts, (place, depth)),
        )
        try:
            module = explained(module)
        except NotUnderstoodError as reason:
            raise self._error(place, f"is a {class_path!r} that {reason}") from None
        self._refuse_hidden(module, class_path, place)
        return _sum(module, parts, modules=1, plain=False)

    def _named(self, class_path: str) -> str:
        alias = self._aliases.get(class_path)
        if alias is not None:
            self.used_aliases[class_path] = alias
        return class_path if alias is None else alias

    def _refuse_hidden(self, module: Module, class_path: str, place: _Place) -> None:
        """Refuse attributes that hide something else: a tensor or a child of the same name, or a method."""
        seen: set[str] = set()
        for table in (module.attributes, module.parameters, module.buffers, module.children):
            if twice := seen.intersection(table):
                raise self._error(place, f"is a {class_path!r} that has two things named {min(twice)[:40]!r}")
            seen.update(table)
        for name in _METHODS.intersection(module.attributes):
            if name != "forward" or not _is_own_method(module.attributes[name], class_path):
                raise self._error(
                    place, f"is a {class_path!r} whose method {name!r} was replaced in a way that is not understood"
                )

    def _table(
        self, state: dict[object, object], name: str, kind: type[_Kind], parts: list[_Done], at: tuple[_Place, int]
    ) -> Mapping[str, _Kind | None]:
        """One of a module's tables. Its values are added to `parts`."""
        place, depth = at
        entries = state.get(name)
        if entries is None:
            return MappingProxyType({})
        if not isinstance(entries, dict):
            raise self._error((place, name), "is not a table")
        self._budget.work(len(entries))
        made: dict[str, _Kind | None] = {}
        for key, entry in entries.items():
            if not isinstance(key, str) or len(key) > self._limits.name_chars:
                raise self._error((place, name), "has a name that is not a short text")
            done = self._freeze(entry, (place, key), depth + 1)
            if done.value is not None and not isinstance(done.value, kind):
                raise self._error((place, key), f"is not a {kind.__name__.lower()}, but stands in {name}")
            parts.append(done)
            made[key] = done.value
        return MappingProxyType(made)


def _is_own_method(value: Value, class_path: str) -> bool:
    """Whether this is a bound method of the module's own class that computes the same as `forward`."""
    if not isinstance(value, Opaque) or not value.class_path.endswith(".getattr") or len(value.arguments) != 2:
        return False
    owner, name = value.arguments
    return owner == class_path and isinstance(name, str) and name in _FUSED


def _weight(value: object) -> int:
    return 1 + len(value) // _CHARS_A_VALUE if isinstance(value, str | bytes) else 1


def _sum(value: Value, parts: Iterable[_Done], *, own: int = 1, modules: int = 0, plain: bool = True) -> _Done:
    values, nbytes, height = own, 0, 0
    for part in parts:
        values += part.values
        modules += part.modules
        nbytes += part.nbytes
        height = max(height, part.height)
        plain = plain and part.plain
    return _Done(value, values, modules, nbytes, height + 1, plain)
