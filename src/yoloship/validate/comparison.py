"""Several models side by side, with their differences from the first: `compared`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.validate.record import Validation


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table of several models.

    Attributes:
        headings: Of its columns.
        rows: One for each model, as text.
        notes: What makes the numbers comparable, or not.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def compared(found: Sequence[Validation]) -> Comparison:
    """Make the table.

    Args:
        found: What was measured, on one dataset; at least one. The others are compared with the first.
    """
    first = found[0]
    classes = first.metric == "top1"
    figures = [("top-1", "top1"), ("top-5", "top5")] if classes else [
        ("mAP 50–95", "map50_95"), ("mAP 50", "map50"), ("precision", "precision"), ("recall", "recall"),
    ]  # fmt: skip
    headings = ["model", "runtime", "precision of layers", "input"]
    for title, _ in figures:
        headings += [title, "Δ"]
    headings += ["ms an image", "×"]
    rows = []
    for one in found:
        row = [one.model, *(str(one.settings.get(key, "")) for key in ("runtime", "precision", "input"))]
        for _, name in figures:
            value, base = getattr(one, name), getattr(first, name)
            row += [f"{value:.4f}", "" if one is first else f"{value - base:+.4f}"]
        spent, base = sum(one.speed_ms.values()), sum(first.speed_ms.values())
        row += [f"{spent:.1f}" if spent else "", "" if one is first or not spent else f"{base / spent:.2f}"]
        rows.append(tuple(row))
    return Comparison(tuple(headings), tuple(rows), tuple(_notes(found)))


def _notes(found: Sequence[Validation]) -> list[str]:
    seen = dict.fromkeys((one.settings.get("input", ""), one.settings.get("preprocessing", "")) for one in found)
    if len(seen) == 1:
        ((size, steps),) = seen
        return [f"All models see the same input: {size}, {steps}. Differences are the models' own."]
    sizes, steps = "; ".join(dict.fromkeys(size for size, _ in seen)), "; ".join(dict.fromkeys(how for _, how in seen))
    return [
        "The models do not see the same input, so a part of each difference is the input's.",
        f"Inputs: {sizes}. Preprocessing: {steps}.",
    ]
