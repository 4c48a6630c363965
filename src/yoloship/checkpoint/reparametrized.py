"""Weights that a module computes anew at each run from other tensors: pruning, weight norm, spectral norm.

torch keeps the parts (``weight_orig`` and ``weight_mask``, ``weight_g`` and ``weight_v``, …) and a hook that computes
``weight`` before the layer runs, or a child ``parametrizations`` that does. Here the weight is computed as the hook
would, when its numbers are asked for, and stands in the module as an ordinary parameter; the parts are taken out. A
hook that is none of these changes what its module computes in a way that the file does not show: it is refused.

Source: the formulas in the documentation of ``torch.nn.utils.prune``, ``torch.nn.utils.weight_norm`` (Salimans and
Kingma 2016, equation 2) and ``torch.nn.utils.spectral_norm`` (Miyato et al. 2018, equation 8, whose u and v are the
stored ones, as in evaluation no iteration is done); attribute names seen in files of torch 1.5 to 2.13.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yoloship.checkpoint.records import Module, Opaque, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yoloship.checkpoint.records import Value
    from yoloship.tensors import DType

FORWARD_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_PRUNE = "torch.nn.utils.prune."
_WEIGHT_NORM = frozenset({"torch.nn.utils.weight_norm.WeightNorm", "torch.nn.utils.parametrizations._WeightNorm"})
_SPECTRAL_NORM = frozenset(
    {"torch.nn.utils.spectral_norm.SpectralNorm", "torch.nn.utils.parametrizations._SpectralNorm"}
)
_LIST = "torch.nn.utils.parametrize.ParametrizationList"
_PARAMETRIZED = "torch.nn.utils.parametrize.Parametrized"
_PLAIN_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "Conv1d": "torch.nn.modules.conv.Conv1d",
        "Conv2d": "torch.nn.modules.conv.Conv2d",
        "ConvTranspose2d": "torch.nn.modules.conv.ConvTranspose2d",
        "Linear": "torch.nn.modules.linear.Linear",
    }
)
"""What ``torch.nn.utils.parametrize`` names ``ParametrizedConv2d`` and the like."""


class NotUnderstoodError(Exception):
    """What a module does to its weights, if it is none of the known things."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A storage whose elements are computed when asked for, and not kept. Satisfies `records.Storage`."""

    dtype: DType
    length: int
    compute: Callable[[], npt.NDArray[np.generic]]

    def elements(self) -> npt.NDArray[np.generic]:
        """(length,) read-only array."""
        with np.errstate(all="ignore"):  # a weight without length becomes NaN, which is for the reader to find
            values = np.ascontiguousarray(self.compute()).reshape(-1)
        values.flags.writeable = False
        return values

    def release(self) -> None:
        """Nothing is kept."""


def explained(module: Module) -> Module:
    """The same module with its computed weights as parameters, without hooks and parts.

    Raises:
        NotUnderstoodError: it has a hook or a parametrization of another kind, or lacks the tensors that it needs.
    """
    hooks = [hook for name in FORWARD_HOOKS for hook in _hooks(module.attributes.get(name))]
    stack = module.children.get("parametrizations")
    if not hooks and stack is None:
        return module
    parts = _Parts(module)
    for hook in sorted(hooks, key=lambda hook: not hook.class_path.startswith(_PRUNE)):  # a pruned part comes first
        parts.apply(hook)
    if stack is not None:
        if not stack.class_path.startswith("torch.nn.") or stack.parameters or stack.buffers:
            raise NotUnderstoodError("has parametrizations of another kind")
        for name, child in stack.children.items():
            parts.apply_list(name, child)
        del parts.children["parametrizations"]
    return parts.module(module.class_path)


def _hooks(table: Value) -> list[Opaque]:
    if table is None:
        return []
    if not isinstance(table, dict):
        raise NotUnderstoodError("has hooks that are not a table")
    for hook in table.values():
        if not isinstance(hook, Opaque):
            raise NotUnderstoodError("has a hook that is not an object")
    return [hook for hook in table.values() if isinstance(hook, Opaque)]


class _Parts:
    """The tables of a module while its weights are put together."""

    def __init__(self, module: Module) -> None:
        self.attributes = {key: value for key, value in module.attributes.items() if key not in FORWARD_HOOKS}
        self.parameters = dict(module.parameters)
        self.buffers = dict(module.buffers)
        self.children = dict(module.children)

    def module(self, class_path: str) -> Module:
        name = class_path.removeprefix(_PARAMETRIZED)
        return Module(
            _PLAIN_CLASSES.get(name, class_path) if name != class_path else class_path,
            MappingProxyType(self.attributes),
            MappingProxyType(self.parameters),
            MappingProxyType(self.buffers),
            MappingProxyType(self.children),
        )

    def apply(self, hook: Opaque) -> None:
        """Compute what a hook would."""
        state = hook.arguments[-1] if hook.arguments and isinstance(hook.arguments[-1], dict) else {}
        name = state.get("_tensor_name" if hook.class_path.startswith(_PRUNE) else "name")
        if not isinstance(name, str):
            raise NotUnderstoodError(f"has a hook of the class {hook.class_path!r}, which is not understood")
        if hook.class_path.startswith(_PRUNE):
            computed = _masked(self._take(f"{name}_orig"), self._take(f"{name}_mask"))
        elif hook.class_path in _WEIGHT_NORM:
            computed = _weight_norm(self._take(f"{name}_v"), self._take(f"{name}_g"), state.get("dim"))
        elif hook.class_path in _SPECTRAL_NORM:
            u, v = self._take(f"{name}_u"), self._take(f"{name}_v")
            computed = _spectral_norm(self._take(f"{name}_orig"), u, v, state.get("dim"))
        else:
            raise NotUnderstoodError(f"has a hook of the class {hook.class_path!r}, which is not understood")
        self.attributes.pop(name, None)  # the result of the last run, which may be stale
        self.parameters[name] = computed

    def apply_list(self, name: str, chain: Module | None) -> None:
        """Compute what a parametrization would."""
        steps = [] if chain is None else list(chain.children.values())
        step = steps[0] if len(steps) == 1 else None
        if chain is None or step is None or chain.class_path != _LIST:
            raise NotUnderstoodError(f"has parametrizations of {name!r} that are not understood")
        own = {**chain.buffers, **chain.parameters}
        if step.class_path in _WEIGHT_NORM:
            computed = _weight_norm(_part(own, "original1"), _part(own, "original0"), step.attributes.get("dim"))
        elif step.class_path in _SPECTRAL_NORM:
            u, v = _part(step.buffers, "_u"), _part(step.buffers, "_v")
            computed = _spectral_norm(_part(own, "original"), u, v, step.attributes.get("dim"))
        else:
            raise NotUnderstoodError(f"has a parametrization {step.class_path!r}, which is not understood")
        self.parameters[name] = computed

    def _take(self, name: str) -> Tensor:
        for table in (self.parameters, self.buffers):
            tensor = table.pop(name, None)
            if tensor is not None:
                return tensor
        raise NotUnderstoodError(f"has no tensor {name!r}, from which its hook computes a weight")


def _part(table: Mapping[str, Tensor | None], name: str) -> Tensor:
    tensor = table.get(name)
    if tensor is None:
        raise NotUnderstoodError(f"has no tensor {name!r}, from which its parametrization computes a weight")
    return tensor


def _tensor(shape: tuple[int, ...], dtype: DType, compute: Callable[[], npt.NDArray[np.generic]]) -> Tensor:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * max(shape[axis], 1)
    length = 1
    for extent in shape:
        length *= extent
    return Tensor(Computed(dtype, length, compute), 0, shape, tuple(strides), requires_grad=True)


def _masked(original: Tensor, mask: Tensor) -> Tensor:
    """Element by element, in the type that torch would give; a mask is 0 or 1, so the product is exact."""
    if original.shape != mask.shape:
        raise NotUnderstoodError("has a pruning mask of another shape than what it masks")
    dtype: DType = "float64" if original.dtype == "float64" else "float32"
    wanted = np.float64 if dtype == "float64" else np.float32
    return _tensor(
        original.shape, dtype, lambda: original.numpy().astype(wanted) * mask.numpy().astype(wanted, copy=False)
    )


def _weight_norm(direction: Tensor, length: Tensor, dim: Value) -> Tensor:
    """The direction v with the length g: g · v / ‖v‖, the norm over all axes but `dim`, over all if that is None."""
    rank = len(direction.shape)
    if dim is None or dim == -1:
        axes = tuple(range(rank))
    elif type(dim) is int and 0 <= dim < rank:
        axes = tuple(axis for axis in range(rank) if axis != dim)
    else:
        raise NotUnderstoodError(f"has a weight norm over the axis {dim!r} of {rank}")
    expected = tuple(1 if axis in axes else extent for axis, extent in enumerate(direction.shape))
    if length.shape not in {expected, ()} or (length.shape == () and len(axes) != rank):
        raise NotUnderstoodError("has a weight norm whose lengths are of another shape than its directions")

    def compute() -> npt.NDArray[np.generic]:
        v = direction.float64()
        v *= length.float64() / np.sqrt(np.square(v).sum(axis=axes, keepdims=True))
        return v

    return _tensor(direction.shape, "float64", compute)


def _spectral_norm(original: Tensor, u: Tensor, v: Tensor, dim: Value) -> Tensor:
    """The weight divided by its norm: W / σ with σ = uᵀ W v, W as a matrix whose rows are the axis `dim`."""
    rank = len(original.shape)
    if type(dim) is not int or not 0 <= dim < rank or rank < 2:
        raise NotUnderstoodError(f"has a spectral norm over the axis {dim!r} of {rank}")
    rows = original.shape[dim]
    if u.shape != (rows,) or rows == 0 or v.shape != (original.size // rows,):
        raise NotUnderstoodError("has a spectral norm whose vectors are of another size than its weight")

    def compute() -> npt.NDArray[np.generic]:
        weight = original.float64()
        matrix = np.moveaxis(weight, dim, 0).reshape(rows, -1)
        return weight / (u.float64() @ matrix @ v.float64())

    return _tensor(original.shape, "float64", compute)
