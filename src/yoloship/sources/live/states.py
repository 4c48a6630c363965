"""What a live stream is doing: its states, the changes that are allowed between them, and its counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from yoloship._util.text import counted


class State(Enum):
    """What a live stream is doing; the value is how it is shown."""

    NOT_STARTED = "not started"
    CONNECTING = "connecting"
    RUNNING = "running"
    STALLED = "stalled"
    RECONNECTING = "reconnecting"
    ENDED = "ended"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether the stream gives no more frames."""
        return self in {State.ENDED, State.FAILED}


_LOST: Final = frozenset({State.RECONNECTING, State.ENDED, State.FAILED})

CHANGES: Final = MappingProxyType(
    {
        State.NOT_STARTED: frozenset({State.CONNECTING, State.ENDED}),
        State.CONNECTING: frozenset({State.RUNNING, State.STALLED}) | _LOST,
        State.RUNNING: frozenset({State.STALLED}) | _LOST,
        State.STALLED: _LOST,  # its decoder is killed; frames that it still sends are of a connection that is given up
        State.RECONNECTING: frozenset({State.CONNECTING, State.ENDED, State.FAILED}),
        State.ENDED: frozenset[State](),
        State.FAILED: frozenset[State](),
    }
)
"""State → the states that may follow. ``reconnecting`` is the pause before the next ``connecting``."""


@dataclass(slots=True)
class Counts:
    """What happened in one stream.

    Attributes:
        frames: Frames that were given to the run.
        dropped: Good frames that were not given, because newer ones came before anybody took them.
        damaged: Frames that could not be decoded, or only with invented parts.
        reconnects: Connections after the first one that gave frames.
    """

    frames: int = 0
    dropped: int = 0
    damaged: int = 0
    reconnects: int = 0

    def __str__(self) -> str:
        return (
            f"{counted(self.frames, 'frame')}, {self.dropped} dropped, {self.damaged} damaged, "
            f"{counted(self.reconnects, 'reconnect')}"
        )
