"""Encodes frames as H.264 into an MP4 file that can be played while it grows: `Mp4Encoder`."""

from __future__ import annotations

import logging
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.cores import usable_cores
from yoloship.errors import DependencyError, YoloshipError
from yoloship.sinks.sound import Sound
from yoloship.sources.pyav_video import load_av
from yoloship.sources.reader import VIDEO_HINT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    import numpy.typing as npt

    from yoloship.sources import Frame, Stream

    Image = npt.NDArray[np.uint8]

_logger = logging.getLogger("yoloship.sinks")
ENCODER: Final = "libx264"
QUALITY: Final = MappingProxyType({"crf": "23", "preset": "veryfast", "bf": "0"})
"""x264's usual quality. Without B-frames, packets come in the order in which they are shown, and times begin as they do
in the source. The fast preset also looks less far ahead, so that a kill loses less."""
LIVE: Final = MappingProxyType({**QUALITY, "tune": "zerolatency"})
"""Of cameras, which may give few frames in a second: no frame waits for those after it."""
FRAGMENT_S: Final = 2
"""Seconds between two key frames, and the most of a fragment."""
MAX_THREADS: Final = 4
MAX_TICKS: Final = 1_000_000
"""Most units of time in a second; MP4 and x264 count in 32 bits."""
_FALLBACK_BASE: Final = Fraction(1, 90_000)
_USUAL_RATE: Final = Fraction(25)
_OPTIONS: Final = MappingProxyType(
    {
        "movflags": "frag_keyframe+delay_moov+default_base_moof",
        "frag_duration": str(FRAGMENT_S * 1_000_000),
        "flush_packets": "1",
        "max_interleave_delta": "1000000",
    }
)
"""Fragments, so that the file can be played while it grows and no table of all frames grows in memory. The header comes
with the first fragment, because it then states when each track begins, and no time is moved. Packets wait at most a
second for those of the sound."""
_BT709, _LIMITED = 1, 1
_ITU709 = 1
"""The same colour space in the numbers of FFmpeg's scaler."""


class Mp4Encoder:
    """An MP4 file that grows, frame by frame. Not for several threads at once.

    Args:
        file: Where the bytes go: it has `write`, `seek` and `tell`. The caller closes it.
        stream: The video or camera whose frames are written.
        image_hw: (height, width) of its frames. An odd side gets one more row or column.

    Raises:
        DependencyError: PyAV is not installed, or has no encoder for H.264.
    """

    def __init__(self, file: BinaryIO, stream: Stream, image_hw: tuple[int, int]) -> None:
        self._av = load_encoder()
        base = stream.time_base or _FALLBACK_BASE
        self._base = base if 1 / base <= MAX_TICKS and base.denominator <= MAX_TICKS else _FALLBACK_BASE
        self._keeps_pts = self._base == stream.time_base
        self._hw = (image_hw[0] + image_hw[0] % 2, image_hw[1] + image_hw[1] % 2)
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._offset: int | None = None
        self._last: int | None = None
        # The first time of the video is stated in these units. By default they are milliseconds.
        ticks = self._base.denominator * -(-1000 // self._base.denominator)
        options = {**_OPTIONS, "movie_timescale": str(ticks)}
        self._container = self._av.open(file, "w", format="mp4", container_options=options)
        rate = stream.rate or _USUAL_RATE
        self._video = self._container.add_stream(ENCODER, rate=rate, options=dict(LIVE if stream.is_live else QUALITY))
        self._video.height, self._video.width = self._hw
        self._video.pix_fmt = "yuv420p"
        context = self._video.codec_context
        context.time_base = self._base
        context.gop_size = max(1, min(round(FRAGMENT_S * rate), 600))
        context.thread_count = min(MAX_THREADS, usable_cores())
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        self._sound = self._sound_of(stream)

    def add(self, image: Image, frame: Frame) -> None:
        """Append a frame, at its own time.

        Args:
            image: (height, width, 3) uint8 BGR. One of another size than the first is scaled to fit, with black bars.
            frame: The frame that it is of.

        Raises:
            av.FFmpegError: it cannot be encoded; also `OSError`, if the file cannot be written.
        """
        picture = self._av.VideoFrame.from_ndarray(fitted(image, self._hw), format="bgr24")
        picture = self._reformatter.reformat(
            picture, format="yuv420p", dst_colorspace=_ITU709, dst_color_range=_LIMITED, interpolation="BICUBIC",
            threads=1,
        )  # fmt: skip
        picture.pts, picture.time_base = self._pts(frame), self._base
        self._mux(self._video.encode(picture))

    def finish(self) -> None:
        """Write what is left, the rest of the sound included, and an index of the fragments.

        Raises:
            av.FFmpegError: it cannot be encoded; also `OSError`, if the file cannot be written.
        """
        self._flush(None)

    def stop(self) -> None:
        """`finish` in the middle of the source: the sound ends with the last frame."""
        self._flush(Fraction(self._last or 0) * self._base)

    def _flush(self, end_s: Fraction | None) -> None:
        self._mux(self._video.encode(None))
        if self._sound is not None:
            self._mux_sound(self._sound, end_s)
        self.close()

    def close(self) -> None:
        """Release the encoder and the video of the sound."""
        if self._sound is not None:
            self._sound.close()
        self._container.close()

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            if self._sound is not None:
                self._mux_sound(self._sound, packet.pts * packet.time_base)
            self._container.mux_one(packet)

    def _mux_sound(self, sound: Sound, end_s: Fraction | None) -> None:
        refusals = (self._av.error.ArgumentError, self._av.error.InvalidDataError)
        for packet in sound.until(end_s):
            try:
                self._container.mux_one(packet)
            except refusals:  # noqa: PERF203 - a damaged packet, which the others do not need
                sound.lose()

    def _pts(self, frame: Frame) -> int:
        """The time of a frame in the file: that of the source, unless it goes back."""
        ticks = round(Fraction(frame.time_s or 0) / self._base)
        if self._offset is None:
            self._offset = frame.pts - ticks if frame.pts is not None and self._keeps_pts else 0
        pts = ticks + self._offset
        self._last = pts if self._last is None or pts > self._last else self._last + 1
        return self._last

    def _sound_of(self, stream: Stream) -> Sound | None:
        if not stream.has_audio or stream.path is None:
            return None
        try:
            return Sound(stream.path, self._container)
        except (YoloshipError, self._av.FFmpegError, OSError, ValueError, OverflowError) as error:
            _logger.warning("the annotated video is without sound: %s", error)
            return None


def load_encoder() -> Any:
    """PyAV, with an encoder for H.264.

    Raises:
        DependencyError: it is not installed, or has no such encoder.
    """
    name, hint = "writing annotated videos", f"{VIDEO_HINT}, or give --no-draw"
    try:
        av = load_av(name)
    except DependencyError as error:
        raise DependencyError("needs PyAV", subject=name, hint=hint) from error
    try:
        av.Codec(ENCODER, "w")
    except ValueError as error:  # `UnknownCodecError` is one
        raise DependencyError(
            f"cannot write annotated videos: the installed PyAV has no encoder {ENCODER!r}", hint=hint
        ) from error
    return av


def fitted(image: Image, hw: tuple[int, int]) -> Image:
    """An image of exactly this size: as it is, one row or column repeated, or scaled to fit between black bars.

    Args:
        image: (height, width, 3) uint8 BGR; read only.
        hw: (height, width), both even.

    Returns:
        (height, width, 3) uint8 BGR, contiguous; `image` itself if it fits.
    """
    import cv2

    height, width = image.shape[:2]
    if (height, width) == hw:
        return np.ascontiguousarray(image)
    if (height + height % 2, width + width % 2) != hw:
        scale = min(hw[0] / height, hw[1] / width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        placed = np.zeros((*hw, 3), np.uint8)
        top, left = (hw[0] - size[1]) // 2, (hw[1] - size[0]) // 2
        placed[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return placed
    padded = cv2.copyMakeBorder(image, 0, hw[0] - height, 0, hw[1] - width, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.uint8)
