"""Precisions that old versions of TensorRT-RTX fail to build, measured with 1.4.0.76, 1.5.0.114, 1.6.1.120, 1.7.1.116.

Measured on a machine without a GPU, for every target: FP8 fails in 1.4 (``Cuda Runtime ()``), and INT8 in 1.4, 1.5 and
1.6 (``MyelinCheckException``). Whether they build with a GPU is not known. The module has no attribute to ask for this,
so it is the one place where a version is compared.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from yoloship.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from yoloship.engine.flavours import Flavour

_FIRST: Final[Mapping[str, tuple[int, int]]] = MappingProxyType({"int8": (1, 7), "float8": (1, 5)})
"""The first version that builds a precision. Element types begin with the same words."""


def update_hint(flavour: Flavour, types: Iterable[str]) -> str | None:
    """The command that installs a TensorRT-RTX which builds these types; None if this one does, as far as is known.

    Args:
        flavour: The flavour that builds.
        types: Precisions, or element types of a network.
    """
    if flavour.name != "rtx":
        return None
    have = tuple(int(part) for part in re.findall(r"\d+", flavour.version)[:2])
    needed = [first for name, first in _FIRST.items() if have < first and any(kind.startswith(name) for kind in types)]
    if not needed:
        return None
    major, minor = max(needed)
    return f"update it: pip install 'tensorrt_rtx>={major}.{minor}'"


def check_precision_version(flavour: Flavour, precision: str, *, has_device: bool) -> None:
    """Refuse a precision that this version of TensorRT-RTX cannot build without a GPU, before there is a graph.

    Args:
        flavour: The flavour that would build.
        precision: Element type in which the network's body should compute.
        has_device: Whether there is an NVIDIA GPU. With one, it is tried.

    Raises:
        EngineError: it is known to fail.
    """
    hint = update_hint(flavour, [precision])
    if hint is not None and not has_device:
        raise EngineError(f"cannot build {precision} on a machine without a GPU", subject=flavour.title, hint=hint)
