"""Comparing a model with what the user's own training environment computes.

A checkpoint does not hold its `forward`. If somebody changed that, and nothing else, no reader of the file can see it;
only the numbers show it. So the user runs the model where it was trained, on any images, and keeps input and output.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.errors import InputError
from yoloship.evaluate.reference_file import PROTOTYPES, read_reference
from yoloship.kinds import kind_of
from yoloship.models.releases import resolve
from yoloship.tasks import form_of, info_of, task_of
from yoloship.tasks.decode import rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.evaluate.reference_file import Reference
    from yoloship.model import HeadChoice, ModelInfo
    from yoloship.runtime import Session

    Floats = npt.NDArray[np.float32]


SCORE_TOLERANCE: Final = 1e-4
BOX_TOLERANCE: Final = 1e-3
"""Of the larger side of a box, for its numbers and for those of its keypoints."""
BOX_TOLERANCE_PX: Final = 0.01
OTHER_TOLERANCE: Final = 1e-3
"""For mask coefficients, prototypes and angles; for logits this share of the largest, if that is above 1."""
_BOX: Final = ("box",) * 4
"""Centre and size, the first numbers of a row."""
_IN_PIXELS: Final = frozenset({"box", "keypoint"})


@dataclass(frozen=True, slots=True)
class WorstRow:
    """The row that lies farthest apart, as a multiple of what is allowed.

    Attributes:
        image: Its image, counted from 0.
        row: Its place in the output, counted from 0.
        what: ``box``, ``score``, ``coefficient``, ``keypoint``, ``angle``, or ``class`` for classification.
        expected: What the reference has: centre, size, scores and further columns; or the numbers of the classes.
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
        largest: The largest difference of each kind of number; those of boxes and keypoints are in pixels.
        worst: The row that lies farthest apart.
        prototypes: The largest difference of prototypes as a share of what is allowed; None if they were not compared.
        lacks_prototypes: Whether the model has prototypes and the reference has not.
    """

    images: int
    rows: int
    differing: int
    largest: Mapping[str, float]
    worst: WorstRow
    prototypes: float | None = None
    lacks_prototypes: bool = False

    @property
    def passed(self) -> bool:
        """Whether every row and all prototypes are within what is allowed."""
        return self.differing == 0 and (self.prototypes is None or self.prototypes <= 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "passed": self.passed}


def compare_reference(reference: Reference, session: Session, info: ModelInfo, subject: str) -> ReferenceCheck:
    """Run a model on the reference's images and compare row by row.

    Args:
        reference: What is taken as right.
        session: A model of one float input, (B, C, H, W), and the standard output form.
        info: The model.
        subject: Its name, for messages.

    Raises:
        InputError: the model takes other images, or gives another number of rows or columns.
        SessionError: the runtime failed.
    """
    spec, places = session.inputs[0], form_of(info, subject).places(session.outputs, info)
    batch = spec.shape[0] if isinstance(spec.shape[0], int) else 1
    has_prototypes = info.mask_rule is not None
    if reference.prototypes is not None and not has_prototypes:
        raise InputError(f"has no {PROTOTYPES}, but the reference has", subject=subject, hint="leave them out")
    found: list[tuple[float, WorstRow]] = []
    rows, differing, farthest = 0, 0, None
    largest: dict[str, float] = {}
    for index, (image, right) in enumerate(zip(reference.images, reference.output, strict=True)):
        feed = np.repeat(image[None], batch, axis=0).astype(np.dtype(spec.dtype))
        outputs = session.run({spec.name: feed})
        got, expected = (_by_row(array, info, subject) for array in (outputs[places[0]][0], right))
        if got.shape != expected.shape:
            raise InputError(
                "gives rows of a different shape than the reference", subject=subject,
                expected=str(right.shape), got=str(outputs[places[0]].shape[1:]),
                hint="make the reference with this model, in evaluation mode",
            )  # fmt: skip
        kinds = _kinds(info, got.shape[1])
        difference, allowed = _differences(expected, got, kinds)
        share = difference / allowed
        share[np.isnan(share)] = math.inf
        rows += len(share)
        differing += int((share.max(axis=1) > 1).sum())
        for kind in dict.fromkeys(kinds):
            columns = [place for place, name in enumerate(kinds) if name == kind]
            largest[kind] = max(largest.get(kind, 0.0), float(difference[:, columns].max()))
        row, column = divmod(int(share.argmax()), share.shape[1])
        worst = WorstRow(
            index, row, kinds[column], tuple(map(float, expected[row])), tuple(map(float, got[row])),
            float(difference[row, column]), float(allowed[row, column]),
        )  # fmt: skip
        found.append((float(share[row, column]), worst))
        if reference.prototypes is not None:
            farthest = max(farthest or 0.0, _prototypes(reference.prototypes[index], outputs[places[-1]][0], subject))
    return ReferenceCheck(
        len(reference.images), rows, differing, largest, max(found, key=lambda entry: entry[0])[1], farthest,
        has_prototypes and reference.prototypes is None,
    )  # fmt: skip


def _by_row(output: npt.NDArray[np.generic], info: ModelInfo, subject: str) -> Floats:
    """What a model gives for one image, with a row on each line; the classes of a classification model are one row."""
    numbers = np.asarray(output, np.float32)
    if not info.strides:
        return numbers.reshape(1, -1)
    if numbers.ndim != 2:
        raise InputError(
            "gives rows of a different shape than the reference", subject=subject, expected="two axes for each image",
            got=str(numbers.shape), hint="make the reference with this model, in evaluation mode",
        )  # fmt: skip
    return rows_of(info, subject).by_row(numbers)


def _kinds(info: ModelInfo, columns: int) -> list[str]:
    """What the number in each column of a row is."""
    if not info.strides:
        return ["class" if info.class_scores == "logits" else "score"] * columns
    if info.mask_rule is not None:
        more = ["coefficient"] * info.extra_columns
    elif info.keypoint_shape is not None:
        points, numbers = info.keypoint_shape
        more = ["keypoint", "keypoint", "score"][:numbers] * points
    else:
        more = ["angle"] * info.extra_columns
    return [*_BOX, *["score"] * (columns - len(_BOX) - len(more)), *more]


def _differences(expected: Floats, got: Floats, kinds: Sequence[str]) -> tuple[Floats, Floats]:
    """How far each number lies from the other, and how far it may."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(got - expected)
        difference[expected == got] = 0  # infinities
        sizes = np.abs(expected[:, 2:4]).max(axis=1, initial=0.0)
    in_pixels = BOX_TOLERANCE * np.where(np.isfinite(sizes), sizes, 0) + BOX_TOLERANCE_PX
    allowed = np.full_like(difference, OTHER_TOLERANCE)
    for place, kind in enumerate(kinds):
        if kind in _IN_PIXELS:
            allowed[:, place] = in_pixels
        elif kind == "score":
            allowed[:, place] = SCORE_TOLERANCE
    if "class" in kinds:
        allowed *= _scale(expected)
    return difference, allowed


def _scale(expected: Floats) -> float:
    """The largest number, if it is finite and above 1."""
    finite = np.abs(expected[np.isfinite(expected)])
    return max(1.0, float(finite.max(initial=0.0)))


def _prototypes(expected: Floats, got: npt.NDArray[np.generic], subject: str) -> float:
    """The largest difference as a share of what is allowed."""
    if got.shape != expected.shape:
        raise InputError(
            f"gives {PROTOTYPES} of a different shape than the reference",
            subject=subject,
            expected=str(expected.shape),
            got=str(got.shape),
        )
    share = np.abs(np.asarray(got, np.float32) - expected).max() / (OTHER_TOLERANCE * _scale(expected))
    return float(share) if np.isfinite(share) else math.inf


def check_against_reference(model: str | Path, reference: Path, head: HeadChoice | None = None) -> ReferenceCheck:
    """Compare what yoloship makes of a model with what its training environment computes.

    Args:
        model: A checkpoint, whose graph is written as `export` does, an ONNX file with the input form ``float`` and the
            standard output form, or the name of a release.
        reference: A NumPy archive; see `read_reference`.
        head: Of a checkpoint with two heads, the one that answers; None takes the file's own.

    Raises:
        YoloshipError: one of them cannot be read, or they do not belong together.
    """
    path, right = resolve(model), read_reference(reference)
    if kind_of(path) == "checkpoint":
        return _checkpoint(path, right, head)
    from yoloship.detect.feeds import host_session
    from yoloship.evaluate.artefact import open_artefact

    hw = (right.images.shape[2], right.images.shape[3])
    if head is not None:
        raise InputError("has one head already", subject=str(path), expected="a checkpoint", got=f"head={head!r}")
    with open_artefact(path, imgsz=hw) as detector:
        info = detector.info
        _check_form(info, str(path))
        _check_channels(right, info.channels, str(path))
        return compare_reference(right, host_session(detector), info, str(path))


def _checkpoint(path: Path, right: Reference, head: HeadChoice | None) -> ReferenceCheck:
    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, build_graph, graph_bytes
    from yoloship.graph.known_transform import CLASSIFY, OPEN
    from yoloship.runtime import RunOptions, open_session

    checkpoint = read_checkpoint(path)
    hw = (right.images.shape[2], right.images.shape[3])
    transform = OPEN if checkpoint.task == CLASSIFY else None  # the reference's images went through it already
    config = GraphConfig(input_hw=hw, batch=1, input_form="float", transform=transform, head=head)
    data = graph_bytes(build_graph(checkpoint, config))
    with open_session(data, RunOptions(model_name=str(path))) as session:
        info = info_of(session, str(path))
        _check_form(info, str(path))
        _check_channels(right, info.channels, str(path))
        return compare_reference(right, session, info, str(path))


def _check_form(info: ModelInfo, subject: str) -> None:
    """Refuse a model whose standard form gives its final rows, because small differences change their order."""
    standard = task_of(info, subject).standard
    if info.input_form != "float" or form_of(info, subject) is not standard:
        raise InputError(
            "cannot be compared with a reference",
            subject=subject,
            expected=f"the forms 'float' and {standard.name!r}",
            got=f"{info.input_form!r} and {info.output_form!r}",
            hint=f"give the .pt, or export it with 'yoloship export --input float --output {standard.name}'",
        )


def _check_channels(right: Reference, channels: int, subject: str) -> None:
    if right.images.shape[1] != channels:
        raise InputError(
            "takes images with a different number of channels than the reference",
            subject=subject,
            expected=str(channels),
            got=str(right.images.shape[1]),
        )
