"""What a file is that is no checkpoint, said in a line with the next step."""

from __future__ import annotations

import re
from typing import NamedTuple

from yoloship.errors import CheckpointError

HEAD_BYTES = 512
"""How much of the file's beginning `explain` wants to see."""


class _Kind(NamedTuple):
    start: bytes
    problem: str
    hint: str


_AGAIN = "download the file again"
_UNPACK = "unpack it and give the .pt inside"

_KINDS = (
    _Kind(b"version https://git-lfs", "is a Git LFS pointer, not the file it points to", "run `git lfs pull`"),
    _Kind(b"\x1f\x8b", "is a gzip archive, not a checkpoint", _UNPACK),
    _Kind(b"Rar!", "is a RAR archive, not a checkpoint", _UNPACK),
    _Kind(b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive, not a checkpoint", _UNPACK),
    _Kind(b"BZh", "is a bzip2 archive, not a checkpoint", _UNPACK),
    _Kind(b"\xfd7zXZ", "is an XZ archive, not a checkpoint", _UNPACK),
    _Kind(b"\x89HDF", "is an HDF5 file, as Keras writes, not a YOLOv5 checkpoint", "give the .pt of the training"),
    _Kind(b"ftrt", "is a TensorRT engine, not a checkpoint", "give the .pt of the training"),
    _Kind(b"\x89PNG", "is a picture, not a checkpoint", "give the .pt first, pictures after it"),
    _Kind(b"\xff\xd8\xff", "is a picture, not a checkpoint", "give the .pt first, pictures after it"),
)

_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42]")
"""Field 1 of a ModelProto, its version as a small integer, and the tag of another of its fields."""


def explain(head: bytes, subject: str) -> CheckpointError:
    """Say what a file is, by its first bytes.

    Args:
        head: Its first `HEAD_BYTES` bytes.
        subject: Its name.

    Returns:
        The error to raise.
    """
    if not head:
        return CheckpointError("is empty (0 bytes)", subject=subject, hint=_AGAIN)
    if not any(head):
        return CheckpointError("begins with zero bytes only, like an unfinished download", subject=subject, hint=_AGAIN)
    for kind in _KINDS:
        if head.startswith(kind.start):
            return CheckpointError(kind.problem, subject=subject, hint=kind.hint)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return CheckpointError(
            "is a web page, not a checkpoint", subject=subject, hint="download the file itself, not its page"
        )
    if head[257:262] == b"ustar":
        return CheckpointError(
            "is a tar archive, the format of torch 0.1 or a packed folder", subject=subject,
            hint="unpack it, or save the model with torch 0.4 or newer",
        )  # fmt: skip
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return CheckpointError(
            "is a safetensors file: weights without an architecture", subject=subject,
            hint="give the .pt that the training saved",
        )  # fmt: skip
    if (
        head[0] == 8
        and 1 <= head[1:2].ljust(1, b"\0")[0] <= 32
        and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42")
    ):
        return CheckpointError(
            "is an ONNX model, not a checkpoint", subject=subject, hint="give it the suffix .onnx to run it"
        )
    return CheckpointError(
        "is no checkpoint", subject=subject,
        expected="a file that torch.save wrote", got=f"one that begins with {head[:8]!r}",
    )  # fmt: skip
