"""Finds the network in a file: without wrappers and training state, and with reparametrized weights computed.

Training and hub code wrap a network in other modules that do not change its answers: for several GPUs, for an average
of the weights, for pre- and post-processing. A wrapper is known by its class. It is removed only if it holds nothing
else that could change an answer.

For a reparametrized weight, torch keeps the parts (``weight_orig`` and ``weight_mask``, ``weight_g`` and ``weight_v``,
…) and a hook, or a child ``parametrizations``, that computes ``weight`` before the layer runs. Here the same formula
computes the weight when its numbers are needed. The module then has it as an ordinary parameter, without the parts. Any
other hook changes its module's result in a way that the file does not show, and is refused.

Sources: the formulas in the documentation of ``torch.nn.utils.prune``, ``torch.nn.utils.weight_norm`` (Salimans and
Kingma 2016, equation 2) and ``torch.nn.utils.spectral_norm`` (Miyato et al. 2018, equation 8, whose u and v are the
stored ones, as in evaluation no iteration is done); class paths and attribute names seen in files that torch 1.5 to
2.13 and YOLOv5 v1 to v7 wrote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from yoloship.checkpoint.drafts import ArrayDraft, Draft, Global, OddKey
from yoloship.checkpoint.records import Module, Opaque, Tensor
from yoloship.checkpoint.weights import WHOLE_MODEL, network_of, weights_of
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from yoloship.checkpoint.records import Value
    from yoloship.model import DType


MAX_NAMES = 20
"""The most class names that are listed for one key."""
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
MODELS = ("ema", "model")
_NAME_KEYS = ("class_names", "classes", "idx_to_class")
_MAX_WRAPPERS = 8
_AVERAGE = re.compile(r"(?:[A-Za-z_]\w*\.)*(ModelEMA|ModelEma)")
"""Objects that are not modules and keep the averaged network as their attribute `ema`."""
_CHANGES = (*FORWARD_HOOKS, "forward", "_call_impl", "_wrapped_call_impl", "_slow_forward")
"""Attributes that change the computation of a wrapper."""


class ForeignNames:
    """Finds names outside the allow-table in values. Each object is looked at only once."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def of(self, value: object) -> tuple[str, ...]:
        """The foreign names in a value, in the order in which they are found, without those in earlier values.

        Args:
            value: Made by the machine. The caller keeps it alive as long as this object.
        """
        names: dict[str, None] = {}
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, Global | Draft) and item.foreign and len(names) < MAX_NAMES:
                names[item.class_path] = None
            if id(item) not in self._seen and (parts := self._parts(item)):
                self._seen.add(id(item))
                waiting.extend(parts)
        return tuple(names)

    @staticmethod
    def _parts(value: object) -> Collection[object]:
        """The values inside a value."""
        if isinstance(value, dict):
            return [*value.values(), *(key for key in value if isinstance(key, OddKey))]
        if isinstance(value, list | tuple | set | frozenset):
            return value
        if isinstance(value, Draft):
            return (value.arguments, value.state)
        return (value.value,) if isinstance(value, OddKey) else ()


class NotUnderstoodError(Exception):
    """A module changes its weights in an unknown way."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A `records.Storage` whose elements are computed whenever somebody asks for them, and not kept."""

    dtype: DType
    length: int
    compute: Callable[[], npt.NDArray[np.generic]]

    def elements(self) -> npt.NDArray[np.generic]:
        """(length,) read-only array."""
        with np.errstate(all="ignore"):  # a weight of length 0 becomes NaN; users of the numbers check for it
            values = np.ascontiguousarray(self.compute()).reshape(-1)
        values.flags.writeable = False
        return values

    def release(self) -> None:
        """Do nothing, because nothing is kept."""


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
        """Compute the weight of a hook."""
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
        """Compute the weight of a parametrization."""
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
    """The masked weight in the type that torch would give. A mask is 0 or 1, so the product is exact."""
    if original.shape != mask.shape:
        raise NotUnderstoodError("has a pruning mask of a different shape than what it masks")
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
        raise NotUnderstoodError("has a weight norm whose lengths are of a different shape than its directions")

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
        raise NotUnderstoodError("has a spectral norm whose vectors are of a different size than its weight")

    def compute() -> npt.NDArray[np.generic]:
        weight = original.float64()
        matrix = np.moveaxis(weight, dim, 0).reshape(rows, -1)
        return weight / (u.float64() @ matrix @ v.float64())

    return _tensor(original.shape, "float64", compute)


class _Wrapper(NamedTuple):
    """A class whose forward is that of its child.

    Attributes:
        path: What its class path must match.
        child: Name of the child; None for the only child, with any name.
        buffers: Buffers that the wrapper itself may have.
    """

    path: re.Pattern[str]
    child: str | None
    buffers: frozenset[str] = frozenset()


_WRAPPERS = (
    _Wrapper(re.compile(r"(?:[A-Za-z_]\w*\.)*models\.common\.([aA]utoShape|DetectMultiBackend)"), "model"),
    _Wrapper(re.compile(r"ultralytics\.nn\.autobackend\.AutoBackend"), "model"),
    _Wrapper(
        re.compile(r"torch\.nn\.parallel\.(data_parallel\.DataParallel|distributed\.DistributedDataParallel)"), "module"
    ),
    _Wrapper(re.compile(r"apex\.parallel\.distributed\.DistributedDataParallel"), "module"),
    _Wrapper(re.compile(r"torch\.optim\.swa_utils\.AveragedModel"), "module", frozenset({"n_averaged"})),
    _Wrapper(re.compile(r"torch\._dynamo\.eval_frame\.OptimizedModule"), "_orig_mod"),
    _Wrapper(re.compile(r"(?:[A-Za-z_]\w*\.)*models\.experimental\.Ensemble"), None),
)


class Chosen(NamedTuple):
    """The network of a file.

    Attributes:
        key: Its key in the file: ``ema`` or ``model``.
        draft: The network itself.
        others: The file's whole table; empty if the file is the network alone.
        names: Class names of its wrappers and of the file, nearest first.
    """

    key: str
    draft: Draft
    others: Mapping[object, object]
    names: tuple[object, ...]


def choose(content: object, subject: str) -> Chosen:
    """Find the network of a file.

    Args:
        content: The object in the pickle.
        subject: The file's name, for messages.

    Raises:
        CheckpointError: there is no network, there are several (an ensemble), or a wrapper is not known.
    """
    if isinstance(content, Draft):
        return _unwrapped("model", content, {}, subject)
    if not isinstance(content, dict):
        raise CheckpointError("holds no model", subject=subject, got=f"a {_kind(content)}", hint=WHOLE_MODEL)
    for key in MODELS:
        candidate = content.get(key)
        if isinstance(candidate, tuple) and candidate:  # (model, number of updates), as some releases save the average
            candidate = candidate[0]
        if isinstance(candidate, Draft):
            return _unwrapped(key, candidate, content, subject)
        if key == "ema" and _has_weights(candidate) and isinstance(content.get("model"), Draft):
            raise CheckpointError(
                f"holds averaged weights under {key!r} that are not a model, beside a model of other weights",
                subject=subject,
                hint="load them into the model and save it alone: torch.save({'model': model}, path)",
            )
    weights = weights_of(content)
    if weights is not None:
        others = content if weights.key else {}
        return Chosen(weights.key or "state_dict", network_of(weights, subject), others, _names(content))
    if (place := _elsewhere(content)) is not None:
        raise CheckpointError(
            f"holds a model under {place}, rather than under 'model' or 'ema'",
            subject=subject,
            hint=f"save it again: torch.save({{'model': torch.load(path, weights_only=False){place}}}, path)",
        )
    keys = ", ".join(repr(key)[:40] for key in list(content)[:8]) or "nothing"
    raise CheckpointError("holds no model", subject=subject, got=f"a dictionary of {keys}", hint=WHOLE_MODEL)


def _has_weights(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(item, Tensor | Draft) for item in value.values())


def _elsewhere(content: Mapping[object, object]) -> str | None:
    """Keys that lead to a module in an unusual place, as Python code; None if there is none."""
    seen: set[int] = set()  # one table may be under any number of keys
    for key, value in content.items():
        inner = value.items() if isinstance(value, dict) and id(value) not in seen else ()
        seen.add(id(value))
        for keys, candidate in (((key,), value), *(((key, below), item) for below, item in inner)):
            state = candidate.state if isinstance(candidate, Draft) else None
            if isinstance(state, dict) and _modules(state) and all(isinstance(part, str) for part in keys):
                return "".join(f"[{str(part)[:40]!r}]" for part in keys)
    return None


def _names(content: Mapping[object, object]) -> tuple[object, ...]:
    """Class names in the file's table, under any of the keys that people use."""
    found: list[object] = [content["names"]] if "names" in content else []
    tables = (content.get(key) for key in _NAME_KEYS)
    found.extend(table for table in tables if isinstance(table, list | tuple | dict | ArrayDraft))
    by_name = content.get("class_to_idx")  # of torchvision's ImageFolder; a folder's name may be a number
    if isinstance(by_name, dict) and all(type(class_id) is int for class_id in by_name.values()):
        found.append({class_id: name for name, class_id in by_name.items()})
    return tuple(found)


def _kind(content: object) -> str:
    return {list: "list", tuple: "tuple", str: "text", Tensor: "tensor"}.get(type(content), "plain value")


def _unwrapped(key: str, draft: Draft, others: Mapping[object, object], subject: str) -> Chosen:
    names: list[object] = [*_names(others)]
    for _ in range(_MAX_WRAPPERS):
        state = draft.state if isinstance(draft.state, dict) else {}
        inner = _average(draft, state) or _wrapped(draft, state, subject)
        if inner is None:
            return Chosen(key, draft, others, tuple(names))
        if state.get("names") is not None:
            names.insert(0, state["names"])
        draft = inner
    raise CheckpointError(f"has its model inside more than {_MAX_WRAPPERS} others", subject=subject)


def _average(draft: Draft, state: Mapping[object, object]) -> Draft | None:
    inner = state.get("ema")
    return inner if isinstance(inner, Draft) and _AVERAGE.fullmatch(draft.class_path) and not _modules(state) else None


def _modules(state: Mapping[object, object]) -> Mapping[object, object]:
    children = state.get("_modules")
    return children if isinstance(children, dict) else {}


def _wrapped(draft: Draft, state: Mapping[object, object], subject: str) -> Draft | None:
    """The module inside a wrapper; None if this is not a wrapper."""
    wrapper = next((one for one in _WRAPPERS if one.path.fullmatch(draft.class_path)), None)
    if wrapper is None:
        return None
    children = {name: child for name, child in _modules(state).items() if child is not None}
    if wrapper.child is None and len(children) > 1:
        raise CheckpointError(
            f"holds an ensemble of {len(children)} models, whose boxes are merged",
            subject=subject,
            hint="export each model on its own: torch.save({'model': ensemble[0]}, path)",
        )
    name = wrapper.child if wrapper.child is not None else next(iter(children), None)
    inner = children.pop(name, None)
    more = [*children, *_filled(state, "_parameters"), *(_filled(state, "_buffers") - wrapper.buffers)]
    if not isinstance(inner, Draft) or more or draft.odd or any(state.get(name) for name in _CHANGES):
        got = "hooks or a replaced method"
        if more:
            got = f"also {str(more[0])[:40]!r} in it"
        elif inner is None:
            got = f"no model as its {name!r}"
        raise CheckpointError(
            f"holds a {draft.class_path!r} that is not only a wrapper around a model",
            subject=subject,
            got=got,
            hint="save the model inside it: torch.save({'model': model}, path)",
        )
    return inner


def _filled(state: Mapping[object, object], name: str) -> set[object]:
    table = state.get(name)
    return {key for key, value in table.items() if value is not None} if isinstance(table, dict) else set()
