"""The two containers that torch writes: a zip file since 1.6, a sequence of pickles before.

We have our own reader for zip files, because it must refuse members that overlap or occur twice, a local header that
contradicts the directory, encryption, and sizes that the file cannot hold. A member is read only when somebody asks for
it.

The sequence of pickles is a magic number, the protocol version, facts about the system, the object, and the list of
storage keys. Each storage follows as its number of elements (int64) and its bytes.

Sources: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (end records)
and 4.5.3 (zip64); files that torch 2.13 writes with its old format switched on, such as
`v7-yolov5n-legacyformat.pt`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yoloship.checkpoint.machine import Machine
from yoloship.checkpoint.records import NUMPY_DTYPES, DeflatedPiece, PlainPiece
from yoloship.errors import CheckpointError
from yoloship.kinds import TORCH_LEGACY_MAGIC, ZIP_MAGIC

if TYPE_CHECKING:
    from mmap import mmap

    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.rebuild import StorageTable
    from yoloship.checkpoint.records import Piece


_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_STORED, _DEFLATED = 0, 8
_MAX_COMMENT = 65535
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_AGAIN = "the file is cut short or damaged; copy or download it again"
_VERSION = 1001


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    flags: int
    method: int
    crc: int
    packed_bytes: int
    nbytes: int
    header: int


class ZipContainer:
    """The members of a zip file, found by its directory.

    Args:
        data: The mapped file, or its bytes.
        subject: For messages.
        limits: Bounds on the directory and on compressed members.

    Raises:
        CheckpointError: it is not a zip file, or cannot be read safely.
    """

    def __init__(self, data: bytes | mmap, subject: str, limits: Limits) -> None:
        self._data = data
        self._subject = subject
        self._limits = limits
        start, end, count = self._find_directory()
        self._pieces = self._locate(self._read_directory(start, end, count), start)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all members, in the directory's order."""
        return tuple(self._pieces)

    @property
    def nbytes(self) -> int:
        """The total size of all members, after inflating compressed ones."""
        return sum(piece.nbytes for piece in self._pieces.values())

    def get(self, name: str) -> Piece | None:
        """The bytes of a member; None if there is none of that name."""
        return self._pieces.get(name)

    def _error(self, problem: str, hint: str | None = _AGAIN) -> CheckpointError:
        return CheckpointError(problem, subject=self._subject, hint=hint)

    def _find_directory(self) -> tuple[int, int, int]:
        """The position of the directory, the position after it, and how many members it lists."""
        size = len(self._data)
        tail_start = max(0, size - _END.size - _MAX_COMMENT)
        tail = self._data[tail_start:size]
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) - at < _END.size:
            raise self._error("zip without its directory at the end")
        _, disk, first_disk, here, count, nbytes, start, _ = _END.unpack_from(tail, at)
        end = tail_start + at
        if _FULL32 in (nbytes, start) or count == _FULL16:
            return self._find_directory64(end)
        if disk or first_disk or here != count:
            raise self._error("zip in several parts")
        return self._checked_directory(start, nbytes, count, end)

    def _find_directory64(self, end: int) -> tuple[int, int, int]:
        at = end - _END64_LOCATOR.size
        if at < 0:
            raise self._error("zip64 without its end record")
        mark, _, start64, _ = _END64_LOCATOR.unpack(self._data[at:end])
        if mark != b"PK\x06\x07" or start64 > at - _END64.size:
            raise self._error("zip64 without its end record")
        fields = _END64.unpack(self._data[start64 : start64 + _END64.size])
        mark, _, _, _, disk, first_disk, here, count, nbytes, start = fields
        if mark != b"PK\x06\x06" or disk or first_disk or here != count:
            raise self._error("zip64 with a damaged end record")
        return self._checked_directory(start, nbytes, count, start64)

    def _checked_directory(self, start: int, nbytes: int, count: int, behind: int) -> tuple[int, int, int]:
        if start + nbytes > behind:
            raise self._error("zip whose directory lies outside the file")
        if nbytes > self._limits.directory_bytes or count > self._limits.members:
            raise self._error(f"zip of {count} members is over the limit of {self._limits.members}", None)
        return start, start + nbytes, count

    def _read_directory(self, start: int, end: int, count: int) -> list[_Member]:
        directory = self._data[start:end]
        members: list[_Member] = []
        names: set[str] = set()
        at = 0
        for _ in range(count):
            if len(directory) - at < _CENTRAL.size:
                raise self._error("zip with a damaged directory")
            fields = _CENTRAL.unpack_from(directory, at)
            mark, _, _, flags, method, _, _, crc, packed, nbytes, name_len, extra_len, comment_len = fields[:13]
            header = fields[16]
            name_at = at + _CENTRAL.size
            at = name_at + name_len + extra_len + comment_len
            if mark != b"PK\x01\x02" or at > len(directory):
                raise self._error("zip with a damaged directory")
            name = self._name(directory[name_at : name_at + name_len])
            extra = directory[name_at + name_len : name_at + name_len + extra_len]
            nbytes, packed, header = self._zip64(extra, nbytes, packed, header)
            if name in names:
                raise self._error(f"zip with two members named {name!r}", None)
            names.add(name)
            members.append(_Member(name, flags, method, crc, packed, nbytes, header))
        return members

    def _name(self, raw: bytes) -> str:
        if len(raw) > self._limits.name_chars:
            raise self._error("zip with an overlong member name", None)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("cp437")  # in this encoding every byte is a character

    def _zip64(self, extra: bytes, nbytes: int, packed: int, header: int) -> tuple[int, int, int]:
        """Replace fields that hold the largest value by the 64-bit ones of the extra field, which are in this order."""
        values = [nbytes, packed, header]
        if _FULL32 not in values:
            return nbytes, packed, header
        at = 0
        while len(extra) - at >= 4:
            tag, length = struct.unpack_from("<2H", extra, at)
            body = extra[at + 4 : at + 4 + length]
            at += 4 + length
            if tag != 1:
                continue
            for index, value in enumerate(values):
                if value == _FULL32:
                    if len(body) < 8:
                        raise self._error("zip64 with a damaged directory")
                    values[index] = int.from_bytes(body[:8], "little")
                    body = body[8:]
            return values[0], values[1], values[2]
        return nbytes, packed, header

    def _locate(self, members: list[_Member], directory: int) -> dict[str, Piece]:
        """Check every member against its local header and its neighbours."""
        pieces: dict[str, Piece] = {}
        inflated = 0
        limit = self._limits.inflated_bytes + self._limits.inflated_factor * len(self._data)
        free_from = 0
        starts = {member.name: member for member in sorted(members, key=lambda member: member.header)}
        for member in starts.values():
            if member.header < free_from:
                raise self._error(f"zip whose members overlap at {member.name!r}", None)
            start = self._data_start(member, directory)
            free_from = start + member.packed_bytes
            if free_from > directory:
                raise self._error(f"zip whose member {member.name!r} reaches outside the file")
            subject = f"{self._subject}: {member.name}"
            if member.method == _STORED:
                if member.packed_bytes != member.nbytes:
                    raise self._error(f"zip whose member {member.name!r} has two sizes", None)
                pieces[member.name] = PlainPiece(self._data, start, member.nbytes, crc=member.crc, subject=subject)
                continue
            inflated += member.nbytes
            if inflated > limit:
                raise self._error(f"zip whose compressed members claim more than {limit} bytes", None)
            packed = PlainPiece(self._data, start, member.packed_bytes, crc=None, subject=subject)
            pieces[member.name] = DeflatedPiece(packed, member.nbytes, crc=member.crc, subject=subject)
        return {member.name: pieces[member.name] for member in members}

    def _data_start(self, member: _Member, directory: int) -> int:
        if member.flags & 0x41:
            raise self._error(f"zip whose member {member.name!r} is encrypted", "unpack it with its password")
        if member.method not in (_STORED, _DEFLATED):
            raise self._error(
                f"zip whose member {member.name!r} is packed by method {member.method}", "save it with torch.save"
            )
        header = self._data[member.header : member.header + _LOCAL.size] if member.header < directory else b""
        if len(header) < _LOCAL.size or not header.startswith(ZIP_MAGIC):
            raise self._error(f"zip whose member {member.name!r} is not where the directory says")
        fields: tuple[int, ...] = _LOCAL.unpack(header)[2:]
        flags, method, _, _, crc, packed, nbytes, name_len, extra_len = fields
        name_at = member.header + _LOCAL.size
        name = self._name(self._data[name_at : name_at + name_len])
        same = name == member.name and method == member.method
        if same and not flags & 8:  # bit 3: sizes and checksum follow the data, here they are 0
            same = crc == member.crc and packed in (member.packed_bytes, _FULL32) and nbytes in (member.nbytes, _FULL32)
        if not same:
            raise self._error(f"zip whose member {member.name!r} contradicts the directory", None)
        return name_at + name_len + extra_len


def read_legacy(data: bytes | mmap, subject: str, limits: Limits, storages: StorageTable) -> object:
    """Read the object of a legacy file and give each of its storages its bytes.

    Args:
        data: The mapped file, or its bytes. It begins with a pickle of `TORCH_LEGACY_MAGIC`.
        subject: The file's name, for messages.
        limits: Bounds on each pickle.
        storages: Collects the storages that the object mentions. This function gives them their bytes.

    Returns:
        The object.

    Raises:
        CheckpointError: the file is damaged, asks for too much, or was written on a big-endian machine.
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
