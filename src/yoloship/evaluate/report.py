"""A verification for people: rows of a table, and a picture of where scores and overlaps lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from yoloship.evaluate.reference import ReferenceCheck
    from yoloship.evaluate.verification import Side, Verification

    Image = npt.NDArray[np.uint8]

_SIDE: Final = 420
_MARGIN: Final = 70
_INK, _PALE, _BLUE, _RED = (40, 40, 40), (225, 225, 225), (180, 110, 40), (60, 60, 210)
"""BGR."""
_IOU_BINS: Final = ((0.5, 0.8), (0.8, 0.9), (0.9, 0.95), (0.95, 0.98), (0.98, 0.99), (0.99, 1.0))


def facts(verification: Verification) -> Iterator[tuple[str, str]]:
    """Name and value, line by line."""
    for letter, side in zip("AB", verification.sides, strict=True):
        yield letter, _side(side)
    yield "images", str(verification.pictures)
    for level in verification.levels:
        yield (
            f"stride {level.stride}",
            f"score differs by {level.score_mean:.2g} in the mean, {level.score_max:.2g} at most; "
            f"box side by {level.box_mean_px:.2g} px, {level.box_max_px:.2g} px at most, on {level.relevant} cells",
        )
    agreement, threshold = verification.agreement, f"{verification.score_threshold:g}"
    for letter, other, count, seen in (
        ("A", "B", agreement.first_count, agreement.first_seen),
        ("B", "A", agreement.second_count, agreement.second_seen),
    ):
        found = f"{count} with a score of {threshold} or more"
        yield f"{letter}'s detections", f"{found}; {other} finds {seen} of them, some perhaps with a lower score"
    if verification.ious:
        yield "pairs", _pairs(verification)
        yield "IoU of pairs", _spread(verification.ious, low=True)
        differences = [abs(a - b) for a, b in verification.scores]
        yield "score differences", _spread(differences, low=False)
    for check in verification.checks:
        bound = "at least" if check.is_floor else "at most"
        yield ("pass" if check.passed else "FAIL"), f"{check.name} {check.value:.4g}, allowed {bound} {check.limit:g}"


def reference_facts(check: ReferenceCheck) -> Iterator[tuple[str, str]]:
    """Name and value, line by line."""
    worst = check.worst
    yield "images", str(check.images)
    yield "rows", f"{check.rows - check.differing} of {check.rows} agree"
    yield "largest differences", f"scores by {check.score_max:.2g}, boxes by {check.box_max_px:.2g} px"
    yield (
        "worst row",
        f"row {worst.row} of image {worst.image}: {worst.what} by {worst.difference:.4g}, allowed {worst.allowed:.4g}",
    )
    yield "expected", _numbers(worst.expected)
    yield "got", _numbers(worst.got)
    yield ("pass" if check.passed else "FAIL"), "the graph computes what the training environment does"


def _numbers(row: tuple[float, ...]) -> str:
    shown = ", ".join(f"{number:.5g}" for number in row[:4])
    scores = ", ".join(f"{number:.4f}" for number in row[4:10])
    return f"box {shown}; scores {scores}{' …' if len(row) > 10 else ''}"


def _side(side: Side) -> str:
    text = (
        f"{side.name}: {side.precision}, {side.output_form}, {side.session}, {counted(side.detections, 'detection')}, "
    )
    text += f"{side.run_ms:.1f} ms the model, {side.total_ms:.1f} ms in all"
    return text if side.map50_95 is None else f"{text}, mAP {side.map50_95:.4f}"


def _spread(values: tuple[float, ...] | list[float], *, low: bool) -> str:
    array = np.array(values)
    tail = np.percentile(array, 5 if low else 95)
    worst = array.min() if low else array.max()
    return f"{array.mean():.4f} in the mean, {tail:.4f} for 95%, {worst:.4f} the worst"


def _pairs(verification: Verification) -> str:
    """Which of the two found each pair at the threshold: a pair counts if either did."""
    threshold = verification.score_threshold
    above = [(a >= threshold, b >= threshold) for a, b in verification.scores]
    text = f"{len(above)}: {above.count((True, True))} reach {threshold:g} in both"
    for words, key in (("in A only", (True, False)), ("in B only", (False, True))):
        if count := above.count(key):
            text += f", {count} {words}"
    return text


def plot(verification: Verification) -> Image:
    """Draw the pairs: scores of one against the other, and how their overlaps are spread.

    Returns:
        (height, width, 3) uint8 BGR; the caller owns it.
    """
    canvas = np.full((_SIDE + 2 * _MARGIN, 2 * _SIDE + 3 * _MARGIN, 3), 255, np.uint8)
    _scatter(canvas, verification)
    _histogram(canvas, verification)
    return canvas


def _scatter(canvas: Image, verification: Verification) -> None:
    import cv2

    left, top = _MARGIN, _MARGIN
    for tenth in (0, 25, 50, 75, 100):
        offset = _SIDE * tenth // 100
        cv2.line(canvas, (left + offset, top), (left + offset, top + _SIDE), _PALE, 1)
        cv2.line(canvas, (left, top + offset), (left + _SIDE, top + offset), _PALE, 1)
        _text(canvas, f"{tenth / 100:g}", (left + offset - 12, top + _SIDE + 22))
        _text(canvas, f"{1 - tenth / 100:g}", (left - 44, top + offset + 5))
    _frame(canvas, left, top, "score: B over A")
    cv2.line(canvas, (left, top + _SIDE), (left + _SIDE, top), _INK, 1, cv2.LINE_AA)
    for first, second in verification.scores:
        centre = (left + round(first * _SIDE), top + round((1 - second) * _SIDE))
        colour = _BLUE if abs(first - second) <= 0.05 else _RED
        cv2.circle(canvas, centre, 3, colour, -1, cv2.LINE_AA)


def _histogram(canvas: Image, verification: Verification) -> None:
    import cv2

    left, top = _SIDE + 2 * _MARGIN, _MARGIN
    _frame(canvas, left, top, f"IoU of {len(verification.ious)} pairs")
    values = np.array(verification.ious)
    width = _SIDE // len(_IOU_BINS)
    for place, (low, high) in enumerate(_IOU_BINS):
        inside = (values >= low) & ((values < high) if high < 1 else (values <= 1))
        share = inside.mean() if len(values) else 0.0
        x, y = left + place * width, top + _SIDE - round(share * _SIDE)
        cv2.rectangle(canvas, (x + 6, y), (x + width - 6, top + _SIDE), _BLUE, -1)
        _text(canvas, f"{low:g}-{high:g}", (x + 2, top + _SIDE + 22), 0.38)
        _text(canvas, str(int(inside.sum())), (x + width // 2 - 10, y - 8))


def _frame(canvas: Image, left: int, top: int, title: str) -> None:
    import cv2

    cv2.rectangle(canvas, (left, top), (left + _SIDE, top + _SIDE), _INK, 1)
    _text(canvas, title, (left, top - 14), 0.6)


def _text(canvas: Image, text: str, place: tuple[int, int], scale: float = 0.45) -> None:
    import cv2

    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
