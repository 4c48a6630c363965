"""Decodes a video with PyAV: the frames with the times that the file gives them, and their errors.

A file is opened by Python and handed to FFmpeg as bytes. So no name is taken for an address or a pattern, and a file
that refers to others, as a playlist does, cannot have them opened. Containers are a closed table.
"""

from __future__ import annotations

import re
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, NoReturn

from yoloship._util.cores import usable_cores
from yoloship._util.reading import open_regular
from yoloship.errors import DependencyError, ImageError, InputError, YoloshipError
from yoloship.images import DEFAULT_LIMITS, ImageLimits
from yoloship.sources.pixels import Converter, check_size
from yoloship.sources.reader import MAX_BROKEN_IN_A_ROW, VIDEO_HINT, Decoded
from yoloship.sources.source import Stream
from yoloship.sources.truncation import missing_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction
    from pathlib import Path
    from typing import BinaryIO

    from typing_extensions import Self

CONTAINERS: Final = (
    "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,h264,hevc,mjpeg,yuv4mpegpipe,ivf,obu,mpegvideo,m4v,mxf,wtv,nut,gif"
)
"""Names of FFmpeg's demuxers that may be used. None of them opens another file."""
MAX_THREADS: Final = 4
"""Of the decoder. More cost memory, and the network wants the cores too."""
MAX_RATE: Final = 1000
"""Frames per second that a video may declare; some declare the unit of their times."""
_BUFFER_BYTES: Final = 1 << 18
_LABELS: Final = (rb"stsd.{12}(.{4})", rb"\x86[\x81-\xbf](V_[A-Z0-9_/]+)", rb"strh.{4}vids(.{4})")
"""Where a file states the codec of its video: ISO media, Matroska, AVI."""


class PyavVideo:
    """A video that PyAV decodes.

    Args:
        file: Where the bytes come from; it may lack `seek`. The caller closes it.
        name: What to call the video.
        path: Its file; None if it is not a file.
        limits: The largest allowed frame.
        threads: Threads of the decoder.

    Raises:
        InputError: it is not a video, has no frames, or its container or codec is not taken.
        DependencyError: PyAV is not installed.

    Attributes:
        is_at_end: Whether all packets were decoded. An error that comes then is about the file, not about a frame.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        path: Path | None = None,
        *,
        limits: ImageLimits = DEFAULT_LIMITS,
        threads: int = MAX_THREADS,
    ) -> None:
        av = load_av(name)
        self._threads = threads
        self.is_at_end = False
        self._av, self._file, self._name, self._limits = av, file, name, limits
        self._can_seek = hasattr(file, "seek")
        self._converter = Converter(limits)
        self._missing_bytes = self._delay = 0
        self._broke_off = False
        if self._can_seek:
            self._missing_bytes = missing_bytes(file)
            file.seek(0)
        with ExitStack() as stack:
            try:
                self._container = open_container(av, file, limits)
            except (av.FFmpegError, OSError, UnicodeError) as error:
                self._refuse_file(error)
            stack.callback(self._container.close)
            self._video = self._best()
            self._prepare(self._video)
            self.stream = Stream(
                name,
                path,
                rate=_rate(self._video),
                time_base=self._video.time_base,
                frame_count=self._video.frames or None,
                has_audio=bool(self._container.streams.audio),
            )
            stack.pop_all()

    @classmethod
    def of_path(cls, path: Path, resources: ExitStack, *, limits: ImageLimits = DEFAULT_LIMITS) -> Self:
        """Open a file.

        Args:
            path: The file.
            resources: Closes it, and the video.
            limits: The largest allowed frame.

        Raises:
            InputError: see the class; or the file cannot be read.
        """
        file = resources.enter_context(open_regular(path, error=InputError, wanted="a video"))
        video = cls(file, str(path), path, limits=limits)
        resources.callback(video.close)
        return video

    def frames(self, is_wanted: Callable[[int], bool]) -> Iterator[Decoded]:
        """Decode the frames, in the order in which they are shown; see `VideoReader.frames`."""
        count = broken = damaged = 0
        cut = self._missing_bytes
        for decoded in self._decoded():
            made = decoded if isinstance(decoded, Decoded) else self._image(decoded, wanted=is_wanted(count))
            broken = broken + 1 if made.error is not None else 0
            damaged += made.error is not None
            count += 1
            yield made
            if broken == MAX_BROKEN_IN_A_ROW:
                yield Decoded(None, None, ImageError(f"was abandoned after {broken} damaged frames in a row"))
                return
        self.is_at_end = True
        if cut:
            yield Decoded(
                None, None,
                ImageError(f"is cut short: {cut:,} bytes are missing after this frame", hint="copy the video again"),
            )  # fmt: skip
        elif damaged and not self._broke_off and count < (declared := self.stream.frame_count or 0):
            missing = f"{declared - count} of {declared} frames could not be decoded, because others are damaged"
            yield Decoded(None, None, ImageError(missing))
        elif not count:
            yield Decoded(None, None, ImageError("has no frames", got=f"{self._container.format.name}"))

    def close(self) -> None:
        """Release the decoder. It may be called twice."""
        self._container.close()

    def _decoded(self) -> Iterator[Any]:
        """Frames of PyAV, and a `Decoded` for each that is broken."""
        packets = self._container.demux(self._video)
        # A decoder that works on several frames at once says so many packets later that one of them is broken.
        sent: deque[int | None] = deque(maxlen=self._delay + 1)
        given = 0
        late: deque[tuple[int, Decoded]] = deque()  # each behind so many frames
        while True:
            try:
                packet = next(packets, None)
            except (self._av.FFmpegError, OSError) as error:
                self._broke_off = True
                yield from self._taken_out(self._held_back())
                yield from (broken for _, broken in late)
                hint = None if self._can_seek else "if it is an MP4 file that was not made for streaming, give its name"
                yield Decoded(None, None, ImageError("cannot be read any further", got=_said(error), hint=hint))
                return
            if packet is None:
                yield from (broken for _, broken in late)
                return
            if self._missing_bytes and packet.is_corrupt:  # the last one, of which there is a part
                continue
            sent.append(packet.pts)
            try:
                for frame in self._decode(packet):
                    while late and late[0][0] <= given:
                        yield late.popleft()[1]
                    given += 1
                    yield frame
            except (self._av.FFmpegError, OSError) as error:
                if isinstance(error, self._av.error.EOFError):
                    continue
                late.append((given + self._held_back(), Decoded(None, sent[0], _damaged(_said(error)))))
            while late and late[0][0] <= given:
                yield late.popleft()[1]

    def _decode(self, packet: Any) -> list[Any]:
        """The frames that a packet completes."""
        frames: list[Any] = packet.decode()
        return frames

    def _held_back(self) -> int:
        """Frames that come before the one of the last packet, beyond those that their order holds back."""
        return 0

    def _taken_out(self, count: int) -> list[Any]:
        """So many of them, if there is no other packet."""
        del count
        return []

    def _image(self, frame: Any, *, wanted: bool) -> Decoded:
        if frame.is_corrupt:
            return Decoded(None, frame.pts, _damaged())
        if not wanted:
            return Decoded(None, frame.pts)
        try:
            return Decoded(self._converter.upright_bgr(frame), frame.pts)
        except YoloshipError as error:
            return Decoded(None, frame.pts, error)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            failure = ImageError("frame cannot be converted to BGR", got=f"{frame.format.name}, {_said(error)}")
            return Decoded(None, frame.pts, failure)

    def _best(self) -> Any:
        """The video stream to decode: the one that players choose, but never the picture on the cover of a song."""
        streams = self._container.streams
        cover = self._av.stream.Disposition.attached_pic
        found = [stream for stream in streams.video if not stream.disposition & cover]
        if not found:
            others = ", ".join(sorted({stream.type for stream in streams})) or "nothing"
            if self._missing_bytes and "audio" not in others:
                raise self._cut_early()
            raise InputError("has no video", subject=self._name, got=others)
        best = streams.best("video")
        chosen = best if best in found else found[0]
        if chosen.codec_context is None:
            raise self._no_codec()
        return chosen

    def _prepare(self, video: Any) -> None:
        """Open the decoder, which allocates no frame beyond the limits, whatever size comes in the middle."""
        check_size(video.width, video.height, self._limits, self._name)
        context = video.codec_context
        context.thread_type, context.thread_count = "AUTO", min(self._threads, usable_cores())
        context.options = {"max_pixels": str(self._limits.max_pixels)}
        if context.codec.capabilities & self._av.codec.Capabilities.frame_threads:
            self._delay = context.thread_count - 1
        try:
            context.open(strict=False)
        except (self._av.FFmpegError, OSError) as error:
            raise self._no_codec() from error

    def _no_codec(self) -> InputError:
        label = _codec_label(self._file) if self._can_seek else None
        return InputError(
            "has a codec that the installed FFmpeg cannot decode", subject=self._name,
            got=label or "one that the file does not name", hint="convert the video to H.264",
        )  # fmt: skip

    def _cut_early(self) -> InputError:
        return InputError(
            f"is cut short before its first frame: {self._missing_bytes:,} bytes are missing", subject=self._name,
            hint="copy the video again",
        )  # fmt: skip

    def _refuse_file(self, error: Exception) -> NoReturn:
        if self._missing_bytes:
            raise self._cut_early() from error
        if isinstance(error, self._av.error.ArgumentError | PermissionError):
            raise InputError(
                "is not a video in a container that yoloship reads", subject=self._name,
                expected="MP4, MOV, MKV, WebM, AVI, TS, MPEG, FLV, WMV, OGV, Y4M, MJPEG, H.264 or H.265",
            ) from error  # fmt: skip
        raise InputError(
            "is not a video, or is damaged at its beginning", subject=self._name, got=_said(error)
        ) from error


def open_container(av: Any, file: BinaryIO, limits: ImageLimits = DEFAULT_LIMITS) -> Any:
    """Open a file, without trust: as a container of the closed table, without other files, and within the limits.

    Args:
        av: PyAV.
        file: Where the bytes come from; it may lack `seek`. The caller closes it.
        limits: The largest allowed frame.

    Returns:
        The `av.InputContainer`; the caller closes it.

    Raises:
        av.FFmpegError: it is not such a container, or is damaged; also `OSError` or `UnicodeError`.
    """
    options = {"format_whitelist": CONTAINERS, "max_pixels": str(limits.max_pixels)}
    # Titles in another encoding than UTF-8 are no reason to refuse a video. PyAV 19 does not decode them any longer.
    lenient = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    return av.open(file, "r", options=options, io_open=_no_other_file, buffer_size=_BUFFER_BYTES, **lenient)


def load_av(name: str) -> Any:
    """PyAV.

    Args:
        name: What needs it, for the message.

    Raises:
        DependencyError: it is not installed, or cannot be loaded.
    """
    try:
        import av
        import av.sidedata.sidedata
        import av.video.reformatter
    except ImportError as error:
        raise DependencyError("needs PyAV", subject=name, hint=VIDEO_HINT) from error
    return av


def _no_other_file(url: str, flags: int, options: object) -> NoReturn:  # noqa: ARG001 - PyAV gives all three
    """Refuse to open what a file refers to."""
    raise PermissionError(f"refers to another file or address: {url}")


def _damaged(got: str | None = None) -> ImageError:
    return ImageError("frame is damaged", got=got)


def _rate(video: Any) -> Fraction | None:
    """The declared rate, unless it is none that a video can have."""
    rate: Fraction | None = video.average_rate
    return rate if rate and 0 < rate <= MAX_RATE else None


def _said(error: Exception) -> str:
    """FFmpeg's reason, without the name of its function."""
    return str(getattr(error, "strerror", None) or error)[:120]


def _codec_label(file: BinaryIO) -> str | None:
    """What a file calls the codec of its video, for a message; None if it cannot be found."""
    size = file.seek(0, 2)
    for start in (0, max(0, size - (4 << 20))):
        file.seek(start)
        data = file.read(4 << 20)
        for pattern in _LABELS:
            for match in re.finditer(pattern, data, re.DOTALL):
                label = match[1].decode("latin-1")
                if label not in {"mp4a", "text", "tmcd"}:
                    return repr(label)
    return None
