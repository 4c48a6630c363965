"""Reads what a training environment computed: `Reference`, from a NumPy archive that is untrusted."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.reading import open_regular
from yoloship.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


MAX_ARRAY_BYTES: Final = 1 << 30
MAX_FILE_BYTES: Final = 3 * MAX_ARRAY_BYTES + (1 << 20)
MAX_IMAGES: Final = 256
PROTOTYPES: Final = "prototypes"
_HEADER_BYTES: Final = 10_000
_HEADER: Final = re.compile(
    r"\{'descr': '([<>|=][a-zA-Z]\d{0,4})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,12}(?:, \d{1,12}){0,7},?)?)\),? ?\}\s*"
)
_HINT: Final = "make it as docs/verify.md shows: numpy.savez('reference.npz', images=…, output=…)"


@dataclass(frozen=True, slots=True)
class Reference:
    """Input and output of a model as its training environment has them.

    Attributes:
        images: (B, C, H, W) float32, in 0..1, as they were given to the model.
        output: What the model gave in evaluation mode, decoded, float32: (B, N, 5 + classes), or (B, 4 + classes, N) of
            a head without anchors, each with further columns behind the classes; or (B, classes) for classification.
        prototypes: (B, P, h, w) float32, of a segmentation model; None if they are not there.
    """

    images: Floats
    output: Floats
    prototypes: Floats | None = None


def read_reference(path: Path) -> Reference:
    """Read the arrays `images`, `output` and, if it is there, `prototypes` of a NumPy archive; nothing is unpickled.

    Args:
        path: The file; untrusted.

    Raises:
        InputError: it cannot be read, lacks one of them, or they are of another type or shape.
    """
    subject = str(path)
    try:
        with (
            open_regular(path, error=InputError, wanted="a reference", limit_bytes=MAX_FILE_BYTES) as file,
            zipfile.ZipFile(file) as archive,
        ):
            images, output = (_array(archive, name, subject) for name in ("images", "output"))
            has_more = f"{PROTOTYPES}.npy" in archive.namelist()
            prototypes = _array(archive, PROTOTYPES, subject) if has_more else None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f"is not a readable NumPy archive: {error}", subject=subject, hint=_HINT) from error
    if images.ndim != 4 or not 1 <= len(images) <= MAX_IMAGES:
        raise InputError(
            "'images' has another shape", subject=subject, hint=_HINT,
            expected=f"(B, channels, height, width) with at most {MAX_IMAGES} images", got=str(images.shape),
        )  # fmt: skip
    if output.ndim not in {2, 3} or len(output) != len(images):
        raise InputError(
            "'output' has another shape", subject=subject, hint=_HINT, got=str(output.shape),
            expected=f"decoded rows for {len(images)} images, or ({len(images)}, classes)",
        )  # fmt: skip
    if prototypes is not None and (prototypes.ndim != 4 or len(prototypes) != len(images)):
        raise InputError(
            f"{PROTOTYPES!r} has another shape", subject=subject, expected=f"({len(images)}, P, height, width)",
            got=str(prototypes.shape),
        )  # fmt: skip
    if not (np.isfinite(images).all() and -0.01 <= images.min() <= images.max() <= 1.01):
        raise InputError("'images' holds numbers outside 0 to 1", subject=subject, hint=_HINT)
    return Reference(images, output, prototypes)


def _array(archive: zipfile.ZipFile, name: str, subject: str) -> Floats:
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError as error:
        there = ", ".join(item.filename[:40] for item in archive.infolist()[:8])
        raise InputError(
            f"has no array {name!r}", subject=subject, expected="images and output", got=there or "nothing", hint=_HINT
        ) from error
    if entry.file_size > MAX_ARRAY_BYTES + _HEADER_BYTES:
        raise InputError(
            f"array {name!r} is too large", subject=subject, expected=f"at most {MAX_ARRAY_BYTES:,} bytes",
            got=f"{entry.file_size:,} bytes",
        )  # fmt: skip
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise InputError(f"array {name!r} is compressed in a way that NumPy does not use", subject=subject, hint=_HINT)
    with archive.open(entry) as opened:
        return _read_npy(opened, name, subject)


def _read_npy(file: IO[bytes], name: str, subject: str) -> Floats:
    """One array in NumPy's format, of floats, without pickles; its header is matched, and nothing is evaluated.

    Source: numpy.lib.format, versions 1.0 and 2.0 of the format.
    """
    start = file.read(12)
    wide = start[6:7] == b"\x02"
    length = int.from_bytes(start[8 : 12 if wide else 10], "little")
    if start[:6] != b"\x93NUMPY" or start[6:7] not in {b"\x01", b"\x02"} or not 2 <= length <= _HEADER_BYTES:
        raise InputError(f"array {name!r} is not readable: it is not a NumPy array", subject=subject, hint=_HINT)
    header = (b"" if wide else start[10:]) + file.read(length if wide else length - 2)
    match = _HEADER.fullmatch(header.decode("latin-1"))
    if match is None:
        raise InputError(f"array {name!r} is not readable: it does not hold plain numbers", subject=subject, hint=_HINT)
    shape = tuple(int(side) for side in match[3].replace(",", " ").split())
    if match[1][1:] not in {"f2", "f4", "f8"}:
        raise InputError(
            f"array {name!r} has a different element type",
            subject=subject,
            expected="float32",
            got=match[1],
            hint=_HINT,
        )
    dtype, fortran = np.dtype(match[1]), match[2] == "True"
    count = math.prod(shape)
    if count * dtype.itemsize > MAX_ARRAY_BYTES or count < 1:
        raise InputError(f"array {name!r} is empty or too large", subject=subject, got=str(shape)[:60])
    data = file.read(count * dtype.itemsize + 1)
    if len(data) != count * dtype.itemsize:
        raise InputError(
            f"array {name!r} is damaged", subject=subject, expected=f"{count * dtype.itemsize:,} bytes for {shape}",
            got=f"{len(data):,}{' or more' if len(data) > count * dtype.itemsize else ''} bytes",
        )  # fmt: skip
    with np.errstate(over="ignore"):
        array: Floats = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").astype(np.float32)
    return array
