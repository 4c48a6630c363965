"""Decodes video files on the GPU: `NvdecVideos` opens them, and falls back to the CPU, which has the last word.

The CPU's decoder looks at the first frame, which says how the frames lie, their colours and their rotation. Then the
GPU decodes from the beginning. If anything differs from that or fails, the CPU decodes the file anew and passes over
the frames that were given already: what is damaged is judged by the CPU alone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from yoloship._util.reading import open_regular
from yoloship.cuda.nvdec import FrameForm, Nvdec, NvdecDecoder, is_on_device
from yoloship.cuda.nvdec_packets import NvdecPackets
from yoloship.errors import DependencyError, ImageError, InputError, YoloshipError
from yoloship.images import DEFAULT_LIMITS, ImageLimits
from yoloship.sources.pixels import orientation_of
from yoloship.sources.pyav_video import PyavVideo
from yoloship.sources.reader import Decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack
    from pathlib import Path
    from typing import BinaryIO

    from yoloship.sources.source import Stream

SIDE_BY_SIDE: Final = 8
"""Videos that are decoded at the same time: an H100 has seven decoders, most GPUs have one to three."""
Fallback: TypeAlias = Literal["cpu", "none"]
"""Who decodes a video that the GPU does not decode: the CPU, or nobody, so that it is an error."""
_MAX_HELD: Final = 256
"""Packets before the first frame. A video that needs more of them is damaged."""


class NvdecVideos:
    """Opens video files for the decoders of a GPU; see `yoloship.sources.reader.VideoDecoding`. Threads may share it.

    Args:
        nvdec: The decoders.
        fallback: Who decodes a video that the GPU does not decode.
        limits: The largest frame to take.

    Attributes:
        side_by_side: Videos to decode at the same time.
        takes_files: True; see `VideoDecoding`.
    """

    takes_files = True

    def __init__(self, nvdec: Nvdec, fallback: Fallback = "cpu", *, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        self._nvdec = nvdec
        self._fallback = fallback
        self._limits = limits
        self.side_by_side = SIDE_BY_SIDE

    @property
    def packets(self) -> NvdecPackets:
        """Decodes the packets of live streams."""
        return NvdecPackets(self._nvdec, has_fallback=self._fallback == "cpu")

    def open(self, path: Path, resources: ExitStack, tell: Callable[[str], None]) -> NvdecVideo:
        """Open a video file; see `VideoDecoding.open`."""
        file = resources.enter_context(open_regular(path, error=InputError, wanted="a video"))
        video = NvdecVideo(self._nvdec, file, path, self._fallback, tell, limits=self._limits)
        resources.callback(video.close)
        return video


class NvdecVideo:
    """A video that the GPU decodes, or the CPU if the GPU does not; see `VideoReader`.

    Args:
        nvdec: The decoders.
        file: The video; the caller closes it.
        path: Its name.
        fallback: Who decodes it if the GPU does not.
        tell: Gets a line if the CPU decodes.
        limits: The largest frame to take.

    Raises:
        InputError: it is not a video, has no frames, or its container or codec is not taken.
        DependencyError: PyAV is not installed.

    Attributes:
        stream: The video.
    """

    def __init__(
        self,
        nvdec: Nvdec,
        file: BinaryIO,
        path: Path,
        fallback: Fallback,
        tell: Callable[[str], None],
        *,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> None:
        self._file, self._path, self._limits = file, path, limits
        self._fallback, self._tell = fallback, tell
        self._video: PyavVideo | None = _OnDevice(nvdec, file, path, limits, fallback)
        self.stream: Stream = self._video.stream

    def frames(self, is_wanted: Callable[[int], bool]) -> Iterator[Decoded]:
        """Decode the frames, in the order in which they are shown; see `VideoReader.frames`."""
        count = 0
        reason: str | None = None
        video = self._video
        assert isinstance(video, _OnDevice)
        try:
            for decoded in video.frames(is_wanted):
                if decoded.error is not None and (not video.is_at_end or not count):
                    if self._fallback == "none" and video.has_begun:
                        yield decoded
                        count += 1
                        continue
                    reason = reason_of(decoded.error)
                    if not count and decoded.error.got:  # nothing says yet that the video is what is wrong
                        reason = f"the GPU's decoder failed ({decoded.error.got})"
                    break
                yield decoded
                count += 1
                del decoded
            else:
                return
        except _NotHereError as error:
            reason = error.reason
        video.close()
        if self._fallback == "none":
            raise InputError(
                f"cannot be decoded by the GPU (frame {count}): {reason}", subject=str(self._path),
                hint="use decode='auto' (--decode auto)",
            )  # fmt: skip
        start = f" from frame {count}" if count else ""
        self._tell(f"{self.stream.name}: decoded by the CPU{start}: {reason}")
        yield from self._by_cpu(is_wanted, count)

    def close(self) -> None:
        """Release the decoder. It may be called twice."""
        if self._video is not None:
            self._video.close()
            self._video = None

    def _by_cpu(self, is_wanted: Callable[[int], bool], given: int) -> Iterator[Decoded]:
        """All frames behind those that were given already."""
        self._file.seek(0)
        video = self._video = PyavVideo(self._file, str(self._path), self._path, limits=self._limits)
        breaks_off: Decoded | None = None
        for place, decoded in enumerate(video.frames(lambda place: place >= given and is_wanted(place))):
            if place >= given:
                yield decoded
            breaks_off = decoded if place < given and decoded.error is not None else None
        if breaks_off is not None:  # sooner than for the GPU, because the CPU's threads hold more frames back
            yield breaks_off


class _NotHereError(Exception):
    """The GPU does not decode this video, or not any further."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _OnDevice(PyavVideo):
    """A video whose packets go to a decoder of the GPU, once the CPU's has shown what the first frame is like."""

    def __init__(self, nvdec: Nvdec, file: BinaryIO, path: Path, limits: ImageLimits, fallback: Fallback) -> None:
        super().__init__(file, str(path), path, limits=limits, threads=1)
        self._fallback = fallback
        self._nvdec = nvdec
        self._form: FrameForm | None = None
        self._decoder: NvdecDecoder | None = None
        self._held: list[Any] = []
        self._rotation: int | None = None
        self._inside = 0  # frames, in the decoder
        self._reorder_depth = getattr(self._video.codec_context, "reorder_depth", None)  # PyAV 18 has it

    @property
    def has_begun(self) -> bool:
        """Whether the GPU has given a frame."""
        return self._decoder is not None and self._form is not None

    def close(self) -> None:
        """Give the session back, and close the file's container. It may be called twice."""
        self._held.clear()
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.close_later()
        super().close()

    def _decode(self, packet: Any) -> list[Any]:
        try:
            return self._begin(packet) if self._decoder is None else self._on_device(self._decoder, packet)
        except (DependencyError, ImageError, InputError) as error:
            raise _NotHereError(reason_of(error)) from error

    def _begin(self, packet: Any) -> list[Any]:
        """Let the CPU's decoder look at a packet, and decode all packets so far once it has seen a frame."""
        self._held.append(packet)
        if len(self._held) > _MAX_HELD:
            raise _NotHereError(f"no frame is in its first {_MAX_HELD} packets")
        context = self._video.codec_context
        shown = super()._decode(packet)
        if not shown:
            return []
        self._form = self._form_of(shown[0])
        decoder = self._nvdec.decoder(
            context.codec.canonical_name, context.extradata, reorder_depth=self._reorder_depth, limits=self._limits
        )
        self._decoder = decoder
        context.flush_buffers()
        held, self._held = self._held, []
        return [frame for one in held for frame in self._on_device(decoder, one)]

    def _on_device(self, decoder: NvdecDecoder, packet: Any) -> list[Any]:
        frames = decoder.decode(packet)
        self._inside += 1 - len(frames)
        return frames

    def _held_back(self) -> int:
        if self._decoder is None:
            return 0
        return max(0, min(self._decoder.ahead, self._inside - (self._reorder_depth or 0)))

    def _taken_out(self, count: int) -> list[Any]:
        if self._decoder is not None and count:
            with suppress(self._av.FFmpegError):
                return self._decode(None)[:count]
        return []

    def _image(self, frame: Any, *, wanted: bool) -> Decoded:
        if not is_on_device(frame):
            codec = self._video.codec_context.codec.canonical_name
            what = f"{codec}, {frame.format.name}, {frame.width}×{frame.height}"
            raise _NotHereError(f"NVDEC does not take it ({what}), or has no session left")
        if frame.is_corrupt:
            if self._fallback == "none":
                return super()._image(frame, wanted=wanted)  # the error of this frame alone
            raise _NotHereError("the frame is damaged")
        if self._rotation is None:
            self._rotation = frame.rotation
        try:
            form = self._form_of(frame)
            if (self._form, self._rotation) != (form, frame.rotation):
                raise _NotHereError("its frames change their size, colours or rotation")
            return Decoded(self._nvdec.image(frame, form) if wanted else None, frame.pts)
        except InputError as error:
            raise _NotHereError(reason_of(error)) from error

    def _form_of(self, frame: Any) -> FrameForm:
        if self._form is not None and is_on_device(frame):  # which does not know the rotation of the container
            return FrameForm.of(frame, self._form.orientation)
        return FrameForm.of(frame, orientation_of(self._converter.matrix(frame)))


def reason_of(error: YoloshipError) -> str:
    """An error as a part of a sentence, without the next step."""
    subject = f"{error.subject}: " if error.subject else ""
    got = f" ({error.got})" if error.got else ""
    return f"{subject}{error.problem}{got}"
