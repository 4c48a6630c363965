"""How sources are read: `SourceOptions`, which a command or a program gives to `open_source`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

from yoloship._util.addresses import AddressRules
from yoloship.errors import InputError

LivePolicy: TypeAlias = Literal["newest", "every"]
"""Which frames of a live stream are given: only the newest, so that results are never late, or every one."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are read.

    Attributes:
        recursive: Whether a folder includes the images in all folders inside it.
        live: Which frames of a live stream are given.
        live_timeout_s: A live stream without a frame for this many seconds is connected anew.
        live_retries: Attempts to connect that may fail in a row before a live stream is given up; None for any number.
        frame_step: Give every n-th frame of a video or a live stream: 1 gives all. The source that
            uses it refuses what is below 1.
        addresses: Which addresses may be read.
        on_event: Gets a line for each event of a live stream, in any thread; None logs it.
    """

    recursive: bool = False
    live: LivePolicy = "newest"
    live_timeout_s: float = 20.0
    live_retries: int | None = None
    frame_step: int = 1
    addresses: AddressRules = field(default_factory=AddressRules)
    on_event: Callable[[str], None] | None = None


DEFAULT_OPTIONS = SourceOptions()


def check_step(frame_step: int) -> None:
    """Refuse a step that is not a whole number from 1.

    Raises:
        InputError: it is not.
    """
    if frame_step < 1:
        raise InputError("must be at least 1", subject="frame_step (--vid-stride)", got=str(frame_step))
