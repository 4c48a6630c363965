"""From the packets of a decoder process to frames, in this process, by a device that decodes: `Unpacker`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from yoloship._util.closing import Closing
from yoloship.errors import ImageError, YoloshipError
from yoloship.sources.live.messages import Alive, Coded, Damaged, Packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yoloship.sources.source import ImageOnDevice

MAX_PACKETS_PER_S: Final = 1000
"""Of one stream. A hostile one could take this process's time with thousands of tiny packets."""


class PacketDecoder(Protocol):
    """Decodes the packets of one stream, for one thread at a time."""

    def decode(self, packet: Any) -> list[Any]:
        """Decode a packet.

        Args:
            packet: An `av.Packet`; None for the end, which gives the frames that are still inside.

        Returns:
            The `av.VideoFrame`s that are complete, in the order in which they are shown.

        Raises:
            av.FFmpegError: `InvalidDataError` if the packet is damaged; others if the decoder cannot go on.
            ImageError: a frame is too large.
        """

    def image(self, frame: Any) -> tuple[ImageOnDevice, tuple[int, int]]:
        """Take a decoded frame.

        Returns:
            The image, which its receiver closes, and its height and width once it is upright.

        Raises:
            YoloshipError: the device cannot give it as an image.
        """

    def close(self) -> None:
        """Give the decoder back. It may be called twice."""


class PacketDecoding(Protocol):
    """Opens decoders of a device. Threads may share it.

    Attributes:
        has_fallback: Whether the CPU decodes a stream that the device does not decode. If not, such a stream fails.
    """

    has_fallback: bool

    def open(self, coded: Coded) -> PacketDecoder:
        """Open a decoder for a stream.

        Args:
            coded: What its decoder process says about it, which is not to be trusted.

        Raises:
            YoloshipError: the device cannot decode it.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A decoded frame.

    Attributes:
        index: Its place in this connection, from 0, counting those that were left out.
        image_hw: Height and width of the upright image.
        pts: Its time in `Opened.time_base`; None if it has none.
        image: Its receiver closes it.
    """

    index: int
    image_hw: tuple[int, int]
    pts: int | None
    image: ImageOnDevice


class NotDecodedError(YoloshipError):
    """The device does not decode this stream, or not any further."""


class TooLargeError(YoloshipError):
    """The stream has frames that are larger than the limit."""


class Unpacker(Closing):
    """Decodes the packets of one connection. For one thread.

    Args:
        decoding: Opens its decoder.
        step: Give every n-th frame.
        pause: Waits for some seconds, or until the stream is closed.
    """

    def __init__(self, decoding: PacketDecoding, step: int, pause: Callable[[float], object]) -> None:
        self._decoding, self._step, self._pause = decoding, step, pause
        self._decoder: PacketDecoder | None = None
        self._index = 0
        self._has_frames = False
        self._second, self._in_second = 0.0, 0

    @property
    def is_open(self) -> bool:
        """Whether the stream comes as packets."""
        return self._decoder is not None

    def open(self, coded: Coded) -> None:
        """Open a decoder; the one before it is closed.

        Raises:
            NotDecodedError: the device cannot decode the stream.
        """
        self.close()
        try:
            self._decoder = self._decoding.open(coded)
        except YoloshipError as error:
            raise NotDecodedError(_reason(error)) from error
        except Exception as error:  # see `_decoded`
            raise NotDecodedError(f"{type(error).__name__}: {error}") from error

    def frames(self, packet: Packet | Coded | Damaged | None) -> Iterator[Shown | Damaged | Alive]:
        """What a message of the decoder process gives.

        Args:
            packet: A packet, or new parameters, or a packet that cannot be sent; None gives the frames that are still
                in the decoder.

        Yields:
            Frames; a `Damaged` for each that cannot be decoded; an `Alive` for each that the step leaves out.

        Raises:
            NotDecodedError: the device does not decode the stream any further.
            TooLargeError: a frame is too large.
        """
        if isinstance(packet, Coded):
            yield from self._decoded(None)
            self.open(packet)
        elif isinstance(packet, Damaged):
            yield from self._damaged()
        elif packet is None:
            yield from self._decoded(None)
        else:
            self._hold_back()
            yield from self._decoded(_as_packet(packet))

    def close(self) -> None:
        """Close the decoder. It may be called twice."""
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.close()

    def _decoded(self, packet: Any) -> Iterator[Shown | Damaged | Alive]:
        from av.error import EOFError as EndError
        from av.error import FFmpegError, InvalidDataError

        decoder = self._decoder
        if decoder is None:
            return
        try:
            frames = decoder.decode(packet)
        except InvalidDataError:
            yield from self._damaged()
            return
        except EndError:
            return
        except ImageError as error:
            raise TooLargeError("its frames are too large", got=error.got, hint="send at most 8K") from error
        except YoloshipError as error:
            raise NotDecodedError(_reason(error)) from error
        except FFmpegError as error:
            raise NotDecodedError(error.strerror or str(error)) from error
        except Exception as error:  # whatever a stream does to a decoder, its own process is there to decode it
            raise NotDecodedError(f"{type(error).__name__}: {error}") from error
        frames.reverse()
        while frames:
            yield from self._shown(decoder, frames.pop())

    def _shown(self, decoder: PacketDecoder, frame: Any) -> Iterator[Shown | Damaged | Alive]:
        if frame.is_corrupt:
            yield from self._damaged()
            return
        index = self._index
        self._index += 1
        self._has_frames = True
        if index % self._step:
            yield Alive()
            return
        try:
            image, image_hw = decoder.image(frame)
        except YoloshipError as error:
            raise NotDecodedError(_reason(error)) from error
        except Exception as error:  # see `_decoded`
            raise NotDecodedError(f"{type(error).__name__}: {error}") from error
        yield Shown(index, image_hw, frame.pts, image)

    def _damaged(self) -> Iterator[Damaged]:
        """Count a damaged frame. Before the first good one, it only means that no key frame came yet."""
        if self._has_frames:
            index = self._index
            self._index += 1
            yield Damaged(index)

    def _hold_back(self) -> None:
        """Wait if a stream sends more packets than any camera."""
        now_s = time.monotonic()
        if now_s - self._second >= 1:
            self._second, self._in_second = now_s, 0
        self._in_second += 1
        if self._in_second > MAX_PACKETS_PER_S:
            self._pause(self._second + 1 - now_s)


def _as_packet(packet: Packet) -> Any:
    import av

    made = av.Packet(packet.data)
    made.pts, made.dts = packet.pts, packet.dts
    made.is_keyframe, made.is_corrupt = packet.is_key, packet.is_corrupt
    return made


def _reason(error: YoloshipError) -> str:
    """An error as a part of a sentence, without the next step."""
    subject = f"{error.subject}: " if error.subject else ""
    got = f" ({error.got})" if error.got else ""
    return f"{subject}{error.problem}{got}"
