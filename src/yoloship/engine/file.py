"""Engine files: the plan, its sidecar, and the cache of engines.

Plan and sidecar are each written completely or not at all. A lock lets only one process at a time write a pair of
files. If that process ends between the two, the plan and the sidecar do not belong together. The plan's hash shows
this.

The key of a cached engine is made from the content (ONNX, configuration, flavour, version, GPU or targets). It does not
use a file name. It does not use the plan's hash either, because two builds with a dynamic profile give different bytes
(measured). One process builds, and others that want the same engine wait for it. If the file system has no locks, two
processes build the same engine, and the later one replaces the whole file.

This file is long because plan, sidecar and cache key are checked against each other at every read and write.

Source of the header: measured on plans of TensorRT-RTX 1.7.1.116. Bytes 0-3 are ``vtrt``, a little-endian uint64 at
0x10 is the file's length, and bytes 0x18-0x1b are the version's four numbers. Plans of TensorRT 10 begin with ``ftrt``.
This is known from programs that read them. None could be built here, so nothing else is read from those.

Source of the form with a prefix: public descriptions. The file begins with a length as little-endian int32, then has
this many bytes of JSON in UTF-8, then the plan.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from yoloship._util.cache import distrust, is_trusted, make_room
from yoloship._util.fields import MAX_TEXT_CHARS, FieldReader, is_int
from yoloship._util.reading import decoded, open_regular, read_if_there, read_up_to
from yoloship._util.writing import lock_path, locked, replacing
from yoloship.engine.fit import Installation, check_fit, find_installation, rebuild_command
from yoloship.engine.sidecar import MAX_JSON_CHARS, EngineRecord, Recipe
from yoloship.errors import EngineError, InputError
from yoloship.kinds import ENGINE_MAGICS, MAX_PREFIX_BYTES, RTX_MAGIC, kind_of, wrong_kind
from yoloship.model import MAX_CLASSES, MAX_SIDE, METADATA_KEY, WORD, WORD_TEXT, ModelInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import FileIO
    from pathlib import Path

    from yoloship._util.text import OnProgress
    from yoloship.engine.builder import BuiltEngine
    from yoloship.engine.config import BuildConfig
    from yoloship.engine.flavours import Flavour

_logger = logging.getLogger("yoloship.cache")


HEADER_BYTES = 0x1C

_MAKER = "ultralytics"
_DESCRIPTION = re.compile(r"\s*(?:Ultralytics\s+)?(\S+)(?:\s+model\b|\s*$)", re.IGNORECASE)
_ANCHOR_NAME = re.compile(r"yolov5(?:[nsmlx]6?)?(?:-(?:seg|cls))?(?:\.pt|\.yaml)?", re.IGNORECASE)

PlanForm: TypeAlias = Literal["rtx", "tensorrt", "unknown"]
MAX_PLAN_BYTES: Final = 1 << 32
"""The longest engine file. The largest detectors have 1.5 GB of weights."""
PREFIX_FORM: Final = "raw"
"""The output form of engines with a prefix: every cell decoded."""
_START_BYTES: Final = 4 + MAX_PREFIX_BYTES + HEADER_BYTES
"""Enough for a JSON prefix and the plan's header after it."""


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """The header of a plan.

    Attributes:
        form: The flavour whose magic number it begins with.
        version: The version, such as ``1.7.1.116``; None if this form does not say it.
    """

    form: PlanForm
    version: str | None


def read_header(plan: memoryview, *, subject: str, plan_bytes: int | None = None) -> PlanHeader:
    """Read a plan's header.

    Args:
        plan: The plan, or its beginning; read only.
        subject: The file, for messages.
        plan_bytes: Length of the whole plan; None if `plan` is all of it.

    Raises:
        EngineError: it is too short or truncated, or other bytes follow it.
    """
    whole_bytes = len(plan) if plan_bytes is None else plan_bytes
    if whole_bytes < HEADER_BYTES:
        raise EngineError(
            "is not a TensorRT engine",
            subject=subject,
            expected=f"at least {HEADER_BYTES} bytes",
            got=f"{whole_bytes} bytes",
        )
    magic = bytes(plan[:4])
    if magic != RTX_MAGIC:
        return PlanHeader("tensorrt" if magic in ENGINE_MAGICS else "unknown", None)
    (length,) = struct.unpack_from("<Q", plan, 0x10)
    if length != whole_bytes:
        raise EngineError(
            "is truncated" if whole_bytes < length else "has extra bytes after its end",
            subject=subject,
            expected=f"{length} bytes, as its header says",
            got=f"{whole_bytes} bytes",
            hint="copy it again, or build it again",
        )
    return PlanHeader("rtx", ".".join(map(str, plan[0x18:0x1C])))


def split_prefix(data: memoryview, *, subject: str) -> tuple[dict[str, Any] | None, memoryview]:
    """Separate the JSON that some exporters put in front of a plan.

    Args:
        data: The whole file; read only.
        subject: The file, for messages.

    Returns:
        The JSON object, and the plan after it. Without a prefix, None and all of the data.

    Raises:
        EngineError: there is a prefix, but its JSON cannot be read.
    """
    if len(data) < 5 or bytes(data[:4]) in ENGINE_MAGICS or data[4] != ord("{"):
        return None, data
    (length,) = struct.unpack_from("<i", data, 0)
    if not 2 <= length <= min(MAX_PREFIX_BYTES, len(data) - 4):
        raise EngineError(
            "begins with a length and JSON, but the length is impossible",
            subject=subject,
            expected=f"2 to {min(MAX_PREFIX_BYTES, len(data) - 4)} bytes of JSON",
            got=str(length),
            hint="the file is damaged or truncated",
        )
    try:
        metadata = json.loads(bytes(data[4 : 4 + length]).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise EngineError("its JSON prefix cannot be read", subject=subject, got=str(error)[:80]) from error
    if not isinstance(metadata, dict):
        raise EngineError("its JSON prefix is not an object", subject=subject)
    return metadata, data[4 + length :]


def prefix_info(metadata: dict[str, Any], *, subject: str) -> ModelInfo:
    """The model record from a JSON prefix.

    Args:
        metadata: The untrusted JSON object from `split_prefix`.
        subject: The file, for messages.

    Raises:
        EngineError: a field is missing or has an impossible value.
    """
    defaults = {"task": "detect", "stride": 32, "batch": 1, "imgsz": [640, 640]}
    read = FieldReader({**defaults, **metadata}, "JSON prefix", subject, EngineError)
    arguments, version = metadata.get("args"), metadata.get("version")
    dynamic = isinstance(arguments, dict) and bool(arguments.get("dynamic", False))
    height, width = _size_hw(read)
    version = version[:64] if isinstance(version, str) and version.isprintable() else ""
    return ModelInfo(
        task=read.matching("task", WORD, WORD_TEXT),
        family=_family(metadata.get("description")),
        class_names=_class_names(read),
        strides=_strides(read),
        anchors=(),
        input_form="float",
        output_form=PREFIX_FORM,
        input_hw=(None, None) if dynamic else (height, width),
        batch=None if dynamic else read.integer("batch", 1, MAX_SIDE),
        producer=f"{_MAKER} {version}".strip(),
    )


def _family(description: object) -> str:
    """The family of an engine's model, by its description.

    Models named ``yolov5n`` to ``yolov5x6``, and engines without a description, have YOLOv5's head with anchors. A name
    that ends in ``u``, such as ``YOLOv5su``, is a model trained again without anchors, whose output has another form.

    Source: descriptions in published files: ``Ultralytics NAME model trained on DATA``, ``Ultralytics NAME model
    untrained``, and without the first word.
    """
    if description is None:
        return "yolov5"
    match = _DESCRIPTION.match(description[:200]) if isinstance(description, str) else None
    return "yolov5" if match and _ANCHOR_NAME.fullmatch(match[1]) else _MAKER


def _class_names(read: FieldReader) -> tuple[str, ...]:
    names = read.data.get("names")
    if isinstance(names, dict):
        names = [names.get(str(index)) for index in range(len(names))]
    if (
        not isinstance(names, list)
        or not 1 <= len(names) <= MAX_CLASSES
        or not all(isinstance(name, str) and len(name) <= MAX_TEXT_CHARS for name in names)
    ):
        raise read.wrong("names", "class names by id, from 0 on without a gap")
    return tuple(names)


def _strides(read: FieldReader) -> tuple[int, ...]:
    largest = read.integer("stride", 1, 1024)
    return tuple(stride for stride in (8, 16, 32, 64) if stride <= largest) if largest in {32, 64} else (largest,)


def _size_hw(read: FieldReader) -> tuple[int, int]:
    size = read.data.get("imgsz")
    if is_int(size, 1, MAX_SIDE):
        return size, size
    if not isinstance(size, list) or len(size) != 2 or not all(is_int(side, 1, MAX_SIDE) for side in size):
        raise read.wrong("imgsz", "[height, width] in pixels")
    return size[0], size[1]


@dataclass(frozen=True, slots=True)
class EngineFile:
    """An engine file that was read and checked.

    Attributes:
        path: The file.
        plan: The serialized engine, without any prefix; read-only.
        header: The header of the plan.
        record: The content of the sidecar; None if there is none.
        info: The model record, from the sidecar or a JSON prefix; None if neither has one.
        prefix: What a JSON prefix says, as text by its keys, like an ONNX file's metadata; None without a prefix. Such
            an engine is recognised by its numbers, too, because these are only what its exporter claims.
    """

    path: Path
    plan: memoryview
    header: PlanHeader
    record: EngineRecord | None
    info: ModelInfo | None
    prefix: Mapping[str, str] | None

    @property
    def has_prefix(self) -> bool:
        """Whether there was metadata before the plan."""
        return self.prefix is not None

    @property
    def metadata(self) -> Mapping[str, str]:
        """What it says about its model, by the keys that an ONNX file's metadata has."""
        if self.record is not None and self.record.model is not None:
            return MappingProxyType({METADATA_KEY: self.record.model.to_json()})
        return self.prefix or MappingProxyType({})


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
        path: Name of the plan. The sidecar's name is made from it.
        built: The engine.
        source_name: Name of the file from which it was built, for the command that builds it again.
        model: The model record; None for a graph of an unknown exporter.
        recipe: How its graph was made, for the same command. None guesses it from the name and the model.
        overwrite: Whether existing files may be replaced.

    Returns:
        The content of the sidecar.

    Raises:
        EngineError: a value is beyond the limits of a sidecar, so the sidecar could not be read back.
        OutputError: a file already exists, or cannot be written.
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
        sidecar.flush()  # a full disk is noticed here, before either file has its name
        plan.write(built.plan)
    return record


def _sidecar_bytes(record: EngineRecord, path: Path) -> bytes:
    """The sidecar's bytes. They are read back before they are written, because the reader has limits."""
    text = record.to_json()
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EngineError(
            "a name in the model is not valid text", subject=str(path), got=ascii(error.object[error.start])
        ) from error
    if EngineRecord.from_json(text, subject=str(sidecar_path(path))) != record:
        raise EngineError("its sidecar would say something other than it should", subject=str(path))
    return data


def read_engine(path: Path) -> EngineFile:
    """Read an engine, and check that its header, its sidecar and its bytes agree. This needs no TensorRT.

    Args:
        path: The engine. Its sidecar is looked for beside it.

    Raises:
        EngineError: it is not an engine, is truncated or too long, or its sidecar is damaged or is another plan's.
    """
    subject = str(path)
    record = _read_sidecar(path)
    with open_regular(path, error=EngineError, wanted="an engine", limit_bytes=MAX_PLAN_BYTES) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        start = memoryview(read_up_to(file.read, min(size_bytes, _START_BYTES)))
        if not start:
            raise wrong_kind("empty", "engine", subject=subject, error=EngineError)
        metadata, beginning = split_prefix(start, subject=subject)
        plan_bytes = size_bytes - (len(start) - len(beginning))
        header = read_header(beginning, subject=subject, plan_bytes=plan_bytes)  # before reading the whole plan
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
    prefix = None if metadata is None else MappingProxyType({key: str(value) for key, value in metadata.items()})
    return EngineFile(path, plan, header, record, info, prefix)


def open_engine_file(path: Path, *, installation: Installation | None = None) -> EngineFile:
    """Read an engine to run it, and refuse it if it does not fit the TensorRT and the GPU of this machine.

    The check does not deserialise the engine, because TensorRT's answer to a stale plan is only null and a log line.

    Args:
        path: The engine. Its sidecar is looked for beside it.
        installation: The TensorRT and the GPU here; None finds them.

    Raises:
        EngineError: the file is damaged (see `read_engine`), or flavour, version or GPU differ. The message then has
            the command that builds the engine again.
    """
    engine = read_engine(path)
    check_fit(
        engine.record, engine.header, installation or find_installation(), subject=str(path), engine_name=path.name
    )
    return engine


def _read_sidecar(path: Path) -> EngineRecord | None:
    sidecar = sidecar_path(path)
    data = read_if_there(sidecar, 4 * MAX_JSON_CHARS, error=EngineError, wanted="an engine's sidecar")
    if data is None:
        return None
    text = decoded(data, error=EngineError, subject=str(sidecar))
    return EngineRecord.from_json(text, subject=str(sidecar))


def _rest(file: FileIO, beginning: memoryview, plan_bytes: int) -> memoryview:
    """The whole plan, after its beginning was read. It is in memory only once, because it may have gigabytes."""
    plan = memoryview(bytearray(plan_bytes))
    at = min(len(beginning), plan_bytes)
    plan[:at] = beginning[:at]
    while at < plan_bytes and (count := file.readinto(plan[at:])):
        at += count
    return plan[:at].toreadonly()  # shorter if the file shrank meanwhile; then the hash differs


def _check_length(record: EngineRecord, plan_bytes: int, subject: str) -> None:
    if plan_bytes != record.plan_bytes:
        raise EngineError(
            "does not match the .json file beside it: the length differs",
            subject=subject,
            expected=f"{record.plan_bytes} bytes",
            got=f"{plan_bytes} bytes",
            hint=f"put its own .json file beside it, or build it again: {rebuild_command(record, subject)}",
        )


def _check_belongs(record: EngineRecord, plan: memoryview, header: PlanHeader, subject: str) -> None:
    """Refuse a sidecar that was written for another plan, and one that contradicts the plan's own header."""
    hint = f"build it again: {rebuild_command(record, subject)}"
    digest = hashlib.sha256(plan).hexdigest()
    if digest != record.plan_sha256:
        raise EngineError(
            "does not match the .json file beside it: the SHA-256 differs",
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


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything on which an engine depends.

    Attributes:
        onnx_sha256: SHA-256 of the graph's bytes.
        config: The configuration of the build.
        flavour: Name of the flavour of TensorRT.
        version: The version of that flavour.
        device: Compute capability of the GPU for which it is tuned; None if the flavour builds without a GPU.
    """

    onnx_sha256: str
    config: BuildConfig
    flavour: str
    version: str
    device: str | None

    @classmethod
    def of(cls, onnx_sha256: str, config: BuildConfig, flavour: Flavour, device_sm: str | None) -> EngineKey:
        """The key of an engine that would be built now. The GPU counts only if the plan depends on it."""
        tuned = flavour.name != "rtx" or config.targets == ("current",)
        return cls(onnx_sha256, config, flavour.name, flavour.version, device_sm if tuned else None)

    @property
    def digest(self) -> str:
        """A hash of the key in lower-case hex."""
        parts = [self.onnx_sha256, self.config.to_json(), self.flavour, self.version, self.device]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def cached_engine(
    folder: Path,
    key: EngineKey,
    build: Callable[[], tuple[BuiltEngine, ModelInfo | None]],
    *,
    source_name: str,
    on_progress: OnProgress | None = None,
) -> EngineFile:
    """Take an engine from the cache, or build it and keep it there.

    Args:
        folder: Folder of the cache. It is made if it is missing.
        key: The key of the engine.
        build: Builds the engine. It is called at most once, and by one process at a time.
        source_name: File name of the model, for the command that builds the engine again.
        on_progress: Called several times a second while another process builds, with the seconds waited so far. An
            exception that it raises ends the waiting and is raised again from here.

    Returns:
        The engine, read back and checked.

    Raises:
        EngineError: the folder cannot be used, or the build failed.
        OutputError: the engine cannot be written.
    """
    path = folder / f"{key.digest}.engine"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = distrust(folder.stat())
    except OSError as error:
        raise EngineError(f"cache folder cannot be created: {error.strerror or error}", subject=str(folder)) from error
    if problem is not None:
        raise EngineError(
            f"{problem}, so engines in it cannot be trusted",
            subject=str(folder),
            hint="run 'chmod go-w' on it, or set YOLOSHIP_CACHE to a folder of your own",
        )
    if (found := _usable(path)) is not None:
        _logger.debug("engines: %s is in the cache", path.name)
        return found
    _logger.debug("engines: %s is not in the cache, so it is built", path.name)
    with locked(folder / f"{key.digest}.lock", on_progress=on_progress):
        if (found := _usable(path)) is not None:  # another process built it while this one waited
            return found
        built, model = build()
        make_room("engines", folder, len(built.plan))
        write_engine(path, built, source_name=source_name, model=model)
        for file in (path, sidecar_path(path)):
            file.chmod(0o600)
    return read_engine(path)


def _usable(path: Path) -> EngineFile | None:
    """The engine of that name, if it is complete and no other user can have written it; None if it must be built."""
    if not is_trusted(path) or not is_trusted(sidecar_path(path)):
        return None
    try:
        found = read_engine(path)
    except (EngineError, InputError):
        return None
    with suppress(OSError):  # the cache may be read-only
        path.touch()  # the least recently used entries are removed first
    return found
