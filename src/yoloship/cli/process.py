"""What the program does with its own process, before anything else: descriptors, streams, signals."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, TextIO, cast

if TYPE_CHECKING:
    from types import FrameType

MAX_IMAGE_PIXELS = 200_000_000
"""The default of `yoloship.images.ImageLimits`, which is not imported before it is needed."""
ENVIRONMENT = MappingProxyType(
    {
        "OPENCV_LOG_LEVEL": "SILENT",  # its lines would stand beside our one line
        # NumPy and OpenCV would each start a thread for every core, with a buffer, for products that are tiny here.
        # Where memory is limited that ends the process by a segmentation fault.
        "OPENBLAS_NUM_THREADS": "1",
    }
)
"""Set for this process, which is the program's own, unless the user has set it."""

_ENDING = ("SIGTERM", "SIGHUP")


class Terminated(KeyboardInterrupt):
    """The process was asked to end; whatever cleans up after Ctrl-C cleans up after this.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _ClosedStream(io.TextIOBase):
    """In place of a stdout that was closed before the program began: results must not be lost in silence."""

    def write(self, _: object) -> int:
        """Refuse, as a closed descriptor does."""
        raise OSError(errno.EBADF, "it is closed")

    @property
    def buffer(self) -> _ClosedStream:
        """Itself: bytes are refused too."""
        return self


def prepare_process() -> None:
    """Make the standard streams and signals of this process what the rest of the program may rely on."""
    _reopen_descriptors()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # The header of an image is checked before OpenCV sees it. Should the two ever disagree, OpenCV refuses too.
    given = os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "")
    if not (given.isascii() and given.isdecimal() and len(given) < 19):  # OpenCV ends the process over other text
        os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_IMAGE_PIXELS)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = cast("TextIO", _ClosedStream())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter is no reason to stop
            stream.reconfigure(errors="replace")
    for name in _ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores some, and means it
            signal.signal(number, _terminate)


def _reopen_descriptors() -> None:
    """Open standard descriptors that are closed, so that no file that is opened later takes the number of one.

    A stdout that was closed refuses what is written, however it is named; a stderr takes it and forgets it.
    """
    for number, mode in ((0, os.O_RDWR), (1, os.O_RDONLY), (2, os.O_RDWR)):
        if not _is_open(number):
            opened = os.open(os.devnull, mode)
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
