"""Where a graph's constants are while it is built: in memory, or in a temporary file that needs next to none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


class Constants(Protocol):
    """Arrays by name, in the order in which they came."""

    def add(self, name: str, values: Array) -> None:
        """Keep an array under a new name; the caller gives it away."""

    def mapping(self) -> Mapping[str, Array]:
        """All of them, by name; not to be written to."""


class InMemory:
    """Keeps the arrays as they are."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def add(self, name: str, values: Array) -> None:
        """See `Constants`."""
        self._arrays[name] = values

    def mapping(self) -> Mapping[str, Array]:
        """See `Constants`."""
        return self._arrays


class ShapesOnly(InMemory):
    """Keeps shapes and element types: arrays of zeros that all lie in one element. For who only counts."""

    def add(self, name: str, values: Array) -> None:
        """See `Constants`."""
        super().add(name, np.broadcast_to(np.zeros((), values.dtype), values.shape))


class InFile(Mapping[str, Array]):
    """Keeps the arrays' bytes in a file, one after the other, and reads each back when it is asked for.

    Args:
        file: Open for writing and reading, empty. The caller closes it, after the last array was asked for.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[str, tuple[int, np.dtype[np.generic], tuple[int, ...]]] = {}
        self._end = 0

    def add(self, name: str, values: Array) -> None:
        """See `Constants`."""
        self._file.seek(self._end)
        self._file.write(raw_bytes(values))
        self._places[name] = (self._end, values.dtype, values.shape)
        self._end += values.nbytes

    def mapping(self) -> Mapping[str, Array]:
        """See `Constants`."""
        return self

    def __getitem__(self, name: str) -> Array:
        start, dtype, shape = self._places[name]
        count = int(np.prod(shape, dtype=np.int64))
        self._file.seek(start)
        return np.frombuffer(self._file.read(count * dtype.itemsize), dtype).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def raw_bytes(values: Array) -> memoryview:
    """The bytes of an array in C order; not a copy if they are in that order already."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.view(np.uint8).data
