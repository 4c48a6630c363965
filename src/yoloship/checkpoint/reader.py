"""`read_checkpoint`: from a file's bytes to a `Checkpoint`."""

from __future__ import annotations

import errno
import hashlib
import mmap
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship._util.reading import file_sha256, open_regular
from yoloship.checkpoint.containers import ZipContainer, read_legacy
from yoloship.checkpoint.freeze import Finisher
from yoloship.checkpoint.limits import LIMITS, Budget
from yoloship.checkpoint.machine import Machine
from yoloship.checkpoint.rebuild import StorageTable
from yoloship.checkpoint.records import Checkpoint, Opaque
from yoloship.checkpoint.traits import read_class_names, read_strides, read_task
from yoloship.checkpoint.wrappers import MODELS, ForeignNames, choose
from yoloship.errors import CheckpointError, InputError
from yoloship.kinds import HEAD_BYTES, ZIP_MAGIC, kind_of, wrong_kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.records import Module, Value
    from yoloship.checkpoint.wrappers import Chosen


@dataclass(frozen=True, slots=True)
class Source:
    """A file's bytes.

    The file is mapped until the last record or array that refers to it is gone. So a checkpoint costs address space,
    and memory only for the parts that are read. While the file is mapped, Windows does not let it be deleted, and a
    program that shortens it in place crashes its readers. Writing a new file and renaming it, as this project does, is
    safe. The mapping is read-only, so threads and forked processes may share it.

    Attributes:
        name: For messages: the file's name, or ``checkpoint`` for bytes.
        data: The bytes.
    """

    name: str
    data: bytes | mmap.mmap
    _file: FileIO | None

    def sha256(self) -> str:
        """The SHA-256 of the bytes, in lower-case hex.

        Files are read in chunks, not through the mapping, so that hashing does not add to the memory of this process.
        """
        if self._file is None:
            return hashlib.sha256(self.data).hexdigest()
        self._file.seek(0)
        return file_sha256(self._file)


@contextmanager
def open_source(source: str | Path | bytes, limits: Limits) -> Iterator[Source]:
    """Map a file, or take bytes as they are. Afterwards the file is closed, but the mapping is not.

    Raises:
        CheckpointError: the file does not exist, is too large, or cannot be read.
    """
    if isinstance(source, bytes):
        yield Source("checkpoint", source, None)
        return
    path = Path(source)
    with open_regular(path, error=CheckpointError, wanted="a checkpoint", limit_bytes=limits.file_bytes) as file:
        yield Source(path.name, _mapped(file), file)


def _mapped(file: FileIO) -> bytes | mmap.mmap:
    if file.seek(0, 2) == 0:
        return b""  # an empty file cannot be mapped
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        if error.errno != errno.ENODEV:  # some network file systems cannot map files
            raise
        file.seek(0)
        return file.readall()


_NOT_METADATA = frozenset({*MODELS, "optimizer"})


def read_checkpoint(source: Path | str | bytes, *, aliases: Mapping[str, str] | None = None) -> Checkpoint:
    """Read a trained checkpoint as data: nothing in it is imported, called or run.

    Args:
        source: A path, or the bytes of a file. A file is memory-mapped, and a tensor is read when you ask for it. The
            file stays mapped as long as the checkpoint, one of its records or one of their arrays exists.
        aliases: Class paths of a fork, each with the equivalent official class path, which the modules of the result
            then have.

    Returns:
        The model and its metadata. Both of torch's container formats are read: the zip file of torch 1.6 and later, and
        the older one.

    Raises:
        CheckpointError: the bytes are not a valid checkpoint, or the model has no module for an alias.
        InputError: there is no such file, or the aliases are not texts.
    """
    given: object = aliases
    if given is not None and not (isinstance(given, Mapping) and all(map(_is_pair, given.items()))):
        raise InputError(
            "wrong type", subject="aliases", expected="a mapping from class paths to class paths", got=repr(given)[:60]
        )
    return read_with_limits(source, LIMITS, aliases=aliases)


def _is_pair(alias: tuple[object, object]) -> bool:
    return all(isinstance(path, str) for path in alias)


def read_with_limits(
    source: Path | str | bytes, limits: Limits, *, aliases: Mapping[str, str] | None = None
) -> Checkpoint:
    """`read_checkpoint` with limits of the caller's."""
    with open_source(source, limits) as opened:
        content, held_bytes = _read_content(opened, limits)
        budget = Budget(limits, len(opened.data), held_bytes, opened.name)
        finisher = Finisher(opened.name, budget, aliases or {})
        chosen = choose(content, opened.name)
        module = finisher.module(chosen.draft, chosen.key)
        _check_aliases(aliases or {}, finisher, module, opened.name)
        task = read_task(module, opened.name)
        metadata, ignored = _others(chosen, finisher)
        names = read_class_names(module, [_names_value(finisher, value) for value in chosen.names], limits)
        return Checkpoint(
            name=opened.name,
            module=module,
            source_key=chosen.key,
            task=task,
            class_names=names.names,
            class_names_problem=names.problem,
            strides=read_strides(module, task, opened.name),
            metadata=metadata,
            aliases=MappingProxyType(finisher.used_aliases),
            ignored=ignored,
            sha256=opened.sha256(),  # last, so that a refused file is not hashed
        )


def _others(chosen: Chosen, finisher: Finisher) -> tuple[Mapping[str, Value], Mapping[str, tuple[str, ...]]]:
    """The file's content beside the network: plain data, and the keys that are left out."""
    metadata: dict[str, Value] = {}
    ignored: dict[str, tuple[str, ...]] = {}
    foreign = ForeignNames()
    foreign.of(chosen.draft)  # so that names in the model are not reported again
    for key, entry in chosen.others.items():
        if not isinstance(key, str) or key == chosen.key or (entry is None and key in _NOT_METADATA):
            continue
        value = None if key in _NOT_METADATA else finisher.plain(entry, key)
        if value is None and entry is not None:
            ignored[key] = foreign.of(entry)
        else:
            metadata[key] = value
    return MappingProxyType(metadata), MappingProxyType(ignored)


def _check_aliases(aliases: Mapping[str, str], finisher: Finisher, module: Module, subject: str) -> None:
    unused = next((path for path in aliases if path not in finisher.used_aliases), None)
    if unused is None:
        return
    last = unused.rpartition(".")[2]
    paths = sorted({part.class_path for _, part in module.walk()} - set(aliases.values()))
    near = [path for path in paths if path.rpartition(".")[2] == last] or [
        path for path in paths if not path.startswith("torch.nn.")
    ]
    raise CheckpointError(
        f"has no module of the class {unused[:120]!r}, for which there is an alias",
        subject=subject,
        hint=f"its classes are {', '.join(near[:12])[:600]}",
    )


def _read_content(opened: Source, limits: Limits) -> tuple[object, int]:
    """The object in the pickle, and the file's size in bytes after unpacking."""
    head = bytes(opened.data[:HEAD_BYTES])
    kind = kind_of(head, name=opened.name)
    if kind != "checkpoint":
        raise wrong_kind(kind, "checkpoint", subject=opened.name, error=CheckpointError, start=head)
    if head.startswith(ZIP_MAGIC):
        return _read_zip(opened, limits)
    return read_legacy(opened.data, opened.name, limits, StorageTable(opened.name, None)), len(opened.data)


def _read_zip(opened: Source, limits: Limits) -> tuple[object, int]:
    container = ZipContainer(opened.data, opened.name, limits)
    roots = [name.removesuffix("data.pkl") for name in container.names if f"/{name}".endswith("/data.pkl")]
    if len(roots) > 1:
        raise CheckpointError(f"zip with {len(roots)} data.pkl", subject=opened.name, hint="give one checkpoint")
    if any(name.endswith(("/constants.pkl", ".ptc")) or "/code/" in name for name in container.names):
        raise CheckpointError(
            "is a TorchScript archive, not a checkpoint",
            subject=opened.name,
            hint="give the .pt that it was exported from",
        )
    if not roots:
        raise CheckpointError(
            "is a zip without data.pkl, not a checkpoint", subject=opened.name, hint="if it is packed, unpack it first"
        )
    root = roots[0]
    order = container.get(f"{root}byteorder")
    if order is not None and (order.nbytes > 16 or bytes(order.read()).strip() != b"little"):
        raise CheckpointError(
            "written on a big-endian machine", subject=opened.name, hint="save it again on a little-endian one"
        )
    piece = container.get(f"{root}data.pkl")
    if piece is None or piece.nbytes > limits.pickle_bytes:
        raise CheckpointError(f"its data.pkl is over the limit of {limits.pickle_bytes} bytes", subject=opened.name)
    storages = StorageTable(opened.name, lambda key: container.get(f"{root}data/{key}"))
    return Machine(bytes(piece.read()), 0, limits, opened.name, storages.find).run(), container.nbytes


def _names_value(finisher: Finisher, value: object) -> Value:
    """Class names as plain data. Unreadable names differ from missing ones."""
    plain = finisher.plain(value, "names")
    return Opaque("names") if plain is None and value is not None else plain
