"""The figures of `gpu_media.py` in Markdown: what was to be shown, what was found, and on which machine.

python bench/media_table.py first.json second.json two.json      # where several have a figure, the last one counts
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

GOALS = (
    ("folder of JPEGs, over the way before", "folder", "folder over the way before"),
    ("folder of JPEGs, over decoding by the CPU", "folder", "folder over decoding by the CPU"),
    ("folder of JPEGs, over the decoder or the network", "folder", "folder over the slower of decoder and network"),
    ("one file over an array, 810×1080", "file", "file over array 810×1080"),
    ("8 videos of 1080p, over NVDEC alone", "video", "video over NVDEC alone, 8 files"),
    ("cameras at 30 frames a second", "cameras", "cameras at 30/s, p99 ≤ 50 ms, one GPU"),
    ("their p99", "cameras", "p99 at that number, one GPU"),
    ("their lost frames", "cameras", "frames lost at that number, one GPU"),
    ("batches of 32, pinned, share of the network alone", "shares", "pinned share, batch 32, 4 streams"),
    ("batches of 32, pageable, share of the network alone", "shares", "pageable share, batch 32, 4 streams"),
    ("one pinned frame over the network", "shares", "pinned 810x1080 over the network"),
    ("one pageable frame over the network", "shares", "pageable 810x1080 over the network"),
    ("first folder run over the second", "first", "first run over the second"),
    ("JPEGs of all kinds with another answer than the CPU's", "equal", "JPEGs with another answer"),
    ("frames from 8 videos", "soak", "frames of numbered videos"),
    ("of them with a wrong result", "soak", "frames with another number"),
    ("of them with an error", "soak", "frames with an error"),
    ("videos with frames missing or out of order", "soak", "videos with frames missing or out of order"),
    ("device memory that they added", "soak", "device memory grown after a third"),
    ("host memory that they added", "soak", "host memory grown after a third"),
    ("two GPUs over one, arrays", "several", "two GPUs over one, arrays"),
    ("two GPUs over one, files", "several", "two GPUs over one, files"),
)  # fmt: skip
"""What a line is called, its part, and how its row begins there."""


def main(paths: list[str]) -> None:
    print(table([json.loads(Path(path).read_text()) for path in paths]))


def table(reports: list[dict[str, Any]]) -> str:
    """One text for all of them."""
    lines = []
    for report in reports:
        versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version != "absent")
        parts = ", ".join(f"{name} {part['seconds']:.0f} s" for name, part in report["parts"].items())
        lines += [
            f"{report['device']}, {report['cores']} cores of {report['processor']}, commit {report['commit']}, "
            f"{report['began']}. Python {report['python']}; {versions}. {report.get('driver', '')}",
            f"Parts: {parts}.",
            "",
        ]
    parts_of = {name: part for report in reports for name, part in report["parts"].items() if part["rows"]}
    lines += ["| | wanted | found | |", "| --- | --- | --- | --- |"]
    for words, name, start in GOALS:
        row = next((row for row in parts_of.get(name, {"rows": ()})["rows"] if row["name"].startswith(start)), None)
        wanted, is_met = ("", None) if row is None else judged(row)
        verdict = "not measured" if row is None else "" if is_met is None else "met" if is_met else "**missed**"
        if is_met is not None and not all(report.get("judged", True) for report in reports):
            verdict = "not judged"
        lines.append(f"| {words} | {wanted} | {'' if row is None else _value(row)} | {verdict} |")
    for report in reports:
        for name, part in report["parts"].items():
            lines += ["", f"## {name}: {part['ended']}", ""]
            if part["rows"]:
                lines += ["| | |", "| --- | --- |"]
                lines += [f"| {row['name']} | {_value(row)} |" for row in part["rows"]]
    return "\n".join(lines)


def judged(row: dict[str, Any]) -> tuple[str, bool | None]:
    """The bound of a row, and whether it is met; an empty text and None for a row without one."""
    least, most = row["at_least"], row["at_most"]
    if least is not None:
        return f"≥ {least:g}", row["value"] >= least
    if most is not None:
        return f"≤ {most:g}", row["value"] <= most
    return "", None


def _value(row: dict[str, Any]) -> str:
    value = row["value"]
    number = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{number} {row['unit']}".strip()


if __name__ == "__main__":
    main(sys.argv[1:])
