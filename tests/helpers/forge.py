"""Forge checkpoints byte by byte: a small pickle assembler, and writers of both containers.

Every function of the first part returns the instructions that push one value; put them together and close them with
`end`. What comes out need not be a pickle that anything would write.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Container: TypeAlias = Callable[[bytes], bytes]

Code = bytes

NONE, TRUE, FALSE, EMPTY_LIST, EMPTY_DICT, EMPTY_TUPLE = b"N", b"\x88", b"\x89", b"]", b"}", b")"


def text(value: str) -> Code:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def raw_bytes(value: bytes) -> Code:
    return b"B" + struct.pack("<I", len(value)) + value


def integer(value: int) -> Code:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw if len(raw) < 256 else b"\x8b" + struct.pack("<I", len(raw)) + raw


def number(value: float) -> Code:
    return b"G" + struct.pack(">d", value)


def named(class_path: str) -> Code:
    module, _, name = class_path.rpartition(".")
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def row(*items: Code) -> Code:
    """A tuple."""
    return b"(" + b"".join(items) + b"t"


def integers(values: Iterable[int]) -> Code:
    return row(*map(integer, values))


def listed(*items: Code) -> Code:
    return b"](" + b"".join(items) + b"e"


def table(entries: Mapping[str, Code]) -> Code:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def call(class_path: str, *arguments: Code) -> Code:
    return named(class_path) + row(*arguments) + b"R"


def instance(class_path: str, state: Code = NONE) -> Code:
    return named(class_path) + b")\x81" + state + b"b"


def storage(key: str, length: int, kind: str = "torch.FloatStorage") -> Code:
    return row(text("storage"), named(kind), text(key), text("cpu"), integer(length)) + b"Q"


def ordered() -> Code:
    return call("collections.OrderedDict")


def tensor(where: Code, size: Iterable[int], stride: Iterable[int], offset: int = 0) -> Code:
    arguments = (where, integer(offset), integers(size), integers(stride), FALSE, ordered())
    return call("torch._utils._rebuild_tensor_v2", *arguments)


def parameter(data: Code) -> Code:
    return call("torch._utils._rebuild_parameter", data, TRUE, ordered())


def module(
    class_path: str,
    attributes: Mapping[str, Code] | None = None,
    parameters: Mapping[str, Code] | None = None,
    buffers: Mapping[str, Code] | None = None,
    modules: Mapping[str, Code] | None = None,
) -> Code:
    tables = {
        "_parameters": table(parameters or {}),
        "_buffers": table(buffers or {}),
        "_modules": table(modules or {}),
    }
    return instance(class_path, table({"training": FALSE, **tables, **(attributes or {})}))


def end(code: Code, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + code + b"."


# A whole model, as small as can be.

WEIGHTS = struct.pack("<24f", *range(24))
STRIDES = struct.pack("<3f", 8, 16, 32)
STORAGES: dict[str, bytes] = {"0": WEIGHTS, "1": STRIDES}


def model(attributes: Mapping[str, Code] | None = None, extra: Mapping[str, Code] | None = None) -> Code:
    """A convolution and a head of two classes, over `STORAGES`; `extra` are more layers."""
    weight = parameter(tensor(storage("0", 24), (2, 3, 2, 2), (12, 4, 2, 1)))
    layers = {
        "0": module("torch.nn.modules.conv.Conv2d", {"stride": integers((2, 2))}, {"weight": weight, "bias": NONE}),
        **(extra or {}),
        "9": module("models.yolo.Detect", {"nc": integer(2), "stride": tensor(storage("1", 3), (3,), (1,))}),
    }
    sequence = module("torch.nn.modules.container.Sequential", modules=layers)
    return module(
        "models.yolo.DetectionModel",
        {"names": listed(text("helmet"), text("vest")), **(attributes or {})},
        modules={"model": sequence},
    )


def checkpoint(**metadata: Code) -> bytes:
    """The pickle of a whole file around `model`."""
    return end(table({"epoch": integer(-1), **metadata, "model": model()}))


def zip_bytes(
    pickle: bytes,
    storages: Mapping[str, bytes] = STORAGES,
    *,
    root: str = "archive/",
    method: int = zipfile.ZIP_STORED,
    others: Mapping[str, bytes] | None = None,
) -> bytes:
    """The container of torch 1.6 and later."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(f"{root}data.pkl", pickle)
        for key, data in storages.items():
            archive.writestr(f"{root}data/{key}", data)
        for name, data in {"version": b"3\n", **(others or {})}.items():
            archive.writestr(f"{root}{name}", data)
    return file.getvalue()


LEGACY_MAGIC = end(integer(0x1950A86A20F9469CFC6C))


def legacy_bytes(
    pickle: bytes, storages: Mapping[str, tuple[int, bytes]] | None = None, *, little_endian: Code = TRUE
) -> bytes:
    """The container before torch 1.6; storages as (elements, bytes)."""
    if storages is None:
        storages = {"0": (24, WEIGHTS), "1": (3, STRIDES)}
    system = table({"protocol_version": integer(1001), "little_endian": little_endian})
    parts = [LEGACY_MAGIC, end(integer(1001)), end(system), pickle, end(listed(*map(text, storages)))]
    return b"".join(parts) + b"".join(struct.pack("<q", count) + data for count, data in storages.values())


def old_tar() -> bytes:
    """The beginning of a file of torch before 0.1.10: a tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    return file.getvalue()
