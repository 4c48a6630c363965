"""The rows of an output that may be decoded boxes: `examine` finds their levels, or says what else they seem to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.words import counted
from yoloship.errors import SessionError
from yoloship.pipeline.grids import find_levels, fits_rows, seems

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.pipeline.grids import Level

    Floats = npt.NDArray[np.floating[Any]]

STANDARD_FORM: Final = "one input (B, 3, H, W) and an output (B, N, 5 + classes), as YOLOv5 exports have"
_ZERO_PX: Final = 1e-3
_SHARE: Final = 0.999
_LEAST_SHARE: Final = 0.5
_UNLIKELY: Final = 0.01
_EXTRA_COLUMNS: Final = (
    (1, "an angle (oriented boxes)"),
    (180, "180 angle classes (oriented boxes)"),
    (10, "5 landmarks"),
    (15, "5 landmarks with their scores"),
    (32, "32 mask coefficients (segmentation)"),
    (51, "17 keypoints"),
)
"""What the field appends to the columns of a row."""


def unknown_form_error(subject: str, got: str, hint: str | None = None) -> SessionError:
    """The error for a model of a form that the pipeline does not know."""
    return SessionError(
        "is not a detection model of a form known here",
        subject=subject,
        expected=f"{STANDARD_FORM}, or a file from 'yoloship export'",
        got=got,
        hint=hint or "export it again from its .pt: 'yoloship export' writes the plain form, without suppression",
    )


def anchor_free_error(subject: str, got: str) -> SessionError:
    """The error for the output of a model without anchors."""
    return SessionError(
        "has the output (B, 4 + classes, N) of YOLOv8 and later, which is not supported yet",
        subject=subject,
        expected=STANDARD_FORM,
        got=got,
    )


def examine(raw: Floats, input_hw: tuple[int, int], names: tuple[str, ...] | None, subject: str) -> tuple[Level, ...]:
    """The levels of a decoded output.

    Raises:
        SessionError: it is of another form; the message names it.
    """
    shape = f"(B, {raw.shape[1]}, {raw.shape[2]})"
    transposed = raw.shape[1] < raw.shape[2] and fits_rows(raw.shape[2], input_hw, max_anchors=1)
    if transposed or (names is not None and raw.shape[1] == 4 + len(names) < raw.shape[2]):
        raise anchor_free_error(subject, shape)
    if raw.shape[1] < raw.shape[2] and find_levels(raw[0, :4].T, input_hw) is not None:
        raise unknown_form_error(
            subject,
            f"the transposed output {shape}: (B, 5 + classes, N)",
            "export it again without the transposition of its output",
        )
    if raw.shape[2] < 6:
        raise unknown_form_error(subject, f"an output {raw.dtype}{raw.shape}")
    levels = find_levels(raw[0, :, :4], input_hw)
    if levels is None:
        what = seems(raw[0], input_hw)
        at = f"{input_hw[0]}×{input_hw[1]} image"
        if what is None and not fits_rows(raw.shape[1], input_hw):
            raise unknown_form_error(subject, f"{raw.shape[1]} rows, which fit no grid of a {at}")
        raise unknown_form_error(subject, f"boxes that are {what or f'not around the cells of a {at}'}")
    if names is not None and raw.shape[2] != 5 + len(names):
        raise unknown_form_error(
            subject,
            f"{counted(len(names), 'class name')} beside an output {shape}{_extra(raw.shape[2] - 5 - len(names))}",
            "if the names are wrong, give others with --names (class_names in Python)",
        )
    _check_numbers(raw, levels, subject)
    return levels


def _extra(columns: int) -> str:
    words = dict(_EXTRA_COLUMNS).get(columns)
    return f", {columns} column{'s'[: columns != 1]} too many: perhaps {words}" if words else ""


def _check_numbers(raw: Floats, levels: tuple[Level, ...], subject: str) -> None:
    """Refuse scores that are not, and a level whose boxes have no size."""
    scores = raw[..., 4:]
    if not (np.isfinite(scores).all() and scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3):
        raise unknown_form_error(subject, "scores outside 0 to 1")
    if (scores[..., 0] == 1).all():
        raise unknown_form_error(subject, "an objectness of 1 everywhere, as YOLOv6 exports have")
    if _is_multiplied(scores):
        raise unknown_form_error(
            subject,
            "class scores below the objectness in every row, as if they were multiplied with it already",
            "export it again without that multiplication: detection multiplies them, and would do it twice",
        )
    for level in levels:
        if (np.abs(raw[:, level.rows, 2:4]) < _ZERO_PX).all():
            raise SessionError(
                f"every box of the level with stride {level.stride} has zero size, so its objects are lost: "
                "it was exported with a stale anchor grid",
                subject=subject,
                hint="export it again from its .pt with 'yoloship export'",
            )


def _is_multiplied(scores: Floats) -> bool:
    """Whether the class scores (B, N, 1 + C) hold the objectness already.

    A grey image shows no object, so objectness is near 0 and hardly a class score lies below it: in 7 trained models
    none, in 45 random ones up to 59 % of the rows. Of products all do, except for those that are rounded to 0.
    """
    objectness, best = scores[..., 0], scores[..., 1:].max(axis=-1)
    return bool((best > objectness).mean() <= 1 - _SHARE and (best < objectness).mean() >= _LEAST_SHARE)


def check_objectness(raw: Floats, subject: str) -> None:
    """Refuse an output that nobody has named the classes of, if its columns seem to be class scores alone.

    Class scores are learnt from objects only, each of one class, so the best of C is seldom far below 1 / C. In seven
    trained models its median over a grey image is between 0.18 and 1. Products with the objectness are near 0 there.

    Raises:
        SessionError: they seem to be such products.
    """
    best = raw[..., 5:].max(axis=-1)
    if 0 < np.median(best) < _UNLIKELY / (raw.shape[2] - 5):  # zeros are what a network without weights gives
        raise unknown_form_error(
            subject,
            f"scores near 0 in every column on a grey image: (B, {raw.shape[1]}, {raw.shape[2]}) seems to be "
            "(B, N, 4 + classes)",
            f"if it has an objectness, name its {raw.shape[2] - 5} classes with --names (class_names in Python)",
        )
