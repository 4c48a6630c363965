"""One module of an untrusted checkpoint, read with checks, and a list of what nobody has read.

A fork often adds a layer to an official block and keeps the block's name. The writer of the block does not know the
addition, so without a check the graph would lack it. `ModuleView` notes every child, tensor and attribute that a writer
asks for. At the end `check_consumed` walks the whole tree, and refuses everything that holds numbers or computes
something and that no writer asked for.

Anybody may have written the file. Every access checks the type and the range. Anything wrong becomes a `GraphError`
that names the module's class path and its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from yoloship._util.fields import is_int
from yoloship._util.text import shortened
from yoloship.checkpoint.records import Module, Opaque, Tensor
from yoloship.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from yoloship.checkpoint.records import Value


Kind = Literal["child", "tensor", "attribute", "left out"]

UNUSED_IN_EVALUATION: Final = frozenset({"num_batches_tracked", "total_ops", "total_params"})
"""Tensors that evaluation does not read: a counter of batch-norm, and two that the profiler thop leaves behind."""
_OF_THE_MODEL: Final = frozenset({"stride", "class_weights", "criterion", "compute_loss", "transforms"})
"""Attributes of the whole model that only training reads, and how a classification model's images are prepared."""
_INERT: Final = frozenset(
    {"Identity", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"}
)
"""Layers of torch.nn that do nothing in evaluation. Layers that compute a loss do nothing either."""
_CALLS: Final = ("forward", "_call_impl", "_slow_call", "_conv_forward", "_forward_once", "forward_once")
"""Methods that compute. If a module has an attribute of such a name, it replaces the method of the class."""
_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks")
_FUSED: Final = frozenset({"forward_fuse", "fuseforward"})
"""The forward method that the official `fuse` gives a convolution after it has folded and deleted the batch-norm."""
_METHOD: Final = frozenset({"builtins.getattr", "__builtin__.getattr"})
_CODE: Final = ("models.", "utils.", "yolov5.", "ultralytics.", "torch.nn.", "torchvision.")
"""Packages whose functions and objects may compute, if a module keeps one as an attribute."""
_MAX_DEPTH: Final = 32
MAX_ELEMENTS = 1 << 28
"""The most elements of one tensor: 1 GiB as float32, ten times the largest of any release."""
MAX_EXTENT = 4096
"""The largest kernel, stride or padding: far above any network's, and low enough that sums stay small."""
_CONTAINERS = frozenset({"Sequential", "ModuleList"})


class Consumed:
    """Names that writers asked for, by module. A module that occurs at two places is one module."""

    def __init__(self) -> None:
        self._names: dict[int, set[tuple[Kind, str]]] = {}
        self._kept: list[Module] = []  # keeps the modules alive, so that no other object gets one of their ids

    def note(self, module: Module, kind: Kind, name: str) -> None:
        """Note that a writer asked for this."""
        names = self._names.get(id(module))
        if names is None:
            names = self._names[id(module)] = set()
            self._kept.append(module)
        names.add((kind, name))

    def has(self, module: Module, kind: Kind, name: str) -> bool:
        """Whether a writer asked for it."""
        return (kind, name) in self._names.get(id(module), ())


def check_consumed(root: ModuleView, aliases: Mapping[str, str] = MappingProxyType({})) -> None:
    """Refuse a tree that holds more than the writers have read.

    Args:
        root: The model. All its writers are done, and worked on views that descend from this one.
        aliases: Class paths of the file that were replaced, each with the path that the modules have now.

    Raises:
        GraphError: a child, a tensor, a hook or a replaced method would be missing in the graph; it is named.
    """
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        view = waiting.pop()
        if id(view.module) in seen:
            continue
        seen.add(id(view.module))
        _check_calls(view, aliases)
        _check_tensors(view)
        _check_attributes(view, is_model=view is root)
        waiting.extend(reversed(_checked_children(view)))


def _checked_children(view: ModuleView) -> list[ModuleView]:
    """The children that were written. The caller checks each of them in turn."""
    written: list[ModuleView] = []
    for name, child in view.module.children.items():
        if child is None or view.consumed.has(view.module, "left out", name):
            continue
        if view.consumed.has(view.module, "child", name):
            written.append(view.child(name))
        elif not _is_inert(child):
            raise _left_over(view, f"child {name!r} ({_kind_of(child)})")
    return written


def _check_tensors(view: ModuleView) -> None:
    for kind, table in (("parameter", view.module.parameters), ("buffer", view.module.buffers)):
        for name, tensor in table.items():
            if tensor is None or (kind == "buffer" and name in UNUSED_IN_EVALUATION):
                continue
            if not view.consumed.has(view.module, "tensor", name):
                raise _left_over(view, f"{kind} {name!r} ({_kind_of(tensor)})")


def _check_attributes(view: ModuleView, *, is_model: bool) -> None:
    module = view.module
    passing = UNUSED_IN_EVALUATION | (_OF_THE_MODEL if is_model else frozenset())
    for name, value in module.attributes.items():
        if name in module.children or name in module.parameters or name in module.buffers:
            raise view.error(
                f"attribute {name!r} hides a part of the same name",
                hint="save the model again after it was loaded in its training environment",
            )
        if name in passing or name in _CALLS:  # `_check_calls` checks the latter
            continue
        if view.consumed.has(module, "attribute", name):
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
            raise _left_over(view, f"attribute {name!r} (an array {value.shape})")
        if what := _computes(value, _MAX_DEPTH, code=not is_model):
            raise _left_over(view, f"attribute {name!r} ({what})")


def _check_calls(view: ModuleView, aliases: Mapping[str, str]) -> None:
    """Refuse a module whose class no longer says what it computes."""
    attributes: Mapping[str, Value] = view.module.attributes
    for name in _HOOKS:
        if attributes.get(name):
            raise view.error(
                f"has a hook in {name!r}, which may change what it computes",
                hint="remove the hook in the training environment and save the model again",
            )
    for name in _CALLS:
        if attributes.get(name) is not None and not _is_fused_forward(view, name, aliases):
            raise view.error(
                f"its method {name!r} was replaced, so its class does not say what it computes",
                hint="save the model without the replacement",
            )


def _is_fused_forward(view: ModuleView, name: str, aliases: Mapping[str, str]) -> bool:
    """Whether this is the official forward of a convolution after `fuse`, which has no batch-norm any more."""
    value = view.module.attributes[name]
    if name != "forward" or not isinstance(value, Opaque) or value.class_path not in _METHOD:
        return False
    if len(value.arguments) != 2 or not all(isinstance(argument, str) for argument in value.arguments):
        return False
    owner, method = str(value.arguments[0]), value.arguments[1]
    children = view.module.children
    is_own = aliases.get(owner, owner) == view.module.class_path
    return is_own and method in _FUSED and children.get("bn") is None and "conv" in children


def _is_inert(child: object) -> bool:
    if not isinstance(child, Module) or not child.class_path.startswith("torch.nn.modules."):
        return False
    empty = not (child.children or child.parameters or child.buffers)
    return (child.class_name in _INERT and empty) or child.class_path.startswith("torch.nn.modules.loss.")


def _kind_of(value: object) -> str:
    if isinstance(value, Module):
        return value.class_path[:80]
    if isinstance(value, Tensor):
        return f"a tensor {value.shape}"[:80]
    return type(value).__name__


def _computes(value: Value, depth: int, *, code: bool) -> str | None:
    """A description of anything in an attribute that could compute; None for plain data.

    Args:
        value: The attribute, or a part of it.
        depth: How far to look into it.
        code: Whether functions, methods and objects of the training code count.
    """
    if isinstance(value, Tensor | Module):
        return _kind_of(value)
    if depth == 0:
        return "nested too deep to look into"
    inner: tuple[Value, ...] = ()
    if isinstance(value, Opaque):
        if code and _is_code(value):
            return ".".join(map(str, value.arguments)) if value.class_path in _METHOD else value.class_path
        inner = value.arguments
    elif isinstance(value, dict):
        inner = tuple(value.values())
    elif isinstance(value, list | tuple):
        inner = tuple(value)
    return next((found for one in inner if (found := _computes(one, depth - 1, code=code))), None)


def _is_code(value: Opaque) -> bool:
    """Whether this is a method, a function, or an object of the training code. Settings and layer classes are not."""
    path = value.class_path
    if path in _METHOD:
        return True
    if path.endswith((".IterableSimpleNamespace", ".InterpolationMode")):
        return False
    return path.startswith(_CODE) and not (path.startswith("torch.nn.modules.") and not value.arguments)


def _left_over(view: ModuleView, what: str) -> GraphError:
    name = view.module.class_name
    return view.error(
        f"{what} is not part of an official {name[:60]}, and would be left out",
        hint="this is a changed block, which only its own training code can compute; nothing was guessed",
    )


@dataclass(frozen=True, slots=True)
class ModuleView:
    """A module and its place in the model.

    Attributes:
        module: The module, as data.
        place: Dotted, from the model's root: ``model.9.cv2``.
        source: The checkpoint's name.
        consumed: Notes the names that writers ask for. All views of one tree share it.
    """

    module: Module
    place: str
    source: str
    consumed: Consumed = field(default_factory=Consumed, repr=False, compare=False)

    def error(
        self, problem: str, *, expected: str | None = None, got: object = None, hint: str | None = None
    ) -> GraphError:
        """The error for something in this module; it names the module."""
        return GraphError(
            problem,
            subject=f"{self.source}: {self.place or 'the model'} ({shortened(self.module.class_path, 120)})",
            expected=expected,
            got=None if got is None else shortened(str(got)),
            hint=hint,
        )

    @property
    def class_path(self) -> str:
        """The path of the module's class: ``models.common.Conv``."""
        return self.module.class_path

    @property
    def class_name(self) -> str:
        """The last name of the class path: ``Conv``."""
        return self.module.class_name

    @property
    def torch_name(self) -> str | None:
        """The class name of one of torch's plain layers, None for others: ``torch.nn.qat`` has a Conv2d as well."""
        return self.module.class_name if self.module.class_path.startswith("torch.nn.modules.") else None

    # Children.

    def optional_child(self, name: str) -> ModuleView | None:
        """The submodule of that name, None if there is none."""
        self.consumed.note(self.module, "child", name)
        child = self.module.children.get(name)
        if child is None:
            return None
        if not isinstance(child, Module):
            raise self.error(f"child {name!r} is not a module", got=type(child).__name__)
        return ModuleView(child, f"{self.place}.{name}" if self.place else name, self.source, self.consumed)

    def child(self, name: str) -> ModuleView:
        """The submodule of that name."""
        child = self.optional_child(name)
        if child is None:
            raise self.error(f"has no submodule {name!r}")
        return child

    def submodules(self) -> tuple[ModuleView, ...]:
        """All submodules of a plain container of torch, in order."""
        if self.torch_name not in _CONTAINERS:
            raise self.error("is not supported in this place", expected="torch.nn.Sequential or ModuleList")
        return tuple(self.child(name) for name in self.module.children)

    def leave_out(self, *names: str) -> None:
        """Leave submodules out of the graph on purpose, with all that they hold, if the module has them.

        Only for what has no part in the chosen answer: the other of two heads, and branches that only a loss reads.
        """
        for name in names:
            self.consumed.note(self.module, "left out", name)

    def last(self) -> ModuleView:
        """The last submodule, this module itself if it has none."""
        names = [name for name, child in self.module.children.items() if child is not None]
        return self.child(names[-1]) if names else self

    # Plain attributes.

    def value(self, name: str) -> Value:
        """An attribute of any type."""
        if name not in self.module.attributes:
            raise self.error(f"has no attribute {name!r}")
        return self.optional_value(name)

    def optional_value(self, name: str) -> Value:
        """An attribute of any type; None if there is none."""
        self.consumed.note(self.module, "attribute", name)
        return self.module.attributes.get(name)

    def has(self, name: str) -> bool:
        """Whether there is such an attribute and it is not None."""
        return self.optional_value(name) is not None

    def integer(self, name: str, low: int = 0, high: int = MAX_EXTENT) -> int:
        """An integer attribute within bounds."""
        value = self.value(name)
        if not is_int(value, low, high):
            raise self.error(f"bad {name!r}", expected=f"an integer from {low} to {high}", got=value)
        return value

    def flag(self, name: str) -> bool:
        """A boolean attribute."""
        value = self.value(name)
        if not isinstance(value, bool):
            raise self.error(f"bad {name!r}", expected="a boolean", got=value)
        return value

    def number(self, name: str) -> float:
        """A finite float attribute."""
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise self.error(f"bad {name!r}", expected="a finite number", got=value)
        return float(value)

    def integers(self, name: str, count: int, low: int = 0) -> tuple[int, ...]:
        """An attribute of `count` integers. A single integer stands for all of them, as in torch."""
        value = self.value(name)
        if is_int(value, low, MAX_EXTENT):
            return (value,) * count
        if isinstance(value, tuple | list) and len(value) == count:
            fitting = tuple(one for one in value if is_int(one, low, MAX_EXTENT))
            if len(fitting) == count:
                return fitting
        raise self.error(f"bad {name!r}", expected=f"{count} integers from {low} to {MAX_EXTENT}", got=value)

    def pair(self, name: str, low: int = 0) -> tuple[int, int]:
        """An attribute of two integers, (vertical, horizontal)."""
        first, second = self.integers(name, 2, low)
        return first, second

    def require(self, name: str, *allowed: Value) -> None:
        """Refuse an attribute unless it has one of the values that can be written.

        A missing attribute is refused as well, unless None is allowed.
        """
        value = self.optional_value(name)
        if not any(type(value) is type(choice) and value == choice for choice in allowed):
            expected = " or ".join(map(repr, allowed))
            raise self.error(f"{name} is not supported with this value", expected=expected, got=repr(value))

    # Tensors.

    def optional_tensor(self, name: str) -> Tensor | None:
        """A parameter or buffer, None if there is none."""
        self.consumed.note(self.module, "tensor", name)
        tensor = self.module.parameters.get(name)
        if tensor is None:
            tensor = self.module.buffers.get(name)
        if tensor is None:
            return None
        return self.checked(name, tensor)

    def checked(self, name: str, tensor: object) -> Tensor:
        """The tensor, if it is one and is small enough to be read into memory."""
        if not isinstance(tensor, Tensor):
            raise self.error(f"{name!r} is not a tensor", got=type(tensor).__name__)
        if math.prod(tensor.shape) > MAX_ELEMENTS:
            raise self.error(f"{name!r} is too large", expected=f"at most {MAX_ELEMENTS} elements", got=tensor.shape)
        return tensor

    def optional_array(self, name: str, *shape: int | None) -> npt.NDArray[np.float64] | None:
        """A parameter or buffer as a float64 array that the caller owns, None if there is none.

        Args:
            name: The name of the parameter or buffer.
            shape: The shape that it must have; None for any extent of at least one.
        """
        tensor = self.optional_tensor(name)
        if tensor is None:
            return None
        have = tensor.shape
        if len(have) != len(shape) or any(
            h < 1 or (w is not None and h != w) for w, h in zip(shape, have, strict=True)
        ):
            expected = f"({', '.join('any' if extent is None else str(extent) for extent in shape)})"
            raise self.error(f"{name!r} has the wrong shape", expected=expected, got=have)
        if "float" not in tensor.dtype:
            raise self.error(
                f"{name!r} holds whole numbers ({tensor.dtype})", expected="floats",
                hint="a quantized network has scales beside them; save the one from which it was made",
            )  # fmt: skip
        array = tensor.float64()
        if not np.isfinite(array).all():
            raise self.error(f"{name!r} holds values that are not finite", hint="the training has diverged")
        return array

    def array(self, name: str, *shape: int | None) -> npt.NDArray[np.float64]:
        """A parameter or buffer as a float64 array that the caller owns. It must exist; see `optional_array`."""
        array = self.optional_array(name, *shape)
        if array is None:
            raise self.error(f"has no tensor {name!r}")
        return array


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that is too large for a float
        return False
