"""Whether the values of a report fit together: `check_consistency`, for reports whose fields have the right types.

A report that says "passed" and shows a difference above its limit was edited, or comes from a program with a fault.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import TYPE_CHECKING, Any, Final, get_args

from yoloship.engine.config import HardwareCompatibility
from yoloship.engine.flavours import FLAVOUR_NAMES
from yoloship.errors import InputError
from yoloship.evaluate.measures import BOXES, MEASURES
from yoloship.kinds import MODEL_KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from yoloship.evaluate.measure import Measure

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+_-]{0,63}")
_COMPUTE_CAPABILITY: Final = re.compile(r"sm[0-9]{2,3}")
_KINDS: Final[frozenset[Kind]] = MODEL_KINDS | {"unknown"}
"""An ONNX file of an unusual form is of no known kind."""
_ROUNDING: Final = 1e-6
"""How far apart two ways to compute one number may be."""


def check_consistency(proof: Mapping[str, Any], subject: str) -> None:
    """Refuse a report that contradicts itself.

    Args:
        proof: A report with all fields, each of its type.
        subject: The file's name.

    Raises:
        InputError: a value is impossible, or two values contradict each other. It names the field.
    """
    for where, problem, got in _problems(proof):
        raise InputError(f"report.{where} {problem}", subject=subject, got=str(got)[:60])


def _problems(proof: Mapping[str, Any]) -> Iterator[tuple[str, str, object]]:
    """Field, what is wrong with it, and what it is; the first one counts."""
    yield from _of_versions(proof)
    yield from _negatives("", proof)
    if not _is_date(proof["date"]):
        yield "date", "is not a day that has begun", proof["date"]
    if proof["images"] < 1:
        yield "images", "must be at least 1", proof["images"]
    if not _is_share(proof["score_threshold"]):
        yield "score_threshold", "must be between 0 and 1", proof["score_threshold"]
    measure = MEASURES.get(proof["task"], BOXES)
    for number, side in enumerate(proof["sides"]):
        yield from _of_side(f"sides[{number}]", side)
    for number, level in enumerate(proof["levels"]):
        if level["relevant"] > level["cells"]:
            yield f"levels[{number}].relevant", f"is more than the {level['cells']} cells", level["relevant"]
    yield from _of_counts(proof, measure)
    for name, value in (proof["overlaps"] or {}).items():
        if name != "count" and not _is_share(value):
            yield f"overlaps.{name}", "must be between 0 and 1", value
    yield from _of_spread("overlaps", proof["overlaps"], -1)
    yield from _of_spread("score_differences", proof["score_differences"], 1)
    yield from _of_checks(proof, measure)


def _of_versions(proof: Mapping[str, Any]) -> Iterator[tuple[str, str, object]]:
    machine = proof["machine"]
    versions = {"yoloship": proof["yoloship"], "machine.python": machine["python"]}
    versions |= {f"machine.packages.{name}": number for name, number in machine["packages"].items()}
    versions |= {f"machine.gpus[{number}].cuda": gpu["cuda"] for number, gpu in enumerate(machine["gpus"])}
    for where, version in versions.items():
        if not _VERSION.fullmatch(version):
            yield where, "is not a version", version
    for number, gpu in enumerate(machine["gpus"]):
        if not _COMPUTE_CAPABILITY.fullmatch(gpu["compute_capability"]):
            yield f"machine.gpus[{number}].compute_capability", "is not of the form sm89", gpu["compute_capability"]


def _negatives(where: str, value: Any) -> Iterator[tuple[str, str, object]]:
    """Every number below zero. Only a check may have one: a model that is better than the first loses less than 0."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if key != "checks":
                yield from _negatives(f"{where}.{key}" if where else key, entry)
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _negatives(f"{where}[{number}]", entry)
    elif isinstance(value, int | float) and value < -_ROUNDING:
        yield where, "must not be negative", value


def _is_date(text: str) -> bool:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        return False
    return bool(_DATE.fullmatch(text)) and day <= dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=1)


def _is_share(value: float | None) -> bool:
    return value is None or -_ROUNDING <= value <= 1 + _ROUNDING


def _of_side(where: str, side: Mapping[str, Any]) -> Iterator[tuple[str, str, object]]:
    if side["kind"] not in _KINDS:
        yield f"{where}.kind", f"must be one of {', '.join(sorted(_KINDS))}", side["kind"]
    if side["input_hw"] is not None and (len(side["input_hw"]) != 2 or 0 in side["input_hw"]):
        yield f"{where}.input_hw", "is not a height and a width", side["input_hw"]
    if not _is_share(side["accuracy"]):
        yield f"{where}.accuracy", "must be between 0 and 1", side["accuracy"]
    engine = side["engine"]
    if engine is None:
        return
    if side["kind"] != "engine":
        yield f"{where}.engine", "describes an engine, but the file is of another kind", side["kind"]
    if engine["flavour"] not in FLAVOUR_NAMES:
        yield f"{where}.engine.flavour", f"must be one of {', '.join(FLAVOUR_NAMES)}", engine["flavour"]
    if engine["hardware_compatibility"] not in get_args(HardwareCompatibility):
        yield f"{where}.engine.hardware_compatibility", "is unknown", engine["hardware_compatibility"]
    if not _VERSION.fullmatch(engine["version"]):
        yield f"{where}.engine.version", "is not a version", engine["version"]
    for number, profile in enumerate(engine["profiles"]):
        extents = tuple(zip(profile["minimum"], profile["optimum"], profile["maximum"], strict=False))
        if any(len(shape) != len(extents) for shape in profile.values()) or any(
            list(extent) != sorted(extent) for extent in extents
        ):
            yield f"{where}.engine.profiles[{number}]", "is not a smallest, usual and largest shape", profile


def _of_counts(proof: Mapping[str, Any], measure: Measure) -> Iterator[tuple[str, str, object]]:
    agreement, overlaps, differences = proof["agreement"], proof["overlaps"], proof["score_differences"]
    for number, name in enumerate(("first", "second")):
        count, seen = agreement[f"{name}_count"], agreement[f"{name}_seen"]
        if seen > count:
            yield f"agreement.{name}_seen", f"is more than the {count} that were found", seen
        if count != proof["sides"][number]["detections"]:
            found = proof["sides"][number]["detections"]
            yield f"agreement.{name}_count", f"differs from the {found} detections of sides[{number}]", count
    if proof["overlap"] != measure.overlap_title:
        yield "overlap", f"is {measure.overlap_title!r} for the task {proof['task']}", proof["overlap"]
    if overlaps is not None and not measure.overlap_title:
        yield "overlaps", f"cannot be: a model of the task {proof['task']} has none", overlaps["count"]
    if measure.overlap_title and (overlaps or {}).get("count") != (differences or {}).get("count"):
        yield "score_differences", "are of other pairs than the overlaps", (differences or {}).get("count")
    if not measure.overlap_title and (differences or {}).get("count") != proof["images"]:
        yield "score_differences", f"are not of the {proof['images']} images", (differences or {}).get("count")


def _of_spread(where: str, spread: Mapping[str, Any] | None, sign: int) -> Iterator[tuple[str, str, object]]:
    """A mean and a tail that are worse than the worst, which is the largest if the sign is 1."""
    if spread is None:
        return
    if spread["count"] < 1:
        yield f"{where}.count", "must be at least 1", spread["count"]
    for name in ("mean", "tail", "worst"):
        if None not in {spread[name], spread["worst"]} and sign * (spread[name] - spread["worst"]) > _ROUNDING:
            yield f"{where}.{name}", f"is worse than the worst, {spread['worst']}", spread[name]


def _of_checks(proof: Mapping[str, Any], measure: Measure) -> Iterator[tuple[str, str, object]]:
    due = dict(_due(proof, measure))
    details = {f"mean {detail['name']}": detail["mean"] for detail in proof["details"]}
    known = due | details | {f"{name} of pairs": mean for name, mean in details.items()}
    for number, check in enumerate(proof["checks"]):
        where, value, limit = f"checks[{number}]", check["value"], check["limit"]
        if check["name"] not in known:
            yield f"{where}.name", "is not a check of this task", check["name"]
        elif not _equal(value, known[check["name"]]):
            yield f"{where}.value", f"differs from the report, which says {known[check['name']]}", value
        if check["is_floor"] != (not check["name"].endswith(("difference", " lost"))):
            yield f"{where}.is_floor", f"is wrong for {check['name']!r}", check["is_floor"]
        if limit is None:
            yield f"{where}.limit", "is missing", limit
        within = None not in {value, limit} and (value >= limit if check["is_floor"] else value <= limit)
        if check["passed"] != within:
            yield f"{where}.passed", f"contradicts the value {value} and the limit {limit}", check["passed"]
    if missing := [name for name in due if name not in {check["name"] for check in proof["checks"]}]:
        yield "checks", f"have no {missing[0]!r}", len(proof["checks"])
    if proof["passed"] != all(check["passed"] for check in proof["checks"]):
        yield "passed", "contradicts the checks", proof["passed"]


def _due(proof: Mapping[str, Any], measure: Measure) -> Iterator[tuple[str, float | None]]:
    """Names and values of the checks that a report must have, as `yoloship.evaluate.verification.judge` makes them."""
    agreement = proof["agreement"]
    total = agreement["first_count"] + agreement["second_count"]
    yield "agreement", (agreement["first_seen"] + agreement["second_seen"]) / total if total else 1.0
    if measure.overlap_title:
        yield f"{measure.counted[1]} compared", total
    if proof["overlaps"] is not None:
        yield f"mean {measure.overlap_title} of pairs", proof["overlaps"]["mean"]
        yield "mean score difference", proof["score_differences"]["mean"]
    right, judged = (side["accuracy"] for side in proof["sides"])
    if right is not None and judged is not None:
        yield f"{measure.title} lost", right - judged


def _equal(one: float | None, other: float | None) -> bool:
    return one == other or (None not in {one, other} and math.isclose(one or 0, other or 0, abs_tol=_ROUNDING))
