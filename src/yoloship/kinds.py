"""Finds out what a file is from its content.

A name counts only for content that fits nothing, which could be an unusual ONNX model. A file named ``.engine``,
``.plan`` or ``.trt`` is not taken for one. It is an engine if there is a sidecar beside it, because a later version of
TensorRT may begin its plans in another way, and the sidecar has the plan's hash.

All code that opens a model or an image uses this module, so that a file's kind and the error for a wrong file are the
same everywhere.

Sources of the byte patterns: zip, gzip, bzip2, XZ, Zstandard, RAR, 7-Zip, tar, PDF, HDF5, NumPy and the image and
video formats: the signatures in their specifications. safetensors: its README. TensorRT: `engine.plan` names it. ONNX:
onnx.proto, the fields of ModelProto. torch's older container: `checkpoint.legacy_container` names it.
"""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from yoloship._util.reading import read_start
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from yoloship.errors import YoloshipError

ErrorT = TypeVar("ErrorT", bound="YoloshipError")

HEAD_BYTES: Final = 512
"""Bytes at the start of a file that are enough to tell its kind; a tar archive has its mark at byte 257."""

ZIP_MAGIC: Final = b"PK\x03\x04"
TORCH_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
"""The integer in the first pickle of torch's older container."""
RTX_MAGIC: Final = b"vtrt"
TENSORRT_MAGIC: Final = b"ftrt"
LEAN_MAGIC: Final = b"ptrt"
ENGINE_MAGICS: Final = (TENSORRT_MAGIC, RTX_MAGIC, LEAN_MAGIC)
"""Plans of TensorRT, of TensorRT-RTX, and of TensorRT's lean and safe runtimes."""
ENGINE_SUFFIXES: Final = (".engine", ".plan", ".trt")
MAX_PREFIX_BYTES: Final = 1 << 20
"""Largest size of the JSON that some exporters put before a plan; its length precedes it as a little-endian int32."""

Kind: TypeAlias = Literal[
    "checkpoint", "onnx", "engine",
    "pickle", "npz", "npy", "safetensors", "hdf5", "tflite", "gguf", "lfs-pointer",
    "gzip", "bzip2", "xz", "zstd", "rar", "7z", "tar", "zip", "pdf", "html", "xml", "json", "text",
    "jpeg", "png", "gif", "webp", "bmp", "tiff", "avif", "heic", "jp2", "netpbm", "video",
    "empty", "zeros", "no-engine", "unknown",
]  # fmt: skip

Wanted: TypeAlias = Literal["checkpoint", "onnx", "engine", "model", "image"]

IMAGE_KINDS: Final[frozenset[Kind]] = frozenset(
    {"jpeg", "png", "gif", "webp", "bmp", "tiff", "avif", "heic", "jp2", "netpbm"}
)
MODEL_KINDS: Final[frozenset[Kind]] = frozenset({"checkpoint", "onnx", "engine"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """The words for a kind in messages.

    Attributes:
        is_a: Continues a sentence after "is".
        hint: What the user can do to get a model or an image out of it.
    """

    is_a: str
    hint: str | None = None


_UNPACK: Final = "unpack it, and give the file inside"
_TRAINED: Final = "give the .pt that the training saved"
_AGAIN: Final = "download or copy the file again"
_REBUILD: Final = "copy it again, or build it again with 'yoloship build'"

_ENTRIES: Final[Mapping[Kind, _Entry]] = MappingProxyType(
    {
        "checkpoint": _Entry("a checkpoint"),
        "onnx": _Entry("an ONNX model"),
        "engine": _Entry("a TensorRT engine", "give the .pt or the .onnx that it was built from"),
        "pickle": _Entry("a Python pickle that torch.save did not write", _TRAINED),
        "npz": _Entry("a NumPy .npz archive"),
        "npy": _Entry("a NumPy array"),
        "safetensors": _Entry("a safetensors file (weights without an architecture)", _TRAINED),
        "hdf5": _Entry("an HDF5 file (as Keras writes)", _TRAINED),
        "tflite": _Entry("a TensorFlow Lite model", _TRAINED),
        "gguf": _Entry("a GGUF file (weights of a language model)"),
        "lfs-pointer": _Entry("a Git LFS pointer, not the file it points to", "run 'git lfs pull'"),
        "gzip": _Entry("a gzip archive", _UNPACK),
        "bzip2": _Entry("a bzip2 archive", _UNPACK),
        "xz": _Entry("an XZ archive", _UNPACK),
        "zstd": _Entry("a Zstandard archive", _UNPACK),
        "rar": _Entry("a RAR archive", _UNPACK),
        "7z": _Entry("a 7-Zip archive", _UNPACK),
        "tar": _Entry(
            "a tar archive (a packed folder, or a model of torch 0.1)",
            "unpack it, or save the model with torch 0.4 or newer",
        ),
        "zip": _Entry("an empty or split zip archive", _AGAIN),
        "pdf": _Entry("a PDF document"),
        "html": _Entry("a web page", "download the file itself, not its page"),
        "xml": _Entry("an XML file", "if it is the result of a failed download, download the file again"),
        "json": _Entry("JSON text"),
        "text": _Entry("a text file"),
        "jpeg": _Entry("a JPEG image"),
        "png": _Entry("a PNG image"),
        "gif": _Entry("a GIF image"),
        "webp": _Entry("a WebP image"),
        "bmp": _Entry("a BMP image"),
        "tiff": _Entry("a TIFF image"),
        "avif": _Entry("an AVIF image"),
        "heic": _Entry("a HEIC image"),
        "jp2": _Entry("a JPEG 2000 image"),
        "netpbm": _Entry("a Netpbm image"),
        "video": _Entry("a video"),
        "empty": _Entry("empty (0 bytes)", _AGAIN),
        "zeros": _Entry("made of zero bytes, like an unfinished download", _AGAIN),
    }
)

_WANTED: Final[Mapping[Wanted, str]] = MappingProxyType(
    {
        "checkpoint": "a checkpoint",
        "onnx": "an ONNX model",
        "engine": "a TensorRT engine",
        "model": "a checkpoint, an ONNX model or a TensorRT engine",
        "image": "an image",
    }
)

_NEXT_STEPS: Final[Mapping[tuple[Kind, Wanted], str]] = MappingProxyType(
    {
        ("onnx", "checkpoint"): "give the .pt that it was exported from; 'yoloship predict' runs the ONNX file itself",
        ("onnx", "engine"): "build an engine from it with 'yoloship build'",
        ("checkpoint", "onnx"): "write an ONNX model from it with 'yoloship export'",
        ("checkpoint", "engine"): "build an engine from it with 'yoloship build'",
        ("engine", "image"): "give the model first, then the images",
        ("onnx", "image"): "give the model first, then the images",
        ("checkpoint", "image"): "give the model first, then the images",
        ("video", "image"): "to read it as a video, give it as video:NAME, or write it to '-' if it is a pipe",
    }
)


def kind_of(
    source: Path | bytes | memoryview, *, name: str | None = None, error: type[YoloshipError] = InputError
) -> Kind:
    """Find out what kind of file something is.

    Args:
        source: A file, or its bytes; the first `HEAD_BYTES` are enough.
        name: The file that has these bytes, if it is known; for a `source` that is a file, that file.
        error: The class of the error to raise.

    Returns:
        Its kind; ``checkpoint`` for every zip archive except NumPy's, because only the checkpoint reader can tell more.

    Raises:
        YoloshipError: of the class `error`: the file cannot be read, or is not a regular file.
    """
    if isinstance(source, bytes | memoryview):
        head = bytes(source[:HEAD_BYTES])
    else:
        name = str(source)
        head = read_start(source, HEAD_BYTES, error=error, wanted="a model")
    if head.startswith(_JPEG):  # no pattern before its own fits, and folders are full of them
        return "jpeg"
    if not head:
        return "empty"
    if not any(head):
        return "zeros"
    for kind, pattern in _PATTERNS:
        if re.match(pattern, head, re.DOTALL) if isinstance(pattern, bytes) else pattern(head):
            return kind
    return _text_kind(head) or _kind_by_name(name or "")


def is_checkpoint(path: Path) -> bool:
    """Whether a file may be a trained checkpoint; False if it cannot be read."""
    try:
        return kind_of(path) in {"checkpoint", "pickle"}
    except InputError:
        return False


def wrong_kind(
    kind: Kind, wanted: Wanted, *, subject: str, error: type[YoloshipError], start: bytes = b""
) -> YoloshipError:
    """The error for a file of the wrong kind.

    Args:
        kind: The file's kind.
        wanted: The kind that it should have.
        subject: The file's name, for the message.
        error: The class of the error.
        start: The file's first bytes; shown if they are of no known kind.

    Returns:
        The error, to be raised by the caller.
    """
    wanted = "engine" if kind == "no-engine" else wanted
    entry = _ENTRIES.get(kind)
    if entry is None:
        return error(
            f"is not {_WANTED[wanted]}",
            subject=subject,
            got=f"a file that begins with {start[:8]!r}" if start else None,
            hint=_REBUILD if wanted == "engine" else "if it was copied or downloaded, do that again",
        )
    hint = _NEXT_STEPS.get((kind, wanted), entry.hint)
    if hint is None and kind in IMAGE_KINDS:
        hint = "give the model first, then the images"
    aside = kind in {"empty", "zeros", "lfs-pointer"}
    return error(f"is {entry.is_a}" if aside else f"is {entry.is_a}, not {_WANTED[wanted]}", subject=subject, hint=hint)


def damaged_onnx(subject: str, *, error: type[ErrorT], got: str | None = None) -> ErrorT:
    """The error for a file that no other kind fits, and that is not a whole ONNX model either.

    Args:
        subject: The file's name, for the message.
        error: The class of the error.
        got: What is wrong with it, if that is known.

    Returns:
        The error, to be raised by the caller.
    """
    return error(
        "is not a valid ONNX file: it is damaged or truncated",
        subject=subject,
        got=got,
        hint="copy or export it again",
    )


def refuse_others(
    source: Path | bytes, allowed: frozenset[Kind], wanted: Wanted, *, subject: str, error: type[YoloshipError]
) -> Kind:
    """The kind of a file, which must be one of the allowed kinds.

    Args:
        source: The file, or its bytes.
        allowed: The kinds that it may be of.
        wanted: What it should be, for the message.
        subject: The file's name.
        error: The class of the error.

    Raises:
        YoloshipError: of the class `error`: the file is of another kind, or cannot be read.
    """
    start = source if isinstance(source, bytes) else read_start(source, HEAD_BYTES, error=error, wanted="a model")
    kind = kind_of(start, name=subject)
    if kind not in allowed:
        raise wrong_kind(kind, wanted, subject=subject, error=error, start=start[:HEAD_BYTES])
    return kind


def _is_npz(head: bytes) -> bool:
    if not head.startswith(ZIP_MAGIC) or len(head) < 30:
        return False
    length = int.from_bytes(head[26:28], "little")
    return head[30 : 30 + length].endswith(b".npy")


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 1 << 32


def _is_media_of(format_: Literal["avif", "heic"], head: bytes) -> bool:
    """Whether it is an ISO media file of this format: the first brand that names one decides, the main brand first."""
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), len(head))
    stated = (head[at : at + 4] for at in (8, *range(16, end, 4)))
    return next((_BRANDS[brand] for brand in stated if brand in _BRANDS), None) == format_


_BRANDS: Final[Mapping[bytes, str]] = MappingProxyType(
    {
        **dict.fromkeys((b"avif", b"avis"), "avif"),
        **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "heic"),
    }
)
"""ISO/IEC 23008-12, section B.4, and the AV1 image format's section 6."""

_JPEG: Final = b"\xff\xd8\xff"

_PATTERNS: Final[tuple[tuple[Kind, bytes | Callable[[bytes], bool]], ...]] = (
    ("npz", _is_npz),
    ("checkpoint", re.escape(ZIP_MAGIC)),
    ("checkpoint", rb"\x80.{0,29}" + re.escape(TORCH_LEGACY_MAGIC)),
    ("zip", rb"PK(\x05\x06|\x07\x08)"),
    ("pickle", rb"\x80[\x02-\x05]"),
    ("engine", b"|".join(ENGINE_MAGICS)),
    # The JSON that some exporters put before a plan, behind its length: 2 to `MAX_PREFIX_BYTES`, which in a text file
    # would be far too large.
    ("engine", rb"(?![\0\1]\0\0\0)(..[\0-\x0f]\0|\0\0\x10\0)\{"),
    # Field 1 of a ModelProto, its format's version as a small integer, and the tag of another of its fields.
    ("onnx", rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42\x72]"),
    ("lfs-pointer", rb"version https://git-lfs"),
    ("jpeg", re.escape(_JPEG)),
    ("png", rb"\x89PNG\r\n\x1a\n"),
    ("gif", rb"GIF8[79]a"),
    ("webp", rb"RIFF....WEBP"),
    ("tiff", rb"II[*+]\0|MM\0[*+]"),
    ("jp2", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ("avif", partial(_is_media_of, "avif")),
    ("heic", partial(_is_media_of, "heic")),
    ("video", rb"....ftyp"),
    ("video", rb"\x1aE\xdf\xa3"),
    ("video", rb"RIFF....AVI "),
    ("video", rb"\x47.{187}\x47.{187}\x47"),  # an MPEG transport stream: a mark every 188 bytes
    ("video", rb"\0\0\x01[\xb3\xba]|FLV\x01|OggS\0|YUV4MPEG2 |\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ("netpbm", rb"P[1-6][ \t\n\r\x0b\f]"),
    ("bmp", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),  # the size of its second header says its version
    ("npy", rb"\x93NUMPY"),
    ("safetensors", _is_safetensors),
    ("hdf5", rb"\x89HDF"),
    ("tflite", rb"....TFL3"),
    ("gguf", rb"GGUF"),
    ("gzip", rb"\x1f\x8b"),
    ("bzip2", rb"BZh"),
    ("xz", rb"\xfd7zXZ"),
    ("zstd", rb"\x28\xb5\x2f\xfd"),
    ("rar", rb"Rar!"),
    ("7z", rb"7z\xbc\xaf\x27\x1c"),
    ("tar", rb".{257}ustar"),
    ("pdf", rb"%PDF-"),
)
"""The kinds in the order in which they are tried; the first that fits wins. Bytes are a pattern for the file's start.
"""


def _kind_by_name(name: str) -> Kind:
    if not name.lower().endswith(ENGINE_SUFFIXES):
        return "unknown"
    return "engine" if os.path.lexists(f"{name}.json") else "no-engine"


def _text_kind(head: bytes) -> Kind | None:
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return None
    if any(character < " " and character not in "\t\r\n\f" for character in text) or "\x7f" in text:
        return None
    text = text.lstrip().lower()
    if text.startswith(("<!doctype", "<html", "<head")) or (text.startswith("<?xml") and "<html" in text):
        return "html"
    if text.startswith("<?xml"):
        return "xml"
    return "json" if text.startswith(("{", "[")) else "text"
