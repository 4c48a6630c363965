"""A session without a model: it answers from a script and remembers what it was asked."""

from __future__ import annotations

import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from yoloship.errors import SessionError
from yoloship.runtime.base import Session, check_feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from yoloship.model import TensorSpec

Arrays: TypeAlias = "Sequence[npt.NDArray[np.generic]]"
Feeds: TypeAlias = "Mapping[str, npt.NDArray[np.generic]]"
Script: TypeAlias = "Callable[[Feeds], Arrays] | Sequence[Arrays]"


class ScriptedSession(Session):
    """The public fake of a `Session`, for tests of whatever stands on one.

    Feeds are checked as a real runtime would check them. Outputs are handed out as the script gives them, so that a
    test can also play a runtime that misbehaves.

    Args:
        inputs: What it claims to take.
        outputs: What it claims to give.
        script: A function from feeds to one array for each output, or such tuples in the order of the calls.
        metadata: Key and value texts, as a model's file would hold them.
        name: What runs it, for people.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        script: Script,
        *,
        metadata: Mapping[str, str] | None = None,
        name: str = "scripted",
    ) -> None:
        super().__init__(inputs, outputs, metadata or {})
        self._answer = script if callable(script) else None
        self._answers = [] if callable(script) else list(script)
        self._name = name
        self._calls: list[Mapping[str, npt.NDArray[np.generic]]] = []
        self._lock = threading.Lock()
        self._closed = False

    @property
    def name(self) -> str:
        """What runs it, for people."""
        return self._name

    @property
    def calls(self) -> tuple[Feeds, ...]:
        """Copies of the feeds of every run so far, oldest first."""
        with self._lock:
            return tuple(self._calls)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def run(self, feeds: Feeds) -> tuple[npt.NDArray[np.generic], ...]:
        """Answer as the script says; see `Session.run`.

        Raises:
            InputError: a feed is missing, unknown, or of the wrong shape or dtype.
            SessionError: the script has no answer left, or the session is closed.
        """
        if self._closed:
            raise SessionError("the session is closed", subject=self._name)
        check_feeds(self._inputs, feeds)
        with self._lock:
            self._calls.append(MappingProxyType({name: array.copy() for name, array in feeds.items()}))
            if self._answer is None and not self._answers:
                raise SessionError("the script has no answer left", subject=self._name, got=f"{len(self._calls)} runs")
            answer = self._answers.pop(0) if self._answer is None else None
        if answer is None:
            assert self._answer is not None
            answer = self._answer(feeds)
        return tuple(array.copy() for array in answer)

    def close(self) -> None:
        """Refuse all further runs. Closing twice is not an error."""
        self._closed = True
