"""Comparing a model with what the user's own training environment computes.

A checkpoint does not hold its `forward`. If somebody changed that, and nothing else, no reader of the file can see it;
only the numbers show it. So the user runs the model where it was trained, on any images, and keeps input and output.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.reading import open_regular
from yoloship.errors import InputError
from yoloship.kinds import kind_of
from yoloship.models.releases import resolve
from yoloship.tasks import form_of, task_of

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    import numpy.typing as npt

    from yoloship.runtime import Session

    Floats = npt.NDArray[np.float32]


MAX_ARRAY_BYTES: Final = 1 << 30
MAX_FILE_BYTES: Final = 2 * MAX_ARRAY_BYTES + (1 << 20)
MAX_IMAGES: Final = 256
SCORE_TOLERANCE: Final = 1e-4
BOX_TOLERANCE: Final = 1e-3
"""Of the larger side of a box."""
BOX_TOLERANCE_PX: Final = 0.01
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
        output: (B, N, 5 + classes) float32: what the model gave in evaluation mode, decoded.
    """

    images: Floats
    output: Floats


@dataclass(frozen=True, slots=True)
class WorstRow:
    """The row that lies farthest apart, as a multiple of what is allowed.

    Attributes:
        image: Its image, counted from 0.
        row: Its place in the output, counted from 0.
        what: ``box`` or ``score``.
        expected: What the reference has: centre, size, objectness and class scores.
        got: What the model gives.
        difference: Of the number that differs most, in pixels or as a score.
        allowed: What it may be.
    """

    image: int
    row: int
    what: str
    expected: tuple[float, ...]
    got: tuple[float, ...]
    difference: float
    allowed: float


@dataclass(frozen=True, slots=True)
class ReferenceCheck:
    """The result of the comparison.

    Attributes:
        images: How many were compared.
        rows: Rows of all images.
        differing: Rows that lie farther apart than is allowed.
        score_max: Largest difference of an objectness or a class score.
        box_max_px: Largest difference of a centre or a side.
        worst: The row that lies farthest apart.
    """

    images: int
    rows: int
    differing: int
    score_max: float
    box_max_px: float
    worst: WorstRow

    @property
    def passed(self) -> bool:
        """Whether every row is within what is allowed."""
        return self.differing == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "passed": self.passed}


def read_reference(path: Path) -> Reference:
    """Read the arrays `images` and `output` of a NumPy archive; nothing in it is unpickled.

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
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f"is not a readable NumPy archive: {error}", subject=subject, hint=_HINT) from error
    if images.ndim != 4 or not 1 <= len(images) <= MAX_IMAGES:
        raise InputError(
            "'images' has another shape", subject=subject, hint=_HINT,
            expected=f"(B, channels, height, width) with at most {MAX_IMAGES} images", got=str(images.shape),
        )  # fmt: skip
    if output.ndim != 3 or len(output) != len(images) or output.shape[2] < 6:
        raise InputError(
            "'output' has another shape", subject=subject, hint=_HINT,
            expected=f"({len(images)}, N, 5 + classes), decoded", got=str(output.shape),
        )  # fmt: skip
    if not (np.isfinite(images).all() and -0.01 <= images.min() <= images.max() <= 1.01):
        raise InputError("'images' holds numbers outside 0 to 1", subject=subject, hint=_HINT)
    return Reference(images, output)


def compare_reference(reference: Reference, session: Session, place: int, subject: str) -> ReferenceCheck:
    """Run a model on the reference's images and compare row by row.

    Args:
        reference: What is taken as right.
        session: A model of one float input, (B, C, H, W), and a decoded output.
        place: Of that output among the session's.
        subject: The model, for messages.

    Raises:
        InputError: the model takes other images, or gives another number of rows or columns.
        SessionError: the runtime failed.
    """
    spec = session.inputs[0]
    batch = spec.shape[0] if isinstance(spec.shape[0], int) else 1
    check: list[tuple[float, WorstRow]] = []
    differing, score_max, box_max = 0, 0.0, 0.0
    for index, (image, expected) in enumerate(zip(reference.images, reference.output, strict=True)):
        feed = np.repeat(image[None], batch, axis=0).astype(np.dtype(spec.dtype))
        got = np.asarray(session.run({spec.name: feed})[place][0], np.float32)
        if got.shape != expected.shape:
            raise InputError(
                "gives rows of another shape than the reference", subject=subject,
                expected=str(expected.shape), got=str(got.shape),
                hint="make the reference with this model, in evaluation mode",
            )  # fmt: skip
        difference, allowed = _differences(expected, got)
        share = difference / allowed
        share[np.isnan(share)] = math.inf
        differing += int((share.max(axis=1) > 1).sum())
        score_max, box_max = (
            max(score_max, float(difference[:, 4:].max())),
            max(box_max, float(difference[:, :4].max())),
        )
        row, column = divmod(int(share.argmax()), share.shape[1])
        found = WorstRow(
            index, row, "box" if column < 4 else "score", tuple(map(float, expected[row])), tuple(map(float, got[row])),
            float(difference[row, column]), float(allowed[row, column]),
        )  # fmt: skip
        check.append((float(share[row, column]), found))
    _, worst = max(check, key=lambda entry: entry[0])
    return ReferenceCheck(
        len(reference.images),
        reference.output.shape[0] * reference.output.shape[1],
        differing,
        score_max,
        box_max,
        worst,
    )


def _differences(expected: Floats, got: Floats) -> tuple[Floats, Floats]:
    """How far each number lies from the other, and how far it may."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(got - expected)
        difference[expected == got] = 0  # infinities
    allowed = np.full_like(difference, SCORE_TOLERANCE)
    sizes = np.abs(expected[:, 2:4]).max(axis=1, keepdims=True)
    allowed[:, :4] = BOX_TOLERANCE * np.where(np.isfinite(sizes), sizes, 0) + BOX_TOLERANCE_PX
    return difference, allowed


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
            f"array {name!r} has another element type", subject=subject, expected="float32", got=match[1], hint=_HINT
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


def check_against_reference(model: str | Path, reference: Path) -> ReferenceCheck:
    """Compare what yoloship makes of a model with what its training environment computes.

    Args:
        model: A checkpoint, whose graph is written as `export` does, an ONNX file with the input form ``float`` and the
            standard output form, or the name of a release.
        reference: A NumPy archive; see `read_reference`.

    Raises:
        YoloshipError: one of them cannot be read, or they do not belong together.
    """
    path, right = resolve(model), read_reference(reference)
    if kind_of(path) == "checkpoint":
        return _checkpoint(path, right)
    from yoloship.detect.preprocess import host_session
    from yoloship.evaluate.artefact import open_artefact

    hw = (right.images.shape[2], right.images.shape[3])
    with open_artefact(path, imgsz=hw) as detector:
        info = detector.info
        form, standard = form_of(info, str(path)), task_of(info, str(path)).standard
        if info.input_form != "float" or form is not standard:
            raise InputError(
                "cannot be held against a reference",
                subject=str(path),
                expected=f"the forms 'float' and {standard.name!r}",
                got=f"{info.input_form!r} and {info.output_form!r}",
                hint=f"give the .pt, or export it with '--input float --output {standard.name}'",
            )
        _check_channels(right, info.channels, str(path))
        outputs = detector.session.outputs
        return compare_reference(right, host_session(detector), form.places(outputs, info)[0], str(path))


def _checkpoint(path: Path, right: Reference) -> ReferenceCheck:
    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, build_graph, graph_bytes
    from yoloship.runtime import RunOptions, open_session
    from yoloship.tasks import info_of

    hw = (right.images.shape[2], right.images.shape[3])
    config = GraphConfig(input_hw=hw, batch=1, input_form="float")
    data = graph_bytes(build_graph(read_checkpoint(path), config))
    with open_session(data, RunOptions(model_name=str(path))) as session:
        _check_channels(right, info_of(session, str(path)).channels, str(path))
        return compare_reference(right, session, 0, str(path))


def _check_channels(right: Reference, channels: int, subject: str) -> None:
    if right.images.shape[1] != channels:
        raise InputError(
            "takes images of another number of channels than the reference has",
            subject=subject,
            expected=str(channels),
            got=str(right.images.shape[1]),
        )
