"""The flavours of TensorRT behind one interface, and their log messages.

Three modules share one API (measured, see docs/tensorrt.md): ``tensorrt`` builds and runs, ``tensorrt_rtx`` builds and
runs for RTX-class GPUs and builds on machines without one, ``tensorrt_lean`` only runs. What a module has is asked
from the module itself, never from its version number: RTX's "1.7" is not older than "10".

TensorRT keeps the first logger that it is given and ignores later ones as long as any builder or runtime lives
(measured: "the current new logger is ignored, and TensorRT will use the existing one"), so a logger for each build
would miss the errors of the second. Therefore each module has one logger, which hands every message to all who listen
at that moment.
"""

from __future__ import annotations

import functools
import importlib
import re
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from yoloship._util.text import shortened
from yoloship.errors import DependencyError, EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


FlavourName: TypeAlias = Literal["tensorrt", "rtx", "lean"]
FLAVOUR_NAMES: tuple[FlavourName, ...] = get_args(FlavourName)
"""In the order of preference, used if nobody chooses."""

MODULE_NAMES: Mapping[FlavourName, str] = MappingProxyType(
    {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx", "lean": "tensorrt_lean"}
)
INSTALL_COMMANDS: Mapping[FlavourName, str] = MappingProxyType(
    {
        "tensorrt": "pip install 'yoloship[tensorrt]'",
        "rtx": "pip install 'yoloship[rtx]'",
        "lean": "pip install tensorrt_lean",
    }
)

Feature: TypeAlias = Literal[
    "build",
    "workspace",
    "progress",
    "targets",
    "hardware_compatibility",
    "version_compatible",
    "optimization_level",
    "timing_cache",
]

_NEEDED_ATTRIBUTES: Mapping[Feature, tuple[str, ...]] = MappingProxyType(
    {
        "build": ("Builder.build_serialized_network", "OnnxParser.parse_from_file"),
        "workspace": ("IBuilderConfig.set_memory_pool_limit", "MemoryPoolType.WORKSPACE"),
        "progress": ("IBuilderConfig.progress_monitor", "IProgressMonitor"),
        "targets": ("IBuilderConfig.set_compute_capability", "ComputeCapability"),
        "hardware_compatibility": ("IBuilderConfig.hardware_compatibility_level", "HardwareCompatibilityLevel"),
        "version_compatible": ("BuilderFlag.VERSION_COMPATIBLE",),
        "optimization_level": ("IBuilderConfig.builder_optimization_level",),
        "timing_cache": ("IBuilderConfig.create_timing_cache", "ITimingCache"),
    }
)
"""Where each feature lives in a flavour's module."""

_IGNORED_BY_RTX: Mapping[Feature, str] = MappingProxyType(
    {
        "hardware_compatibility": "its setter warns and it reads back as NONE; choose targets instead",
        "version_compatible": "it asks for a lean runtime library that does not come with it",
        "optimization_level": "every level gives the same plan, byte for byte; kernels are compiled at load",
        "timing_cache": "timing cache operations do nothing since 1.2",
    }
)
"""Present in TensorRT-RTX's module, without effect: measured with 1.7.1.116."""
_ERRORS = frozenset({"INTERNAL_ERROR", "ERROR"})
_MAX_MESSAGES = 10_000
_HARMLESS = re.compile(r"Converting conv (?:activation|weight) scales to fp32")
"""TensorRT's message for every INT8 and FP8 graph with other layers in float16: it uses the same scales in a wider type
(measured with TensorRT-RTX 1.7.1.116). If each build showed it, people would learn to ignore warnings."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """An imported TensorRT.

    Attributes:
        name: Which of the three.
        version: As the module has it.
        module: The module; use it through this object only, so that imports stay in one place.
    """

    name: FlavourName
    version: str
    module: Any

    @property
    def title(self) -> str:
        """For people: ``tensorrt_rtx 1.7.1.116``."""
        return f"{MODULE_NAMES[self.name]} {self.version}"

    def lacks(self, feature: Feature) -> str | None:
        """Why this flavour lacks a feature; None if it has it."""
        for path in _NEEDED_ATTRIBUTES[feature]:
            if not _has(self.module, path):
                return f"it has no {path}"
        if self.name == "rtx" and (reason := _IGNORED_BY_RTX.get(feature)):
            return reason
        return None

    def features(self) -> Mapping[Feature, str | None]:
        """Each feature with the reason why it is missing; None if the flavour has it."""
        return {feature: self.lacks(feature) for feature in get_args(Feature)}


def installed_flavours() -> tuple[FlavourName, ...]:
    """Flavours whose module can be found, in the order of preference. Nothing is imported."""
    return tuple(name for name in FLAVOUR_NAMES if find_spec(MODULE_NAMES[name]) is not None)


def open_flavour(name: FlavourName | None = None, *, to_build: bool = True) -> Flavour:
    """Import a flavour of TensorRT.

    Args:
        name: Name of the flavour; None takes the first one that is installed and can do the work.
        to_build: Whether a builder is needed. If not, a runtime is enough.

    Raises:
        DependencyError: it is not installed, or its import fails; the command that installs it is named.
        EngineError: it cannot build, and building was asked for.
        InputError: there is no such flavour.
    """
    if name is not None and name not in FLAVOUR_NAMES:
        raise InputError(
            "no such flavour of TensorRT", subject="flavour", expected=f"one of {', '.join(FLAVOUR_NAMES)}", got=name
        )
    chosen = name or _first_usable(to_build=to_build)
    if find_spec(MODULE_NAMES[chosen]) is None:
        raise DependencyError(
            "is not installed", subject=MODULE_NAMES[chosen], hint=f"install it with: {INSTALL_COMMANDS[chosen]}"
        )
    try:
        module = importlib.import_module(MODULE_NAMES[chosen])
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            "is installed, but cannot be imported",
            subject=MODULE_NAMES[chosen],
            got=f"{type(error).__name__}: {error}"[:300],
            hint=f"install it again with: {INSTALL_COMMANDS[chosen]}",
        ) from error
    flavour = Flavour(chosen, str(getattr(module, "__version__", "of unknown version")), module)
    if to_build and (reason := flavour.lacks("build")):
        raise EngineError(
            "cannot build engines",
            subject=MODULE_NAMES[chosen],
            got=reason,
            hint="it only runs them; build with the flavour rtx or tensorrt (--flavour)",
        )
    return flavour


def _first_usable(*, to_build: bool) -> FlavourName:
    candidates = [name for name in installed_flavours() if not (to_build and name == "lean")]
    if candidates:
        return candidates[0]
    raise DependencyError(
        "no TensorRT is installed",
        hint=f"install one with: {INSTALL_COMMANDS['rtx']} (GeForce and RTX GPUs; builds on any machine), "
        f"or: {INSTALL_COMMANDS['tensorrt']} (every NVIDIA GPU)",
    )


def _has(module: Any, path: str) -> bool:
    place = module
    for part in path.split("."):
        if not hasattr(place, part):
            return False
        place = getattr(place, part)
    return True


@dataclass(slots=True, eq=False)  # a listener is itself, whatever it has heard
class Messages:
    """TensorRT's messages during a `listening` block, oldest first: (severity, text)."""

    heard: list[tuple[str, str]] = field(default_factory=list)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Texts of warnings, each once, without harmless ones."""
        texts = (tidy(text) for severity, text in self.heard if severity == "WARNING")
        return tuple(dict.fromkeys(text for text in texts if not _HARMLESS.search(text)))

    @property
    def first_error(self) -> str | None:
        """The first error, because later errors are mostly its consequences."""
        return next((tidy(text) for severity, text in self.heard if severity in _ERRORS), None)


@contextmanager
def listening(flavour: Flavour) -> Iterator[tuple[Any, Messages]]:
    """Collect the messages of a flavour of TensorRT.

    Yields:
        The logger to construct builders and runtimes with, and the messages heard so far.
    """
    logger, listeners, lock = _shared_logger(flavour.module)
    messages = Messages()
    with lock:
        listeners.append(messages)
    try:
        yield logger, messages
    finally:
        with lock:
            listeners.remove(messages)


@functools.cache
def _shared_logger(module: Any) -> tuple[Any, list[Messages], threading.Lock]:
    listeners: list[Messages] = []

    @functools.cache  # a build has thousands of messages, and the binding is slow to name their severity
    def name_of(severity: Any) -> str:
        return str(severity.name)

    class SharedLogger(module.ILogger):  # type: ignore[misc]  # the base exists only once a flavour is imported
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            name = name_of(severity)
            if name in {"VERBOSE", "INFO"}:
                return
            for listener in tuple(listeners):
                if len(listener.heard) < _MAX_MESSAGES:
                    listener.heard.append((name, msg))

    return SharedLogger(), listeners, threading.Lock()


@contextmanager
def deprecations_as_errors() -> Iterator[None]:
    """Turn the warnings that bindings give for calls without effect into exceptions."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        yield


def tidy(text: str) -> str:
    """A message without source locations and numbers of C++ lines, as one line of at most 400 characters."""
    line = " ".join(text.split())
    line = re.sub(r"^(\S+\.(cpp|h):\d+: )+(ERROR: )?", "", line)
    line = re.sub(r"\s*In \w+ at /_src/\S+:\d+", "", line)
    line = re.sub(r"^I\w+::\w+: Error Code \d+: ", "", line)
    line = re.sub(r"^API Usage Error \((.*)\)$", r"\1", line)
    line = re.sub(r"\[\w+\.(cpp|h):+\w+(: \w+|::\d+)?\] ", "", line)
    return shortened(line, 400)
