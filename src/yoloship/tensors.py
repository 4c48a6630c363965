"""What a tensor at a model's edge looks like: its name, element type and shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from yoloship.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DType: TypeAlias = Literal[
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "float8_e4m3fn"
]
"""Element types by their usual names; `bfloat16` and `float8_e4m3fn` have no NumPy type."""

DTYPES: frozenset[str] = frozenset(get_args(DType))

Axis: TypeAlias = int | str
"""A fixed extent, or the name of a dynamic one."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: As the model's file has it.
        dtype: Element type.
        shape: Extents, outermost first; a string names a dynamic one, so two axes of one name are equal.
    """

    name: str
    dtype: DType
    shape: tuple[Axis, ...]

    def check(self, array: npt.NDArray[np.generic]) -> None:
        """Refuse an array that this input cannot take.

        Args:
            array: Any shape and dtype; read only.

        Raises:
            InputError: the dtype, the rank or a fixed extent differs.
        """
        if array.dtype.name != self.dtype:
            raise InputError("wrong element type", subject=self.name, expected=self.dtype, got=array.dtype.name)
        fits = len(array.shape) == len(self.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(self.shape, array.shape, strict=True)
        )
        if not fits:
            raise InputError("wrong shape", subject=self.name, expected=self.shape_text, got=str(tuple(array.shape)))

    @property
    def shape_text(self) -> str:
        """The shape for people: ``(batch, 3, 640, 640)``."""
        return f"({', '.join(map(str, self.shape))})"

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{self.shape_text}"
