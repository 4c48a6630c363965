"""Whole checkpoints as bytes, with one thing wrong in each: for attacks on what reads a module tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import forge
from helpers.modules import NAMES
from helpers.samples import sample
from yoloship.checkpoint import Module, Tensor
from yoloship.checkpoint.records import Opaque

if TYPE_CHECKING:
    from collections.abc import Mapping


class Pickled:
    """A module tree as the bytes of a checkpoint.

    Args:
        changes: Code for attributes, by ``path:attribute``; in place of what the tree has, or beside it.
        modules: Code for submodules, by path.
    """

    def __init__(self, changes: Mapping[str, forge.Code], modules: Mapping[str, forge.Code] | None = None) -> None:
        self.changes, self.modules = changes, modules or {}
        self.storages: dict[str, bytes] = {}

    def file(self, root: Module) -> bytes:
        self.changes = {":names": forge.listed(*map(forge.text, NAMES)), **self.changes}
        code = forge.table({"model": self._module(root, ""), "version": forge.text("8.4.190")})
        return forge.zip_bytes(forge.end(code), self.storages)

    def _module(self, module: Module, path: str) -> forge.Code:
        attributes = {name: self._value(value) for name, value in module.attributes.items()}
        for place, code in self.changes.items():
            where, _, name = place.partition(":")
            if where == path:
                attributes[name] = code
        children = {}
        for name, child in module.children.items():
            inner = f"{path}.{name}".removeprefix(".")
            if child is not None:
                children[name] = self.modules.get(inner) or self._module(child, inner)
        for inner, code in self.modules.items():
            parent, _, name = inner.rpartition(".")
            if parent == path:
                children[name] = code
        parameters = {name: self._value(value) for name, value in module.parameters.items()}
        buffers = {name: self._value(value) for name, value in module.buffers.items()}
        return forge.module(module.class_path, attributes, parameters, buffers, children)

    def _value(self, value: Any) -> forge.Code:
        if value is None:
            return forge.NONE
        if isinstance(value, bool):
            return forge.TRUE if value else forge.FALSE
        if isinstance(value, int):
            return forge.integer(value)
        if isinstance(value, float):
            return forge.number(value)
        if isinstance(value, str):
            return forge.text(value)
        if isinstance(value, list):
            return forge.listed(*map(self._value, value)) if value else forge.EMPTY_LIST
        if isinstance(value, tuple):
            return forge.row(*map(self._value, value))
        if isinstance(value, Opaque):
            owner, name = value.arguments
            return forge.call(value.class_path, forge.named(str(owner)), forge.text(str(name)))
        assert isinstance(value, Tensor), value
        array = np.ascontiguousarray(value.float64(), np.float32)
        key = str(len(self.storages))
        self.storages[key] = array.tobytes()
        strides = [step // 4 for step in array.strides]
        return forge.tensor(forge.storage(key, array.size), array.shape, strides)


def hostile(
    family: str, task: str, changes: Mapping[str, forge.Code], modules: Mapping[str, forge.Code] | None = None
) -> bytes:
    """The file of a family's sample for a task, with these things wrong in it."""
    return Pickled(changes, modules).file(sample(family, task).module)
