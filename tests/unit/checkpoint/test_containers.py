"""The two containers: what the zip reader and the legacy reader refuse, and that nothing is read twice or beyond."""

from __future__ import annotations

import struct
import zipfile

import pytest

from helpers import forge
from yoloship.checkpoint import Checkpoint, read_checkpoint
from yoloship.checkpoint.limits import Limits
from yoloship.checkpoint.reader import read_with_limits
from yoloship.errors import CheckpointError
from yoloship.kinds import TORCH_LEGACY_MAGIC

WHOLE = forge.zip_bytes(forge.checkpoint())
CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def central(name: str, data: bytes = WHOLE) -> int:
    """Where the directory's entry of a member begins."""
    at = data.find(CENTRAL)
    while data[at + 46 : at + 46 + len(name)] != name.encode():
        at = data.index(CENTRAL, at + 4)
    return at


def patched(at: int, form: str, value: int, data: bytes = WHOLE) -> bytes:
    raw = struct.pack(form, value)
    return data[:at] + raw + data[at + len(raw) :]


def field(data: bytes, at: int, form: str) -> int:
    (value,) = struct.unpack_from(form, data, at)
    assert isinstance(value, int)
    return value


def touch(checkpoint: Checkpoint) -> None:
    for _, module in checkpoint.module.walk():
        for tensor in (*module.parameters.values(), *module.buffers.values()):
            if tensor is not None:
                tensor.numpy()


WEIGHTS = "archive/data/0"
AT = central(WEIGHTS)
START = field(WHOLE, AT + 42, "<I")
DATA = START + 30 + len(WEIGHTS)
TAIL = WHOLE.rindex(END)
CUT = "the file is cut short or damaged; copy or download it again"

BAD_ZIPS: dict[str, tuple[bytes, str]] = {
    "no directory": (WHOLE[:-30], f"best.pt: zip without its directory at the end; {CUT}"),
    "several parts": (patched(TAIL + 4, "<H", 1), f"best.pt: zip in several parts; {CUT}"),
    "directory outside": (
        patched(TAIL + 16, "<I", 1 << 30),
        f"best.pt: zip whose directory lies outside the file; {CUT}",
    ),
    "directory size": (patched(TAIL + 12, "<I", 1 << 30), f"best.pt: zip whose directory lies outside the file; {CUT}"),
    "directory entries": (
        patched(TAIL + 10, "<H", 9, patched(TAIL + 8, "<H", 9)),
        f"best.pt: zip with a damaged directory; {CUT}",
    ),
    "directory mark": (patched(AT, "<I", 0), f"best.pt: zip with a damaged directory; {CUT}"),
    "zip64 without record": (
        patched(TAIL + 16, "<I", 0xFFFFFFFF),
        f"best.pt: zip64 without its end record; {CUT}",
    ),
    "zip64 member": (
        patched(AT + 24, "<I", 0xFFFFFFFF),
        f"best.pt: zip whose member '{WEIGHTS}' contradicts the directory",
    ),
    "encrypted": (
        patched(AT + 8, "<H", 1),
        f"best.pt: zip whose member '{WEIGHTS}' is encrypted; unpack it with its password",
    ),
    "method": (
        patched(AT + 10, "<H", 12),
        f"best.pt: zip whose member '{WEIGHTS}' is packed by method 12; save it with torch.save",
    ),
    "two sizes": (patched(AT + 20, "<I", 95), f"best.pt: zip whose member '{WEIGHTS}' contradicts the directory"),
    "longer than the file": (
        patched(AT + 24, "<I", 1 << 30, patched(AT + 20, "<I", 1 << 30)),
        f"best.pt: zip whose member '{WEIGHTS}' contradicts the directory",
    ),
    "header outside": (
        patched(AT + 42, "<I", 1 << 30),
        f"best.pt: zip whose member '{WEIGHTS}' is not where the directory says; {CUT}",
    ),
    "header elsewhere": (
        patched(AT + 42, "<I", START + 1),
        f"best.pt: zip whose member '{WEIGHTS}' is not where the directory says; {CUT}",
    ),
    "another member's header": (
        patched(AT + 42, "<I", 0),
        f"best.pt: zip whose members overlap at '{WEIGHTS}'",
    ),
    "another name": (
        patched(START + 30, "<B", ord("b")),
        f"best.pt: zip whose member '{WEIGHTS}' contradicts the directory",
    ),
    "local checksum": (
        patched(START + 14, "<I", 1),
        f"best.pt: zip whose member '{WEIGHTS}' contradicts the directory",
    ),
    "damaged pickle": (
        WHOLE.replace(b"helmet", b"helmut", 1),
        "best.pt: archive/data.pkl: bytes are damaged: expected CRC-32",
    ),
    "damaged storage": (
        patched(DATA, "<I", 7),
        "best.pt: archive/data/0: bytes are damaged: expected CRC-32",
    ),
}


@pytest.mark.parametrize("name", BAD_ZIPS)
def test_a_damaged_zip_is_refused(name: str) -> None:
    data, message = BAD_ZIPS[name]
    with pytest.raises(CheckpointError) as caught:
        touch(read_checkpoint(data))
    assert str(caught.value).replace("checkpoint: ", "best.pt: ", 1).startswith(message)


def test_two_members_of_one_name_are_refused() -> None:
    data = WHOLE.replace(b"archive/data/1", b"archive/data/0")
    with pytest.raises(CheckpointError, match="zip with two members named 'archive/data/0'"):
        read_checkpoint(data)


def test_members_that_overlap_are_refused() -> None:
    inner = (
        struct.pack("<4s5H3I2H", LOCAL, 20, 8, 0, 0, 0, 0, 4, 4, len("archive/data/1"), 0)
        + b"archive/data/1"
        + bytes(4)
    )
    data = forge.zip_bytes(forge.checkpoint(), {"0": inner, "1": bytes(4)})
    entry = central("archive/data/1", data)
    outer = field(data, central("archive/data/0", data) + 42, "<I")
    data = patched(entry + 42, "<I", outer + 30 + len("archive/data/0"), data)
    with pytest.raises(CheckpointError, match="zip whose members overlap at 'archive/data/1'"):
        read_checkpoint(data)


def test_a_bomb_is_refused_by_what_it_claims() -> None:
    data = forge.zip_bytes(forge.checkpoint(), {**forge.STORAGES, "2": bytes(1 << 20)}, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=f"compressed members claim more than {900_000 + len(data)} bytes"):
        read_with_limits(data, Limits(inflated_bytes=900_000, inflated_factor=1))
    assert read_with_limits(data, Limits(inflated_bytes=1 << 21)).task == "detect"


@pytest.mark.parametrize("claim", [95, 97])
def test_a_compressed_member_of_another_size_is_refused(claim: int) -> None:
    data = forge.zip_bytes(forge.checkpoint(), method=zipfile.ZIP_DEFLATED)
    at = central(WEIGHTS, data)
    header = field(data, at + 42, "<I")
    data = patched(header + 22, "<I", claim, patched(at + 24, "<I", claim, data))
    with pytest.raises(
        CheckpointError, match=r"claims 96 bytes, the file holds 95|has a different size than the directory"
    ):
        touch(read_checkpoint(data))


def test_damaged_compression_is_refused() -> None:
    data = forge.zip_bytes(forge.checkpoint(), method=zipfile.ZIP_DEFLATED)
    header = field(data, central(WEIGHTS, data) + 42, "<I")
    data = patched(header + 30 + len(WEIGHTS), "<Q", (1 << 64) - 1, data)
    with pytest.raises(CheckpointError, match="compressed data is damaged"):
        touch(read_checkpoint(data))


def test_a_huge_pickle_is_refused_before_it_is_inflated() -> None:
    data = forge.zip_bytes(bytes(1 << 20), method=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"its data\.pkl is over the limit of 1000 bytes"):
        read_with_limits(data, Limits(pickle_bytes=1000))


def test_too_many_members_are_refused() -> None:
    with pytest.raises(CheckpointError, match="zip of 4 members is over the limit of 3"):
        read_with_limits(WHOLE, Limits(members=3))


def test_a_zip64_file_is_read() -> None:
    directory, length, count = (
        field(WHOLE, TAIL + 16, "<I"),
        field(WHOLE, TAIL + 12, "<I"),
        field(WHOLE, TAIL + 10, "<H"),
    )
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, directory)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, TAIL, 1)
    data = WHOLE[:TAIL] + record + locator + patched(16, "<I", 0xFFFFFFFF, WHOLE[TAIL:])
    touch(read_checkpoint(data))


def zip64_member(extra: bytes) -> bytes:
    """The whole file, with the sizes and the place of one member in its extra field."""
    data = patched(AT + 42, "<I", 0xFFFFFFFF, patched(AT + 20, "<Q", (1 << 64) - 1))
    data = patched(AT + 30, "<H", len(extra), data)
    behind = AT + 46 + len(WEIGHTS)
    data = data[:behind] + extra + data[behind:]
    return patched(TAIL + len(extra) + 12, "<I", field(WHOLE, TAIL + 12, "<I") + len(extra), data)


def test_a_zip64_member_is_read_from_its_extra_field() -> None:
    other = struct.pack("<2HI", 0x5455, 4, 0)
    touch(read_checkpoint(zip64_member(other + struct.pack("<2H3Q", 1, 24, 96, 96, START))))


def test_a_zip64_member_with_a_short_extra_field_is_refused() -> None:
    with pytest.raises(CheckpointError, match="zip64 with a damaged directory"):
        read_checkpoint(zip64_member(struct.pack("<2H2Q", 1, 16, 96, 96)))


def test_a_zip64_member_of_terabytes_is_refused() -> None:
    with pytest.raises(CheckpointError, match="contradicts the directory"):
        read_checkpoint(zip64_member(struct.pack("<2H3Q", 1, 24, 1 << 50, 1 << 50, START)))
    with pytest.raises(CheckpointError, match="is not where the directory says"):
        read_checkpoint(zip64_member(struct.pack("<2H3Q", 1, 24, 96, 96, 1 << 63)))


def test_a_member_that_reaches_into_the_directory_is_refused() -> None:
    last = central("archive/version")
    start = field(WHOLE, last + 42, "<I")
    data = WHOLE
    for at in (last + 20, last + 24, start + 18, start + 22):
        data = patched(at, "<I", 1 << 20, data)
    with pytest.raises(CheckpointError, match="zip whose member 'archive/version' reaches outside the file"):
        read_checkpoint(data)


def test_a_member_with_two_sizes_is_refused() -> None:
    data = patched(START + 22, "<I", 95, patched(AT + 24, "<I", 95))
    with pytest.raises(CheckpointError, match="zip whose member 'archive/data/0' has two sizes"):
        read_checkpoint(data)


def test_bytes_behind_the_zip_do_not_matter() -> None:
    touch(read_checkpoint(WHOLE + b"trailing"))


LEGACY = forge.legacy_bytes(forge.checkpoint())
BAD_LEGACY: dict[str, tuple[bytes, str]] = {
    "version": (
        LEGACY.replace(forge.end(forge.integer(1001)), forge.end(forge.integer(1002))),
        "legacy format of an unknown version: expected 1001",
    ),
    "keys": (
        LEGACY.replace(forge.end(forge.listed(forge.text("0"), forge.text("1"))), forge.end(forge.NONE)),
        "legacy format whose list of storages is damaged",
    ),
    "unknown key": (
        LEGACY.replace(forge.listed(forge.text("0"), forge.text("1")), forge.listed(forge.text("0"), forge.text("2"))),
        "legacy format that lists a storage which no tensor uses, or twice",
    ),
    "a key twice": (
        LEGACY.replace(forge.listed(forge.text("0"), forge.text("1")), forge.listed(forge.text("0"), forge.text("0"))),
        "legacy format that lists a storage which no tensor uses, or twice",
    ),
    "a key too few": (
        forge.legacy_bytes(forge.checkpoint(), {"0": (24, forge.WEIGHTS)}),
        "has no storage '1', which its tensors use",
    ),
    "another length": (
        forge.legacy_bytes(forge.checkpoint(), {"0": (23, forge.WEIGHTS), "1": (3, forge.STRIDES)}),
        "storage '0' has another length than its tensors say: expected 24 elements, got 23",
    ),
    "negative length": (
        forge.legacy_bytes(forge.checkpoint(), {"0": (-1, forge.WEIGHTS), "1": (3, forge.STRIDES)}),
        "storage '0' has another length than its tensors say: expected 24 elements, got -1",
    ),
    "cut inside": (LEGACY[:-1], "ends inside its storage '1': expected 12 bytes, got 11"),
    "cut before": (LEGACY[:-13], "ends before its storage '1'"),
    "two types": (
        forge.legacy_bytes(
            forge.checkpoint(x=forge.tensor(forge.storage("0", 24, "torch.IntStorage"), (1,), (1,))),
        ),
        "storage '0' with two types or lengths",
    ),
}


@pytest.mark.parametrize("name", BAD_LEGACY)
def test_a_damaged_legacy_file_is_refused(name: str) -> None:
    data, message = BAD_LEGACY[name]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(data)
    assert message in str(caught.value)


def test_the_legacy_format_is_known_by_its_number_whatever_the_protocol() -> None:
    magic = forge.end(b"\x95" + struct.pack("<Q", 13) + forge.integer(0x1950A86A20F9469CFC6C), 4)
    assert read_checkpoint(LEGACY.replace(forge.LEGACY_MAGIC, magic, 1)).task == "detect"


def test_another_legacy_number_is_refused() -> None:
    data = LEGACY.replace(forge.LEGACY_MAGIC, forge.end(forge.raw_bytes(TORCH_LEGACY_MAGIC)), 1)
    with pytest.raises(CheckpointError, match="legacy format without its magic number"):
        read_checkpoint(data)


def test_a_legacy_class_comes_with_its_source_which_stays_text() -> None:
    kind = forge.row(
        forge.text("module"), forge.named("models.yolo.Model"), forge.text("yolo.py"), forge.text("import os")
    )
    pickle = forge.end(forge.table({"extra": kind + b"Q", "model": forge.model()}))
    assert read_checkpoint(forge.legacy_bytes(pickle)).task == "detect"


@pytest.mark.parametrize("whole", [WHOLE, LEGACY], ids=["zip", "legacy"])
def test_a_file_cut_at_any_byte_is_refused(whole: bytes) -> None:
    for stop in range(len(whole)):
        with pytest.raises(CheckpointError):
            read_checkpoint(whole[:stop])
