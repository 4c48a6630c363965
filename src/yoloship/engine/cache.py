"""Engines that were built before, found by what they were built from.

The key is the content (ONNX, configuration, flavour, version, GPU or targets), never a file's name, and never the
plan's own hash: two builds with a dynamic profile give different bytes (measured). One process builds, others that
want the same engine wait for it. Where a file system knows no locks, two processes build the same engine and the later
one replaces the earlier, whole.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yoloship._util.cache import is_trusted, make_folder, make_room
from yoloship.engine.file import EngineFile, read_engine, sidecar_path, write_engine
from yoloship.engine.lock import locked
from yoloship.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from yoloship.engine.build import BuiltEngine
    from yoloship.engine.config import BuildConfig
    from yoloship.engine.flavours import Flavour
    from yoloship.model import ModelInfo


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that decides what an engine is.

    Attributes:
        onnx_sha256: Of the graph's bytes.
        config: How to build.
        flavour: Which TensorRT, by name.
        version: Of that flavour.
        device: Compute capability of the GPU it is tuned on; None where the flavour builds without one.
    """

    onnx_sha256: str
    config: BuildConfig
    flavour: str
    version: str
    device: str | None

    @classmethod
    def of(cls, onnx_sha256: str, config: BuildConfig, flavour: Flavour, device_sm: str | None) -> EngineKey:
        """The key of an engine to be built now; the GPU counts only where the plan depends on it."""
        tuned = flavour.name != "rtx" or config.targets == ("current",)
        return cls(onnx_sha256, config, flavour.name, flavour.version, device_sm if tuned else None)

    @property
    def digest(self) -> str:
        """Lower-case hex; equal keys give equal ones."""
        parts = [self.onnx_sha256, self.config.to_json(), self.flavour, self.version, self.device]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def cached_engine(
    folder: Path,
    key: EngineKey,
    build: Callable[[], tuple[BuiltEngine, ModelInfo | None]],
    *,
    source_name: str,
    waiting: Callable[[float], None] | None = None,
) -> EngineFile:
    """Take an engine from the cache, or build it and keep it there.

    Args:
        folder: Of the cache; made where it is missing.
        key: What is wanted.
        build: Makes the engine; called at most once, by one process at a time.
        source_name: File name of the model, for the command that builds the engine again.
        waiting: Told some times a second for how long, in seconds, another process has been waited for. What it
            raises ends the waiting and comes out of here.

    Returns:
        The engine, read back and checked.

    Raises:
        EngineError: the folder cannot be used, or the build failed.
        OutputError: the engine cannot be written.
    """
    path = folder / f"{key.digest}.engine"
    try:
        problem = make_folder(folder)
    except OSError as error:
        raise EngineError(f"cache folder cannot be made: {error.strerror or error}", subject=str(folder)) from error
    if problem is not None:
        raise EngineError(
            f"{problem}, so engines in it cannot be trusted",
            subject=str(folder),
            hint="run 'chmod go-w' on it, or set YOLOSHIP_CACHE to a folder of your own",
        )
    if (found := _usable(path)) is not None:
        return found
    with locked(folder / f"{key.digest}.lock", waiting=waiting):
        if (found := _usable(path)) is not None:  # somebody built it while we waited
            return found
        built, model = build()
        make_room("engines", folder, len(built.plan))
        write_engine(path, built, source_name=source_name, model=model)
        for file in (path, sidecar_path(path)):
            file.chmod(0o600)
    return read_engine(path)


def _usable(path: Path) -> EngineFile | None:
    """The engine of that name if it is whole and nobody else can have written it; any other is built again."""
    if not is_trusted(path) or not is_trusted(sidecar_path(path)):
        return None
    try:
        found = read_engine(path)
    except EngineError:
        return None
    with suppress(OSError):  # a cache that can only be read
        path.touch()  # the least recently used go first
    return found
