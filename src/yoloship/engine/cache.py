"""Engines that were built before, found by what they were built from.

The key is the content (ONNX, configuration, flavour, version, GPU or targets), never a file's name, and never the
plan's own hash: two builds with a dynamic profile give different bytes (measured). One process builds, others that
want the same engine wait for it. Where a file system knows no locks, two processes build the same engine and the later
one replaces the earlier, whole.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    waiting: Callable[[float], None] | None = None,
) -> EngineFile:
    """Take an engine from the cache, or build it and keep it there.

    Args:
        folder: Of the cache; made where it is missing.
        key: What is wanted.
        build: Makes the engine; called at most once, by one process at a time.
        waiting: Told some times a second for how long, in seconds, another process has been waited for. What it
            raises ends the waiting and comes out of here.

    Returns:
        The engine, read back and checked.

    Raises:
        EngineError: the folder cannot be used, or the build failed.
        OutputError: the engine cannot be written.
    """
    path = folder / f"{key.digest}.engine"
    if (found := _usable(path)) is not None:
        return found
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"cache folder cannot be made: {error.strerror or error}", subject=str(folder)) from error
    with locked(folder / f"{key.digest}.lock", waiting=waiting):
        if (found := _usable(path)) is not None:  # somebody built it while we waited
            return found
        built, model = build()
        write_engine(path, built, source_name="graph.onnx", model=model)
    return read_engine(path)


def _usable(path: Path) -> EngineFile | None:
    """The engine of that name if it is whole; damaged ones are built again."""
    if not path.exists() or not sidecar_path(path).exists():
        return None
    try:
        return read_engine(path)
    except EngineError:
        return None
