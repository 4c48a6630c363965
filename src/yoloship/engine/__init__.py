"""TensorRT engines: building them, keeping them with a description, and checking them before they are loaded."""

from __future__ import annotations

from yoloship.engine.builder import BuiltEngine, build_engine
from yoloship.engine.config import BuildConfig, InputProfile, Range, Target, parse_target, resolve_profiles
from yoloship.engine.file import (
    EngineFile,
    EngineKey,
    cached_engine,
    open_engine_file,
    read_engine,
    sidecar_path,
    write_engine,
)
from yoloship.engine.fit import Installation, find_installation, rebuild_command, runs_on
from yoloship.engine.flavours import Flavour, FlavourName, installed_flavours, open_flavour
from yoloship.engine.inspect import EngineFacts, inspect_engine
from yoloship.engine.network import check_build, check_targets
from yoloship.engine.sidecar import EngineRecord, Recipe, place_name

__all__ = [
    "BuildConfig",
    "BuiltEngine",
    "EngineFacts",
    "EngineFile",
    "EngineKey",
    "EngineRecord",
    "Flavour",
    "FlavourName",
    "InputProfile",
    "Installation",
    "Range",
    "Recipe",
    "Target",
    "build_engine",
    "cached_engine",
    "check_build",
    "check_targets",
    "find_installation",
    "inspect_engine",
    "installed_flavours",
    "open_engine_file",
    "open_flavour",
    "parse_target",
    "place_name",
    "read_engine",
    "rebuild_command",
    "resolve_profiles",
    "runs_on",
    "sidecar_path",
    "write_engine",
]
