"""The content of a checkpoint as inert data: storages, tensors, modules, and the tree of modules.

Nothing here is a class of torch or of the training repository, and nothing here can run one. A class path such as
``models.common.C3`` is a string that the graph builder looks up in its own table.
"""

from __future__ import annotations

import mmap
import zlib
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from yoloship._util.text import counted
from yoloship.errors import CheckpointError
from yoloship.model import checked_class_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from yoloship.model import DType, Task


STORAGE_DTYPES: Mapping[str, DType] = MappingProxyType(
    {
        "torch.FloatStorage": "float32",
        "torch.HalfStorage": "float16",
        "torch.DoubleStorage": "float64",
        "torch.BFloat16Storage": "bfloat16",
        "torch.LongStorage": "int64",
        "torch.IntStorage": "int32",
        "torch.ShortStorage": "int16",
        "torch.CharStorage": "int8",
        "torch.ByteStorage": "uint8",
        "torch.BoolStorage": "bool",
        "torch.storage.UntypedStorage": "uint8",
        "torch.UntypedStorage": "uint8",
    }
)
"""The storage classes that torch.save names, and their element types. The length of an untyped storage is in bytes."""

NUMPY_DTYPES: Mapping[DType, np.dtype[np.generic]] = MappingProxyType(
    {
        "bool": np.dtype("?"),
        "uint8": np.dtype("u1"),
        "int8": np.dtype("i1"),
        "int16": np.dtype("<i2"),
        "int32": np.dtype("<i4"),
        "int64": np.dtype("<i8"),
        "float16": np.dtype("<f2"),
        "bfloat16": np.dtype("<u2"),
        "float32": np.dtype("<f4"),
        "float64": np.dtype("<f8"),
    }
)
"""NumPy's type for each element type in the file, which is little-endian. bfloat16 is read as bit patterns."""


_DONT_NEED = getattr(mmap, "MADV_DONTNEED", None)
_LEAST_RELEASED = 1 << 16
"""Releasing fewer bytes than this is not worth a system call."""


class Piece(Protocol):
    """A run of bytes in the container."""

    @property
    def nbytes(self) -> int:
        """Number of bytes, uncompressed."""

    def read(self) -> memoryview:
        """The bytes, read only.

        Raises:
            CheckpointError: they are damaged.
        """

    def release(self) -> None:
        """Free the memory of the bytes, if they can be read again at no cost."""


class PlainPiece:
    """Uncompressed bytes of the file: a view of the mapping, not a copy.

    Args:
        buffer: The mapped file, or its bytes.
        start: Position of the first byte; the caller has checked the bounds.
        nbytes: Length.
        crc: CRC-32 of the bytes if the container has one; checked at the first read.
        subject: For messages.
    """

    __slots__ = ("_buffer", "_crc", "_nbytes", "_start", "_subject")

    def __init__(self, buffer: bytes | mmap.mmap, start: int, nbytes: int, *, crc: int | None, subject: str) -> None:
        self._buffer = buffer
        self._start = start
        self._nbytes = nbytes
        self._crc = crc
        self._subject = subject

    @property
    def nbytes(self) -> int:
        """Length, uncompressed."""
        return self._nbytes

    def read(self) -> memoryview:
        """A view of the file."""
        view = memoryview(self._buffer)[self._start : self._start + self._nbytes]
        crc = self._crc
        if crc is not None:
            check_crc(view, crc, self._subject)
            self._crc = None  # once is enough; two threads that both check do no harm
        return view

    def release(self) -> None:
        """Give the mapped pages back to the system, which reads them again when they are needed.

        Without this, a program that goes through all weights once would hold the whole file in memory at the end.
        """
        if isinstance(self._buffer, mmap.mmap) and _DONT_NEED is not None and self._nbytes >= _LEAST_RELEASED:
            start = self._start - self._start % mmap.PAGESIZE
            self._buffer.madvise(_DONT_NEED, start, self._start + self._nbytes - start)


class DeflatedPiece:
    """Compressed bytes. They are inflated at the first read, and never beyond the size that the directory claims."""

    __slots__ = ("_compressed", "_crc", "_inflated", "_nbytes", "_subject")

    def __init__(self, compressed: PlainPiece, nbytes: int, *, crc: int, subject: str) -> None:
        self._compressed = compressed
        self._nbytes = nbytes
        self._crc = crc
        self._subject = subject
        self._inflated: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Length, uncompressed."""
        return self._nbytes

    def read(self) -> memoryview:
        """A view of the inflated bytes, which are kept."""
        if self._inflated is None:
            machine = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                inflated = machine.decompress(self._compressed.read(), self._nbytes + 1)
            except zlib.error as error:
                raise CheckpointError(f"compressed data is damaged: {error}", subject=self._subject) from error
            if len(inflated) != self._nbytes:
                got = f"{len(inflated)} bytes" if len(inflated) < self._nbytes else "more"
                raise CheckpointError(
                    "compressed data has a different size than the directory says",
                    subject=self._subject,
                    expected=f"{self._nbytes} bytes",
                    got=got,
                )
            check_crc(memoryview(inflated), self._crc, self._subject)
            self._inflated = inflated
        return memoryview(self._inflated)

    def release(self) -> None:
        """Do nothing, because inflating again takes time, and one piece may hold many tensors."""


def check_crc(view: memoryview, crc: int, subject: str) -> None:
    """Compare a member's bytes with the checksum that the container has for it.

    Raises:
        CheckpointError: they differ.
    """
    found = zlib.crc32(view)
    if found != crc:
        raise CheckpointError(
            "bytes are damaged",
            subject=subject,
            expected=f"CRC-32 {crc:08x}",
            got=f"{found:08x}",
            hint="copy or download the file again",
        )


class LazyStorage:
    """One storage of the file; a `Storage`.

    It holds a reference to the mapping, through its piece. So do the arrays that `elements` returns. The file stays
    mapped until the last of them is gone, and nobody has to close anything.
    """

    __slots__ = ("dtype", "length", "piece", "subject")

    def __init__(self, dtype: DType, length: int, piece: Piece | None, *, subject: str) -> None:
        self.dtype: DType = dtype
        self.length = length
        self.piece = piece
        self.subject = subject

    def elements(self) -> npt.NDArray[np.generic]:
        """(length,) read-only view of the file, bfloat16 as uint16 bit patterns.

        Raises:
            CheckpointError: the bytes are missing or damaged.
        """
        if self.length == 0:
            return np.empty(0, NUMPY_DTYPES[self.dtype])
        if self.piece is None:
            raise CheckpointError("the file does not hold this storage", subject=self.subject)
        array = np.frombuffer(self.piece.read(), NUMPY_DTYPES[self.dtype], self.length)
        array.flags.writeable = False
        return array

    def release(self) -> None:
        """Free the memory of the bytes; see `Piece.release`."""
        if self.piece is not None:
            self.piece.release()

    def retyped(self, dtype: DType) -> LazyStorage:
        """The same bytes as elements of another type, without bytes at the end that do not fill an element."""
        nbytes = self.length * NUMPY_DTYPES[self.dtype].itemsize
        return LazyStorage(dtype, nbytes // NUMPY_DTYPES[dtype].itemsize, self.piece, subject=self.subject)


Value: TypeAlias = (
    "bool | int | float | str | bytes | npt.NDArray[np.generic] | Tensor | Opaque | tuple[Value, ...] | list[Value] "
    "| dict[Value, Value] | frozenset[Value] | Module | None"
)
"""All that an attribute or a metadata field can be after it was read."""


class Storage(Protocol):
    """The place of a tensor's bytes. They are read only when somebody asks for them."""

    @property
    def dtype(self) -> DType:
        """Element type."""

    @property
    def length(self) -> int:
        """Number of elements."""

    def elements(self) -> npt.NDArray[np.generic]:
        """(length,) read-only array over the bytes, bfloat16 as uint16 bit patterns.

        Raises:
            CheckpointError: the bytes are missing or damaged.
        """

    def release(self) -> None:
        """Say that the bytes are not needed for now. Arrays from `elements` stay valid."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A strided view of a storage. It was checked to lie inside the storage when it was read.

    Attributes:
        storage: Possibly shared with other tensors.
        offset: Position of the first element, in elements.
        shape: Extents, outermost first.
        strides: Strides in elements.
        requires_grad: Whether the file says that it was trained.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool = False

    @property
    def dtype(self) -> DType:
        """Element type as stored."""
        return self.storage.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def numpy(self) -> npt.NDArray[np.generic]:
        """The elements in their own type, bfloat16 widened to float32. The array is read-only and may view the file.

        Raises:
            CheckpointError: the storage's bytes are missing or damaged.
        """
        elements = self.storage.elements()
        view = np.lib.stride_tricks.as_strided(
            elements[self.offset :],
            self.shape,
            tuple(stride * elements.itemsize for stride in self.strides),
            writeable=False,
        )
        if self.dtype == "bfloat16":
            wide = np.empty(self.shape, np.uint32)
            np.left_shift(view, 16, out=wide, dtype=np.uint32)
            view = wide.view(np.float32)
            view.flags.writeable = False
        return view

    def float64(self) -> npt.NDArray[np.float64]:
        """The elements as a contiguous float64 copy that the caller owns."""
        with np.errstate(invalid="ignore"):  # users of the numbers check for NaN
            copy = np.array(self.numpy(), dtype=np.float64, order="C", copy=True)
        self.storage.release()
        return copy


@dataclass(frozen=True, slots=True)
class Opaque:
    """A harmless object of no use here (a device, a dtype, a path): its class path and its arguments."""

    class_path: str
    arguments: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the saved network.

    Attributes:
        class_path: The class in the file: ``models.common.C3``, ``torch.nn.modules.conv.Conv2d``.
        attributes: Plain attributes by name: ``stride``, ``groups``, ``f``, ``i``, ``nc``, …
        parameters: Parameters by name; None for one that is registered but empty (the bias of a convolution without
            bias).
        buffers: Buffers by name: running statistics, anchors.
        children: Submodules by name, in order.
    """

    class_path: str
    attributes: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    parameters: Mapping[str, Tensor | None] = field(default_factory=lambda: MappingProxyType({}))
    buffers: Mapping[str, Tensor | None] = field(default_factory=lambda: MappingProxyType({}))
    children: Mapping[str, Module | None] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def class_name(self) -> str:
        """The last part of the class path."""
        return self.class_path.rpartition(".")[2]

    def walk(self, place: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all modules below it, depth first, each with its dotted place (``model.9.cv2.conv``)."""
        yield place, self
        for name, child in self.children.items():
            if child is not None:
                yield from child.walk(f"{place}.{name}" if place else name)

    def parameter_count(self) -> int:
        """Number of elements in all parameters. A parameter that two modules share counts once."""
        seen: set[tuple[int, int]] = set()
        total = 0
        for _, module in self.walk():
            for tensor in module.parameters.values():
                if tensor is not None and (key := (id(tensor.storage), tensor.offset)) not in seen:
                    seen.add(key)
                    total += tensor.size
        return total


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained model, as read from its file.

    Attributes:
        name: The file's name, for messages.
        sha256: SHA-256 of the file's bytes, lower-case hex.
        module: The whole model, without wrappers: ``ema`` if the file has one, else ``model``.
        source_key: The key in the file under which the model was: ``ema`` or ``model``.
        task: The task, known from the class of the model, or of its last layer in older releases.
        class_names: Class names by class id; empty if `class_names_problem` is set.
        strides: Model pixels per cell of each level of the head, finest first.
        metadata: All other plain data at the file's top level: epoch, date, options.
        class_names_problem: Why the file's own class names cannot be used; None if they can.
        aliases: Class paths that the caller said are others, as far as the model has them.
        ignored: Keys at the file's top level that are not read, each with the class names in its content that are not
            in the allow-table.
    """

    name: str
    sha256: str
    module: Module
    source_key: str
    task: Task
    class_names: tuple[str, ...]
    strides: tuple[int, ...]
    metadata: Mapping[str, Value]
    class_names_problem: str | None = None
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def names_for(self, classes: int) -> tuple[str, ...]:
        """The class names, for a model with this many classes.

        Raises:
            CheckpointError: the file's class names cannot be used, or there are too many or too few.
        """
        problem = self.class_names_problem
        if problem is None and len(self.class_names) != classes:
            problem = f"has {counted(len(self.class_names), 'class name')} for {counted(classes, 'class', 'classes')}"
        if problem is not None:
            raise CheckpointError(
                problem,
                subject=self.name,
                hint=f"give the names of its {classes} classes with --names (class_names in Python)",
            )
        return self.class_names

    def with_class_names(self, class_names: Sequence[str]) -> Checkpoint:
        """The same checkpoint with these class names in place of the file's own.

        Args:
            class_names: Class names by class id. `names_for` checks that their number fits the network.

        Raises:
            InputError: a name cannot be used.
        """
        names = checked_class_names(class_names, None, subject=self.name)
        return replace(self, class_names=names, class_names_problem=None)
