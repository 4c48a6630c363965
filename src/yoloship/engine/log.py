"""What TensorRT says: one logger for the process, and who listens to it.

TensorRT keeps the first logger that it is given and ignores later ones as long as any builder or runtime lives
(measured: "the current new logger is ignored, and TensorRT will use the existing one"), so a logger for each build
would miss the errors of the second. There is one for each module therefore, which hands every message to all who
listen at that moment.
"""

from __future__ import annotations

import functools
import re
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.engine.flavours import Flavour

_ERRORS = frozenset({"INTERNAL_ERROR", "ERROR"})
_MAX_MESSAGES = 10_000
_HARMLESS = re.compile(r"Converting conv (?:activation|weight) scales to fp32")
"""Of every INT8 and FP8 graph that is float16 between its codes: the same scales, in a wider type (measured with
TensorRT-RTX 1.7.1.116). Shown at each build, they would teach people to skip warnings."""


@dataclass(slots=True, eq=False)  # a listener is itself, whatever it has heard
class Messages:
    """What was said while somebody listened, oldest first: (severity, text)."""

    heard: list[tuple[str, str]] = field(default_factory=list)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Texts of warnings, each once; without those that concern nobody."""
        texts = (tidy(text) for severity, text in self.heard if severity == "WARNING")
        return tuple(dict.fromkeys(text for text in texts if not _HARMLESS.search(text)))

    @property
    def first_error(self) -> str | None:
        """The first error: those that follow are mostly its consequences."""
        return next((tidy(text) for severity, text in self.heard if severity in _ERRORS), None)


@contextmanager
def listening(flavour: Flavour) -> Iterator[tuple[Any, Messages]]:
    """Collect what a flavour of TensorRT says.

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

    class SharedLogger(module.ILogger):  # type: ignore[misc]  # the base exists only once a flavour is imported
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity.name in {"VERBOSE", "INFO"}:
                return
            for listener in tuple(listeners):
                if len(listener.heard) < _MAX_MESSAGES:
                    listener.heard.append((severity.name, msg))

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
    return line if len(line) <= 400 else f"{line[:397]}..."
