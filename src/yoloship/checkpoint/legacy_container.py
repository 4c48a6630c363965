"""The container that torch wrote before 1.6: five pickles in a row, then the storages one after the other.

The pickles are a magic number, the protocol version, facts of the system, the object, and the list of storage keys.
Each storage is its number of elements (int64) and its bytes.

Source: files that torch 2.13 writes with its old format switched on; `v7-yolov5n-legacyformat.pt` is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.checkpoint.machine import Machine
from yoloship.checkpoint.storages import NUMPY_DTYPES, PlainPiece
from yoloship.errors import CheckpointError
from yoloship.kinds import TORCH_LEGACY_MAGIC

if TYPE_CHECKING:
    from mmap import mmap

    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.persistent import StorageTable

_VERSION = 1001
_AGAIN = "the file is cut short or damaged; copy or download it again"


def read_legacy(data: bytes | mmap, subject: str, limits: Limits, storages: StorageTable) -> object:
    """Read the object of a legacy file and give each of its storages its bytes.

    Args:
        data: The mapped file, or its bytes; begins with a pickle of `TORCH_LEGACY_MAGIC`.
        subject: For messages.
        limits: Bounds on each pickle.
        storages: Gathers the storages that the object mentions; filled and completed here.

    Returns:
        What the object's pickle gives.

    Raises:
        CheckpointError: see `yoloship.checkpoint.read_checkpoint`.
    """
    size = len(data)
    position = 0
    values: list[object] = []
    for find_storage in (None, None, None, storages.find, None):
        machine = Machine(data, position, limits, subject, find_storage)
        values.append(machine.run())
        position = machine.position
    magic, version, system, value, keys = values
    if magic != int.from_bytes(TORCH_LEGACY_MAGIC, "little"):
        raise CheckpointError("legacy format without its magic number", subject=subject, hint=_AGAIN)
    if type(version) is not int or version != _VERSION:
        raise CheckpointError("legacy format of an unknown version", subject=subject, expected=str(_VERSION))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError(
            "written on a big-endian machine", subject=subject, hint="save it again on a little-endian one"
        )
    if not isinstance(keys, list) or not all(type(key) is str for key in keys):
        raise CheckpointError("legacy format whose list of storages is damaged", subject=subject, hint=_AGAIN)
    for key in keys:
        storage = storages.by_key(key)
        if storage is None or storage.piece is not None:
            raise CheckpointError("legacy format that lists a storage which no tensor uses, or twice", subject=subject)
        if size - position < 8:
            raise CheckpointError(f"ends before its storage {key[:40]!r}", subject=subject, hint=_AGAIN)
        length = int.from_bytes(data[position : position + 8], "little", signed=True)
        position += 8
        if length != storage.length:
            raise CheckpointError(
                f"storage {key[:40]!r} has another length than its tensors say",
                subject=subject,
                expected=f"{storage.length} elements",
                got=str(length),
            )
        nbytes = length * NUMPY_DTYPES[storage.dtype].itemsize
        if nbytes > size - position:
            raise CheckpointError(
                f"ends inside its storage {key[:40]!r}",
                subject=subject,
                expected=f"{nbytes} bytes",
                got=str(size - position),
                hint=_AGAIN,
            )
        storages.give(key, PlainPiece(data, position, nbytes, crc=None, subject=subject))
        position += nbytes
    if missing := storages.missing():
        raise CheckpointError(f"has no storage {missing[:40]!r}, which its tensors use", subject=subject, hint=_AGAIN)
    return value
