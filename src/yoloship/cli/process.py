"""What the program does with its own process, before anything else: descriptors, streams, signals."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

MAX_IMAGE_PIXELS = 200_000_000
"""The default of `yoloship.images.ImageLimits`, which is not imported before it is needed."""
_ENDING = ("SIGTERM", "SIGHUP")


class Terminated(KeyboardInterrupt):
    """The process was asked to end; whatever cleans up after Ctrl-C cleans up after this.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def prepare_process() -> None:
    """Make the standard streams and signals of this process what the rest of the program may rely on."""
    _reopen_descriptors()
    # The program's own process, so its environment may be set: OpenCV's log lines would stand beside our one line.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # The header of an image is checked before OpenCV sees it. Should the two ever disagree, OpenCV refuses too.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_IMAGE_PIXELS))
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter is no reason to stop
            stream.reconfigure(errors="replace")
    for name in _ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores some, and means it
            signal.signal(number, _terminate)


def _reopen_descriptors() -> None:
    """Lead a standard descriptor that is closed nowhere, so that no file that is opened later takes its number."""
    for number in (0, 1, 2):
        if not _is_open(number):
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    raise Terminated(number)
