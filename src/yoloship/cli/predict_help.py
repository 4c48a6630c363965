"""The options of ``yoloship predict`` under headings, so that its long help can be read."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import click

OUTPUTS: Final = "Outputs"
OTHERS: Final = "General"
FIRST_OUTPUT: Final = "--output-dir"
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Model": (
            *("--imgsz", "--rect", "--names", "--names-from", "--head", "--alias", "--transform"),
            *("--device", "--decode", "--runtime", "--runtime-precision"),
        ),
        "Images": ("--recursive", "--allow-http", "--allow-private"),
        "What to keep": (
            *("--conf", "--iou", "--agnostic-nms", "--max-det", "--classes", "--retina-masks", "--mask-rule"),
        ),
        "Large images": ("--slice", "--slice-overlap", "--slice-merge", "--no-slice-whole"),
        OUTPUTS: (
            FIRST_OUTPUT,
            "--draw",
            "--hide-labels",
            "--hide-conf",
            "--line-width",
            "--overwrite",
            "--show",
            "--show-at",
        ),
        "Video and cameras": ("--vid-stride", "--live", "--live-timeout", "--live-retries"),
        "Tracking": ("--track", "--zones"),
        "Long runs": ("--resume", "--workers", "--json-progress"),
        OTHERS: ("--quiet", "--help"),
    }
)
"""Heading → options, by their long names and in this order. The options of sinks follow `FIRST_OUTPUT`. An option
that is not here is among the general ones."""


def sections(options: Sequence[click.Parameter]) -> Iterator[tuple[str, list[click.Parameter]]]:
    """Each heading that has options, and those options.

    Args:
        options: The options of a command.
    """
    heading_of = {name: heading for heading, names in SECTIONS.items() for name in names}
    place_of = {name: place for place, name in enumerate(heading_of)}
    found: dict[str, list[tuple[int, click.Parameter]]] = {heading: [] for heading in SECTIONS}
    for option in options:
        name = next((name for name in option.opts if name in heading_of), "")
        is_sink = (option.name or "").startswith("sink_")
        heading = heading_of.get(name, OUTPUTS if is_sink else OTHERS)
        found[heading].append((place_of.get(name or FIRST_OUTPUT, 0), option))
    for heading, placed in found.items():
        if placed:
            yield heading, [option for _, option in sorted(placed, key=lambda pair: pair[0])]  # the sort is stable
