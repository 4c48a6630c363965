"""An engine on disk: a plain plan that any TensorRT program loads, and beside it ``NAME.engine.json``.

Each is written whole or not at all, and a lock lets only one process at a time give a pair its names. Whatever ends
that process between the two leaves a plan and a sidecar that do not belong together, which the plan's hash shows.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship._util.reading import decoded, open_regular, read_if_there, read_up_to
from yoloship._util.writing import replacing
from yoloship.engine.fit import Here, check_fit, look_around, rebuild_command
from yoloship.engine.lock import lock_path, locked
from yoloship.engine.plan import HEADER_BYTES, PlanHeader, prefix_info, read_header, split_prefix
from yoloship.engine.recipe import Recipe
from yoloship.engine.record import MAX_JSON_CHARS, EngineRecord
from yoloship.errors import EngineError
from yoloship.kinds import MAX_PREFIX_BYTES, kind_of, wrong_kind

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from yoloship.engine.build import BuiltEngine
    from yoloship.model import ModelInfo

MAX_PLAN_BYTES: Final = 1 << 32
"""Of an engine's file; the largest detectors have 1.5 GB of weights."""
_START_BYTES: Final = 4 + MAX_PREFIX_BYTES + HEADER_BYTES
"""Enough for a JSON prefix and the plan's header behind it."""


@dataclass(frozen=True, slots=True)
class EngineFile:
    """An engine that was read and found whole.

    Attributes:
        path: Where it is.
        plan: The serialized engine, without any prefix; read only.
        header: What its first bytes say.
        record: What the sidecar says; None where there is none.
        info: What the pipeline must know, from the sidecar or a JSON prefix; None where neither says.
        has_prefix: Whether metadata stood in front of the plan.
    """

    path: Path
    plan: memoryview
    header: PlanHeader
    record: EngineRecord | None
    info: ModelInfo | None
    has_prefix: bool


def sidecar_path(engine: Path) -> Path:
    """``best.engine`` → ``best.engine.json``."""
    return engine.with_name(f"{engine.name}.json")


def write_engine(
    path: Path,
    built: BuiltEngine,
    *,
    source_name: str,
    model: ModelInfo | None,
    recipe: Recipe | None = None,
    overwrite: bool = True,
) -> EngineRecord:
    """Write a plan and its sidecar.

    Args:
        path: The plan's name; the sidecar's follows from it.
        built: What was built.
        source_name: File name of what it was built from, for the command that rebuilds it.
        model: What the pipeline must know; None for a graph of unknown make.
        recipe: How its graph came about, for the same command; None guesses it from the name and the model.
        overwrite: Whether files of those names may be replaced.

    Returns:
        What the sidecar says.

    Raises:
        EngineError: the sidecar could not be read back, because something in it is beyond the limits of a sidecar.
        OutputError: a name is taken, or cannot be written.
    """
    digest = hashlib.sha256(built.plan).hexdigest()
    recipe = recipe or Recipe.guessed(source_name, model)
    record = EngineRecord.of(built, plan_sha256=digest, source_name=source_name, recipe=recipe, model=model)
    data = _sidecar_bytes(record, path)
    with (
        locked(lock_path(path), subject=str(path)),
        replacing(sidecar_path(path), overwrite=overwrite) as sidecar,
        replacing(path, overwrite=overwrite) as plan,
    ):
        sidecar.write(data)
        sidecar.flush()  # a full disk shows here, while neither has its name
        plan.write(built.plan)
    return record


def _sidecar_bytes(record: EngineRecord, path: Path) -> bytes:
    """The sidecar's text, read back before it is written: its reader has limits that its writer must keep."""
    text = record.to_json()
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EngineError(
            "a name in the model is not valid text", subject=str(path), got=ascii(error.object[error.start])
        ) from error
    if EngineRecord.from_json(text, subject=str(sidecar_path(path))) != record:
        raise EngineError("its sidecar would say something else than it should", subject=str(path))
    return data


def read_engine(path: Path) -> EngineFile:
    """Read an engine and hold its header, its sidecar and its bytes against each other. No TensorRT is needed.

    Args:
        path: The engine; its sidecar is looked for beside it.

    Raises:
        EngineError: it is no engine, truncated or extended, or the sidecar is damaged or belongs to another plan.
    """
    subject = str(path)
    record = _read_sidecar(path)
    with open_regular(path, error=EngineError, wanted="an engine", limit_bytes=MAX_PLAN_BYTES) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        start = memoryview(read_up_to(file, min(size_bytes, _START_BYTES)))
        if not start:
            raise wrong_kind("empty", "engine", subject=subject, error=EngineError)
        metadata, beginning = split_prefix(start, subject=subject)
        plan_bytes = size_bytes - (len(start) - len(beginning))
        header = read_header(beginning, subject=subject, plan_bytes=plan_bytes)  # a wrong length costs no reading
        if record is not None:
            _check_length(record, plan_bytes, subject)
        elif header.form == "unknown":
            begins = bytes(beginning)
            raise wrong_kind(kind_of(begins), "engine", subject=subject, error=EngineError, start=begins)
        plan = _rest(file, beginning, plan_bytes)
    if record is not None:
        _check_belongs(record, plan, header, subject)
    info = record.model if record else None
    if info is None and metadata is not None:
        info = prefix_info(metadata, subject=subject)
    return EngineFile(path, plan, header, record, info, has_prefix=metadata is not None)


def open_engine_file(path: Path, *, here: Here | None = None) -> EngineFile:
    """Read an engine that shall be run, and refuse one that does not fit what is installed here.

    Nothing is deserialised: TensorRT answers a stale plan with null and a line in its log.

    Args:
        path: The engine; its sidecar is looked for beside it.
        here: What is installed; None looks.

    Raises:
        EngineError: see `read_engine`; or flavour, version or GPU differ, and the command that rebuilds it is named.
    """
    engine = read_engine(path)
    check_fit(engine.record, engine.header, here or look_around(), subject=str(path), engine_name=path.name)
    return engine


def _read_sidecar(path: Path) -> EngineRecord | None:
    sidecar = sidecar_path(path)
    data = read_if_there(sidecar, 4 * MAX_JSON_CHARS, error=EngineError, wanted="an engine's sidecar")
    if data is None:
        return None
    text = decoded(data, error=EngineError, subject=str(sidecar))
    return EngineRecord.from_json(text, subject=str(sidecar))


def _rest(file: FileIO, beginning: memoryview, plan_bytes: int) -> memoryview:
    """The whole plan, of which the beginning was read; it is held once, since it may have gigabytes."""
    plan = memoryview(bytearray(plan_bytes))
    at = min(len(beginning), plan_bytes)
    plan[:at] = beginning[:at]
    while at < plan_bytes and (count := file.readinto(plan[at:])):
        at += count
    return plan[:at].toreadonly()  # shorter if the file shrank meanwhile, which its hash shows


def _check_length(record: EngineRecord, plan_bytes: int, subject: str) -> None:
    if plan_bytes != record.plan_bytes:
        raise EngineError(
            "and its sidecar do not belong together: the plan's length differs",
            subject=subject,
            expected=f"{record.plan_bytes} bytes",
            got=f"{plan_bytes} bytes",
            hint=f"build it again: {rebuild_command(record, subject)}",
        )


def _check_belongs(record: EngineRecord, plan: memoryview, header: PlanHeader, subject: str) -> None:
    """Refuse a sidecar that was written for another plan, and one that contradicts the plan's own header."""
    hint = f"build it again: {rebuild_command(record, subject)}"
    digest = hashlib.sha256(plan).hexdigest()
    if digest != record.plan_sha256:
        raise EngineError(
            "and its sidecar do not belong together: the plan's SHA-256 differs",
            subject=subject,
            expected=record.plan_sha256[:16],
            got=digest[:16],
            hint=hint,
        )
    says_rtx = record.flavour == "rtx"
    if header.form != "unknown" and says_rtx != (header.form == "rtx"):
        raise EngineError(
            "its sidecar names another flavour of TensorRT than its header",
            subject=subject,
            expected=header.form,
            got=record.flavour,
            hint=hint,
        )
    if header.form == "unknown" and says_rtx:
        raise EngineError("is not a TensorRT-RTX engine, though its sidecar says so", subject=subject, hint=hint)
    if header.version is not None and header.version != record.version:
        raise EngineError(
            "its sidecar names another version of TensorRT than its header",
            subject=subject,
            expected=header.version,
            got=record.version,
            hint=hint,
        )
