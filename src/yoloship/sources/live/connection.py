"""One decoder process: its memory, its messages, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from yoloship._util.closing import Closing
from yoloship.sources.live.decoder import FRAMES, PACKETS, Order
from yoloship.sources.live.messages import Arrived, BrokenDecoderError, Incoming
from yoloship.sources.live.ring import Ring, make_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from yoloship.sources.live.messages import Message
    from yoloship.sources.live.target import Target
    from yoloship.sources.settings import SourceOptions

_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from yoloship.sources.live.decoder import main; main()"
)
"""Isolated, with the parent's own path: a module in the current folder is not loaded instead of a library."""
_PIPE_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 16
"""At once: several frames of a camera."""


class Connection(Closing):
    """A decoder process and its ring. Iterating gives its messages until its output ends.

    Args:
        target: What it reads.
        options: How.
        slots: Slots of the ring.
        packets: Whether the decoder asks, with `Coded`, if it shall send packets instead of frames.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, target: Target, options: SourceOptions, slots: int, *, packets: bool = False) -> None:
        memory = make_memory(slots)
        try:
            self._ring = Ring(memory, slots)
            self._process = subprocess.Popen(  # noqa: S603 - this Python, on a program of ours
                [sys.executable, "-I", "-c", _PROGRAM, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                stderr=subprocess.DEVNULL,  # FFmpeg prints addresses with their passwords
                pass_fds=(memory,),
                start_new_session=True,  # Ctrl-C is for the parent, which ends its decoders
            )
        finally:
            os.close(memory)
        self._incoming = Incoming(slots)
        self._held: set[int] = set()
        self._lock = threading.Lock()
        self._dropped = 0
        timeout_s = options.live_timeout_s
        address = {} if target.camera is not None else dict(target.options(timeout_s))
        order = Order(
            target.camera, target.address, address, options.live, options.frame_step, timeout_s, slots, memory, packets
        )
        self._send(json.dumps(asdict(order)).encode() + b"\n")  # not as an argument, which everybody can see
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)

    @property
    def is_full(self) -> bool:
        """Whether all slots are taken, so that the decoder may have to wait."""
        with self._lock:
            return len(self._held) == self._ring.slots

    def __iter__(self) -> Iterator[Message]:
        """Each message of the decoder.

        Raises:
            BrokenDecoderError: it says something that makes no sense.
        """
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        while data := os.read(output, _READ_BYTES):
            yield from self._checked(data)

    def _checked(self, data: bytes) -> Iterator[Message]:
        for message in self._incoming.messages(data):
            if isinstance(message, Arrived):
                with self._lock:
                    if message.slot in self._held:
                        raise BrokenDecoderError("filled a slot that is not its own", subject="the decoder")
                    self._held.add(message.slot)
            yield message

    def answer(self, *, packets: bool) -> None:
        """Tell a decoder that has sent `Coded` whether it shall send packets, or frames."""
        if packets:
            self._widen()
        self._send(bytes([PACKETS if packets else FRAMES]))

    def newly_dropped(self, total: int) -> int:
        """How many frames the decoder dropped since it was last asked about, from its total."""
        new, self._dropped = max(total - self._dropped, 0), max(total, self._dropped)
        return new

    def take(self, slot: int, image_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Copy the image of a slot, and give the slot back.

        Returns:
            (height, width, 3) uint8 BGR, read only.
        """
        image: npt.NDArray[np.uint8] = self._ring.image(slot, image_hw).copy()
        image.flags.writeable = False
        self.give_back(slot)
        return image

    def give_back(self, slot: int) -> None:
        """Let the decoder fill a slot again."""
        with self._lock:
            self._held.discard(slot)
        self._send(bytes([slot]))

    def kill(self) -> None:
        """End the decoder at once, in any state that it may be in."""
        self._process.kill()

    def how_it_ended(self) -> str:
        """``signal SIGSEGV`` or ``exit code 1``; known after `close`."""
        code = self._process.returncode
        try:
            return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        except ValueError:
            return f"signal {-code}"

    def close(self) -> None:
        """End the decoder, and wait until it is gone. Frames that are not taken yet stay readable."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.close()
        self._process.stdout.close()

    def _widen(self) -> None:
        """Let more packets wait in the pipe, while this process is busy; where the system does not, fewer wait."""
        import fcntl

        assert self._process.stdout is not None
        with suppress(AttributeError, OSError):
            fcntl.fcntl(self._process.stdout.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            with self._lock:
                if not self._process.stdin.closed:
                    os.write(self._process.stdin.fileno(), data)
        except BlockingIOError:  # it fills slots, and never read that so many came back: nobody waits for such a one
            self.kill()
        except OSError:  # it is gone, and its output has ended too
            return
