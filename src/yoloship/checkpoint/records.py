"""What a checkpoint holds, as inert data: storages, tensors, modules, and the tree they form.

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
"""The storage classes that torch.save names, and their element types. An untyped one counts bytes."""

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
"""How NumPy sees each element type in the file, which is little-endian; bfloat16 as bit patterns."""


_DONT_NEED = getattr(mmap, "MADV_DONTNEED", None)
_LEAST_RELEASED = 1 << 16
"""Bytes below which it is not worth a call of the system."""


class Piece(Protocol):
    """A run of bytes in the container."""

    @property
    def nbytes(self) -> int:
        """How many there are, uncompressed."""

    def read(self) -> memoryview:
        """The bytes, read only.

        Raises:
            CheckpointError: they are damaged.
        """

    def release(self) -> None:
        """Let go of the memory that the bytes take, as far as they can be had again at no cost."""


class PlainPiece:
    """Bytes that stand in the file as they are: a view of the mapping, no copy.

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
        """Give the mapped pages back to the system, which reads them again when they are asked for.

        Without this a program that goes through the weights once would in the end hold the whole file.
        """
        if isinstance(self._buffer, mmap.mmap) and _DONT_NEED is not None and self._nbytes >= _LEAST_RELEASED:
            start = self._start - self._start % mmap.PAGESIZE
            self._buffer.madvise(_DONT_NEED, start, self._start + self._nbytes - start)


class DeflatedPiece:
    """Compressed bytes; inflated at the first read, never beyond the size that the directory claims."""

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
                    "compressed data has another size than the directory says",
                    subject=self._subject,
                    expected=f"{self._nbytes} bytes",
                    got=got,
                )
            check_crc(memoryview(inflated), self._crc, self._subject)
            self._inflated = inflated
        return memoryview(self._inflated)

    def release(self) -> None:
        """Nothing: to inflate again costs time, and many tensors may lie in one piece."""


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
    """One storage of the file. Satisfies `yoloship.checkpoint.records.Storage`.

    It holds a reference to the mapping (through its piece); arrays that `elements` returns hold one too, so the file
    stays mapped until the last of them has gone, and nobody has to close anything.
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
            CheckpointError: the bytes are not there, or are damaged.
        """
        if self.length == 0:
            return np.empty(0, NUMPY_DTYPES[self.dtype])
        if self.piece is None:
            raise CheckpointError("the file does not hold this storage", subject=self.subject)
        array = np.frombuffer(self.piece.read(), NUMPY_DTYPES[self.dtype], self.length)
        array.flags.writeable = False
        return array

    def release(self) -> None:
        """See `Piece.release`."""
        if self.piece is not None:
            self.piece.release()

    def retyped(self, dtype: DType) -> LazyStorage:
        """The same bytes as elements of another type; what does not fill an element is left out."""
        nbytes = self.length * NUMPY_DTYPES[self.dtype].itemsize
        return LazyStorage(dtype, nbytes // NUMPY_DTYPES[dtype].itemsize, self.piece, subject=self.subject)


Value: TypeAlias = (
    "bool | int | float | str | bytes | npt.NDArray[np.generic] | Tensor | Opaque | tuple[Value, ...] | list[Value] "
    "| dict[Value, Value] | frozenset[Value] | Module | None"
)
"""Whatever an attribute or a metadata field can be once it has been read."""


class Storage(Protocol):
    """Where a tensor's bytes are; they are read when asked for, not before."""

    @property
    def dtype(self) -> DType:
        """Element type."""

    @property
    def length(self) -> int:
        """In elements."""

    def elements(self) -> npt.NDArray[np.generic]:
        """(length,) read-only array over the bytes; bfloat16 comes as uint16 bit patterns.

        Raises:
            CheckpointError: the bytes are not there, or are damaged.
        """

    def release(self) -> None:
        """Say that the bytes are not needed for now; arrays that `elements` gave stay valid."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A strided view of a storage. Bounds were checked against the storage when it was read.

    Attributes:
        storage: Possibly shared with other tensors.
        offset: First element, in elements.
        shape: Extents, outermost first.
        strides: In elements.
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
        """The elements in their own type, bfloat16 widened to float32. Read only; may be a view of the file.

        Raises:
            CheckpointError: the storage's bytes are not there, or are damaged.
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
        with np.errstate(invalid="ignore"):  # a signalling NaN is for whoever uses the numbers to find
            copy = np.array(self.numpy(), dtype=np.float64, order="C", copy=True)
        self.storage.release()
        return copy


@dataclass(frozen=True, slots=True)
class Opaque:
    """A harmless object of no use here (a device, a dtype, a path): its class path, and what it was made from."""

    class_path: str
    arguments: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the saved network.

    Attributes:
        class_path: As the file has it: ``models.common.C3``, ``torch.nn.modules.conv.Conv2d``.
        attributes: Plain ones: ``stride``, ``groups``, ``f``, ``i``, ``nc``, …
        parameters: By name; None if the module has registered none (a convolution without bias).
        buffers: By name: running statistics, anchors.
        children: Submodules by name, in their order.
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
        """This module and all below it, depth first, each with its dotted place (``model.9.cv2.conv``)."""
        yield place, self
        for name, child in self.children.items():
            if child is not None:
                yield from child.walk(f"{place}.{name}" if place else name)

    def parameter_count(self) -> int:
        """Elements in all parameters below; a parameter shared by two modules counts once."""
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
    """A trained model as its file holds it.

    Attributes:
        name: The file's name, for messages.
        sha256: Of the file's bytes, lower-case hex.
        module: The whole model, out of whatever was wrapped around it: ``ema`` if the file has one, else ``model``.
        source_key: Which of the two it was.
        task: By the class of the model, or of its last layer in older releases.
        class_names: By class id; empty if `class_names_problem` says why.
        strides: Model pixels per cell of each of the head's levels, finest first.
        metadata: Everything else of the file's top level that is plain data: epoch, date, options.
        class_names_problem: Why the file's own class names cannot be used; None if they can.
        aliases: Class paths that the caller said are others, as far as the model has them.
        ignored: Keys of the file's top level that nobody reads, each with the class names below it that are not in
            the allow-table.
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
        """The class names, for a model of that many classes.

        Raises:
            CheckpointError: the file's own cannot be used, or they are too many or too few.
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
            class_names: By class id. Whether they are as many as the network's classes is for `names_for`.

        Raises:
            InputError: they are not usable names.
        """
        names = checked_class_names(class_names, None, subject=self.name)
        return replace(self, class_names=names, class_names_problem=None)
