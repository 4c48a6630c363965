"""One module of a checkpoint, read with suspicion: `Part`.

The tree comes from a file that anybody may have written. Every access checks the type and the range, and whatever is
wrong becomes a `GraphError` that names the module's class path and its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from yoloship.checkpoint.records import Module, Tensor
from yoloship.errors import GraphError
from yoloship.graph.consumed import Consumed

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.checkpoint.records import Value

MAX_ELEMENTS = 1 << 28
"""Of one tensor: 1 GiB as float32, ten times the largest of any release."""
MAX_EXTENT = 4096
"""Of a kernel, a stride, a padding: far above what any network has, low enough that sums stay small."""
_CONTAINERS = frozenset({"Sequential", "ModuleList"})


@dataclass(frozen=True, slots=True)
class Part:
    """A module, and where it stands in the model.

    Attributes:
        module: The inert record.
        place: Dotted, from the model's root: ``model.9.cv2``.
        source: The checkpoint's name.
        record: Notes what is asked for; all parts of one tree share it. See `yoloship.graph.consumed`.
    """

    module: Module
    place: str
    source: str
    record: Consumed = field(default_factory=Consumed, repr=False, compare=False)

    def error(
        self, problem: str, *, expected: str | None = None, got: object = None, hint: str | None = None
    ) -> GraphError:
        """A refusal that names this part."""
        return GraphError(
            problem,
            subject=f"{self.source}: {self.place or 'the model'} ({_short(self.module.class_path, 120)})",
            expected=expected,
            got=None if got is None else _short(got),
            hint=hint,
        )

    @property
    def torch_name(self) -> str | None:
        """The class name of one of torch's plain layers, None for others: ``torch.nn.qat`` has a Conv2d as well."""
        return self.module.class_name if self.module.class_path.startswith("torch.nn.modules.") else None

    # Children.

    def optional_child(self, name: str) -> Part | None:
        """The submodule of that name, None if there is none."""
        self.record.note(self.module, "child", name)
        child = self.module.children.get(name)
        if child is None:
            return None
        if not isinstance(child, Module):
            raise self.error(f"child {name!r} is not a module", got=type(child).__name__)
        return Part(child, f"{self.place}.{name}" if self.place else name, self.source, self.record)

    def child(self, name: str) -> Part:
        """The submodule of that name."""
        part = self.optional_child(name)
        if part is None:
            raise self.error(f"has no submodule {name!r}")
        return part

    def parts(self) -> tuple[Part, ...]:
        """All submodules of one of torch's plain containers, in their order."""
        if self.torch_name not in _CONTAINERS:
            raise self.error("is not supported in this place", expected="torch.nn.Sequential or ModuleList")
        return tuple(self.child(name) for name in self.module.children)

    def last(self) -> Part:
        """The last submodule, this part itself if it has none."""
        names = [name for name, child in self.module.children.items() if child is not None]
        return self.child(names[-1]) if names else self

    # Plain attributes.

    def value(self, name: str) -> Value:
        """An attribute whatever its type."""
        if name not in self.module.attributes:
            raise self.error(f"has no attribute {name!r}")
        return self.optional_value(name)

    def optional_value(self, name: str) -> Value:
        """An attribute whatever its type, None where there is none."""
        self.record.note(self.module, "attribute", name)
        return self.module.attributes.get(name)

    def has(self, name: str) -> bool:
        """Whether there is such an attribute, None not counted."""
        return self.optional_value(name) is not None

    def integer(self, name: str, low: int = 0, high: int = MAX_EXTENT) -> int:
        """An integer attribute within bounds."""
        value = self.value(name)
        if not _is_int(value, low, high):
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
        """An attribute of `count` integers; a single one stands for all, as in torch."""
        value = self.value(name)
        if _is_int(value, low, MAX_EXTENT):
            return (value,) * count
        if isinstance(value, tuple | list) and len(value) == count:
            fitting = tuple(one for one in value if _is_int(one, low, MAX_EXTENT))
            if len(fitting) == count:
                return fitting
        raise self.error(f"bad {name!r}", expected=f"{count} integers from {low} to {MAX_EXTENT}", got=value)

    def pair(self, name: str, low: int = 0) -> tuple[int, int]:
        """(vertical, horizontal), as torch's layers have them."""
        first, second = self.integers(name, 2, low)
        return first, second

    def require(self, name: str, *allowed: Value) -> None:
        """Refuse any value of an attribute that this builder does not know how to write.

        One that is missing is refused as well, unless None is allowed.
        """
        value = self.optional_value(name)
        if not any(type(value) is type(choice) and value == choice for choice in allowed):
            expected = " or ".join(map(repr, allowed))
            raise self.error(f"{name} is not supported with this value", expected=expected, got=repr(value))

    # Tensors.

    def optional_tensor(self, name: str) -> Tensor | None:
        """A parameter or buffer, None if there is none."""
        self.record.note(self.module, "tensor", name)
        tensor = self.module.parameters.get(name)
        if tensor is None:
            tensor = self.module.buffers.get(name)
        if tensor is None:
            return None
        return self.checked(name, tensor)

    def checked(self, name: str, tensor: object) -> Tensor:
        """A tensor of a size that may be taken into memory."""
        if not isinstance(tensor, Tensor):
            raise self.error(f"{name!r} is not a tensor", got=type(tensor).__name__)
        if math.prod(tensor.shape) > MAX_ELEMENTS:
            raise self.error(f"{name!r} is too large", expected=f"at most {MAX_ELEMENTS} elements", got=tensor.shape)
        return tensor

    def optional_array(self, name: str, *shape: int | None) -> npt.NDArray[np.float64] | None:
        """A parameter or buffer as a float64 array that the caller owns, None if there is none.

        Args:
            name: Of the parameter or buffer.
            shape: What it must have; None for any extent of at least one.
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
        array = tensor.float64()
        if not np.isfinite(array).all():
            raise self.error(f"{name!r} holds values that are not finite", hint="the training has diverged")
        return array

    def array(self, name: str, *shape: int | None) -> npt.NDArray[np.float64]:
        """A parameter or buffer that must be there; see `optional_array`."""
        array = self.optional_array(name, *shape)
        if array is None:
            raise self.error(f"has no tensor {name!r}")
        return array


def _is_int(value: object, low: int, high: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the floats
        return False


def _short(value: object, limit: int = 60) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
