"""The shapes of the objects in one image: `Masks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


class Masks:
    """One mask for each object, in source pixels.

    Args:
        array: (n, height, width) bool: true where the object is. It becomes read-only.

    Raises:
        InputError: it is another array.
    """

    __slots__ = ("array",)

    def __init__(self, array: npt.NDArray[np.bool_]) -> None:
        if not isinstance(array, np.ndarray) or array.dtype != np.bool_ or array.ndim != 3:
            got = f"{array.dtype}{array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError("wrong array", subject="Masks", expected="bool (n, height, width)", got=got)
        view = array.view()
        view.flags.writeable = False
        self.array: npt.NDArray[np.bool_] = view

    @classmethod
    def concatenate(cls, parts: Sequence[Masks]) -> Masks:
        """The masks of several results of one image, one after the other."""
        return cls(np.concatenate([part.array for part in parts]))

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return self.array.shape[1], self.array.shape[2]

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> Masks:
        """Select objects with a slice, a mask or a list of integers."""
        return Masks(self.array[rows])

    def __eq__(self, other: object) -> bool:
        return np.array_equal(self.array, other.array) if isinstance(other, Masks) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equality is by value, and arrays have no hash

    def __reduce__(self) -> tuple[type[Masks], tuple[Any, ...]]:
        """Make copies and unpickled masks with the constructor, so that their arrays are read-only too."""
        return type(self), (self.array,)
