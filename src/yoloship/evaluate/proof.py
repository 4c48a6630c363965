"""The report of a verification that a user can send to us: what was compared, on what, and how far it differed.

It is meant for models on hardware that we do not have. So it contains versions, the GPU and the numbers, and nothing
about the user: no path, no file name, no name of a host or a user, no class name, no weight, no hash of a model.
`read_proof` accepts these fields and no others, so a report cannot grow something that nobody looked at.
"""

from __future__ import annotations

import datetime as dt
import math
import platform
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.reading import read_bounded
from yoloship._util.strict_json import parse_strict_json, with_finite_numbers
from yoloship._version import __version__
from yoloship.cuda.device import find_gpus
from yoloship.engine import read_engine, runs_on
from yoloship.errors import InputError
from yoloship.evaluate.proof_consistency import check_consistency
from yoloship.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from yoloship.evaluate.verification import Side, Verification

FORMAT: Final = "yoloship proof 1"
MAX_BYTES: Final = 1 << 20
_MAX_ENTRIES: Final = 1000
_MAX_CHARS: Final = 500
_MAX_WHOLE: Final = 1 << 53
"""The largest whole number that every reader of JSON takes exactly (RFC 8259, section 6)."""
_PACKAGES: Final = (
    "tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "tensorrt-lean", "onnxruntime", "onnxruntime-gpu",
    "cuda-bindings", "numpy",
)  # fmt: skip

_NUMBER: Final = (int, float, NoneType)
"""None is a number that is not finite, which JSON cannot express: engines in half precision give some."""
_SPREAD: Final = {"count": int, "mean": _NUMBER, "tail": _NUMBER, "worst": _NUMBER}
_PROFILE: Final = {"minimum": [int], "optimum": [int], "maximum": [int]}
_ENGINE: Final = {
    "flavour": str,
    "version": str,
    "built_on": (str, NoneType),
    "runs_on": str,
    "dtypes": [str],
    "profiles": [_PROFILE],
    "targets": [str],
    "hardware_compatibility": str,
    "version_compatible": bool,
    "optimization_level": (int, NoneType),
}
_SIDE: Final = {
    "kind": str,
    "runtime": str,
    "precision": str,
    "output_form": str,
    "input_hw": ([int], NoneType),
    "detections": int,
    "run_ms": _NUMBER,
    "total_ms": _NUMBER,
    "accuracy": _NUMBER,
    "engine": (_ENGINE, NoneType),
}
_GPU: Final = {"name": str, "compute_capability": str, "memory_gib": _NUMBER, "cuda": str, "integrated": bool}
_SHAPE: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "format": str,
        "date": str,
        "yoloship": str,
        "machine": {"system": str, "architecture": str, "python": str, "gpus": [_GPU], "packages": {str: str}},
        "task": str,
        "images": int,
        "score_threshold": _NUMBER,
        "sides": [_SIDE],
        "levels": [
            {
                "stride": int,
                "cells": int,
                "score_max": _NUMBER,
                "score_mean": _NUMBER,
                "relevant": int,
                "box_max_px": _NUMBER,
                "box_mean_px": _NUMBER,
            }
        ],
        "agreement": {"first_count": int, "second_count": int, "first_seen": int, "second_seen": int},
        "overlap": str,
        "overlaps": (_SPREAD, NoneType),
        "score_differences": (_SPREAD, NoneType),
        "details": [{"name": str, "unit": str, "mean": _NUMBER, "worst": _NUMBER}],
        "checks": [{"name": str, "value": _NUMBER, "limit": _NUMBER, "is_floor": bool, "passed": bool}],
        "passed": bool,
    }
)
"""Every field of a report, and its type. A list has entries of one form, and a tuple is a choice."""


def proof_of(verification: Verification, files: Sequence[Path]) -> dict[str, Any]:
    """The report of a verification as plain data.

    Args:
        verification: What came out.
        files: The files of both sides, in their order.
    """
    overlaps = np.array(verification.ious)
    differences = np.array([abs(one - other) for one, other in verification.scores])
    proof = {
        "format": FORMAT,
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "yoloship": __version__,
        "machine": machine_facts(),
        "task": verification.task,
        "images": verification.images,
        "score_threshold": verification.score_threshold,
        "sides": [_side(side, file) for side, file in zip(verification.sides, files, strict=True)],
        "levels": [asdict(level) for level in verification.levels],
        "agreement": asdict(verification.agreement),
        "overlap": verification.measure.overlap_title,
        "overlaps": _spread(overlaps, 5, "min"),
        "score_differences": _spread(differences, 95, "max"),
        "details": [
            {"name": detail.name, "unit": detail.unit, "mean": float(detail.mean), "worst": float(detail.worst)}
            for detail in verification.details
        ],
        "checks": [
            {
                "name": check.name,
                "value": float(check.value),
                "limit": float(check.limit),
                "is_floor": check.is_floor,
                "passed": bool(check.passed),
            }
            for check in verification.checks
        ],
        "passed": verification.passed,
    }
    found: dict[str, Any] = with_finite_numbers(proof)
    return found


def machine_facts() -> dict[str, Any]:
    """System, GPUs and versions, without a name of the machine or of its user."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "gpus": [
            {
                "name": gpu.name,
                "compute_capability": gpu.sm,
                "memory_gib": round(gpu.memory_bytes / 2**30, 1),
                "cuda": ".".join(map(str, gpu.cuda_version)),
                "integrated": gpu.integrated,
            }
            for gpu in find_gpus()
        ],
        "packages": dict(_versions()),
    }


def proof_rows(proof: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of what ran the models, line by line; the differences are in `reports.facts`."""
    machine = proof["machine"]
    for gpu in machine["gpus"]:
        shared = ", memory shared with the CPU" if gpu["integrated"] else ""
        yield "gpu", f"{gpu['name']}, {gpu['compute_capability']}, {gpu['memory_gib']} GiB{shared}, CUDA {gpu['cuda']}"
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    yield "versions", f"yoloship {proof['yoloship']}, {packages}, Python {machine['python']}"
    yield "system", f"{machine['system']} {machine['architecture']}"
    for letter, side in zip("AB", proof["sides"], strict=True):
        if (engine := side["engine"]) is not None:
            built_on = f", on {engine['built_on']}" if engine["built_on"] else ""
            yield (
                f"engine {letter}",
                f"built by {engine['flavour']} {engine['version']}{built_on}, for {engine['runs_on']}",
            )


def read_proof(path: Path) -> dict[str, Any]:
    """Read a report that somebody sent.

    Args:
        path: The file.

    Raises:
        InputError: it is not such a report: too large, not JSON, or with a field that is missing, unknown, doubled or
            of another type, with a number that is not finite, or with values that contradict each other.
    """
    data = read_bounded(path, MAX_BYTES, error=InputError, wanted="a report of yoloship verify")
    try:
        proof = parse_strict_json(data)
    except (ValueError, RecursionError) as error:
        raise InputError("is not valid JSON", subject=str(path)) from error
    if not isinstance(proof, dict) or proof.get("format") != FORMAT:
        found = proof.get("format") if isinstance(proof, dict) else type(proof).__name__
        raise InputError("is not a report of yoloship verify", subject=str(path), expected=FORMAT, got=str(found)[:60])
    _check(proof, dict(_SHAPE), "report", str(path))
    if len(proof["sides"]) != 2:
        raise InputError(
            "report.sides has a wrong length", subject=str(path), expected="2", got=str(len(proof["sides"]))
        )
    check_consistency(proof, str(path))
    return proof


def _check(value: Any, shape: Any, where: str, subject: str) -> None:
    if isinstance(shape, tuple):
        shape = next((one for one in shape if _is_of(value, one)), shape[0])
    if not _is_of(value, shape):
        raise InputError(f"{where} has a wrong type", subject=subject, got=type(value).__name__)
    if isinstance(value, int) and abs(value) > _MAX_WHOLE:
        raise InputError(f"{where} is too large", subject=subject, expected=f"at most {_MAX_WHOLE}")
    if isinstance(value, float) and not math.isfinite(value):  # 1e999 is JSON
        raise InputError(f"{where} is not a finite number", subject=subject, got=str(value))
    if isinstance(value, str | list | dict) and len(value) > (_MAX_CHARS if isinstance(value, str) else _MAX_ENTRIES):
        raise InputError(f"{where} is too long", subject=subject, got=str(len(value)))
    if isinstance(shape, list):
        for number, entry in enumerate(value):
            _check(entry, shape[0], f"{where}[{number}]", subject)
    elif isinstance(shape, dict) and str in shape:
        for key, entry in value.items():
            _check(key, str, f"{where}, a name", subject)
            _check(entry, shape[str], f"{where}.{key}", subject)
    elif isinstance(shape, dict):
        if value.keys() != shape.keys():
            odd = ", ".join(sorted(map(str, value.keys() ^ shape.keys())))
            raise InputError(f"{where} has other fields", subject=subject, got=odd[:200])
        for key, one in shape.items():
            _check(value[key], one, f"{where}.{key}", subject)


def _is_of(value: Any, shape: Any) -> bool:
    if isinstance(shape, list | dict):
        return isinstance(value, type(shape))
    return isinstance(value, shape) and (shape is bool or not isinstance(value, bool))


def _side(side: Side, file: Path) -> dict[str, Any]:
    kind = kind_of(file)
    return {
        "kind": kind,
        "runtime": side.session,
        "precision": side.precision,
        "output_form": side.output_form,
        "input_hw": None if side.input_hw is None else list(side.input_hw),
        "detections": side.detections,
        "run_ms": round(side.run_ms, 4),
        "total_ms": round(side.total_ms, 4),
        "accuracy": side.accuracy,
        "engine": _engine(file) if kind == "engine" else None,
    }


def _engine(file: Path) -> dict[str, Any] | None:
    record = read_engine(file).record
    if record is None:
        return None
    config = record.config
    return {
        "flavour": record.flavour,
        "version": record.version,
        "built_on": record.compute_capability,
        "runs_on": runs_on(record),
        "dtypes": list(record.dtypes),
        "profiles": [
            {"minimum": list(profile.minimum), "optimum": list(profile.optimum), "maximum": list(profile.maximum)}
            for profile in record.profiles
        ],
        "targets": list(config.targets),
        "hardware_compatibility": config.hardware_compatibility,
        "version_compatible": config.version_compatible,
        "optimization_level": config.optimization_level,
    }


def _spread(values: np.ndarray[Any, Any], tail: int, worst: str) -> dict[str, Any] | None:
    if not len(values):
        return None
    with np.errstate(invalid="ignore"):  # infinities of a broken engine: they become null in the report
        return {
            "count": len(values),
            "mean": float(values.mean()),
            "tail": float(np.percentile(values, tail)),
            "worst": float(getattr(values, worst)()),
        }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            yield name, version(name)
