"""The sound of a video for a copy of the video: its packets as they are if MP4 takes them, else encoded anew as AAC."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.closing import Closing
from yoloship._util.reading import open_regular
from yoloship.errors import InputError, OutputError
from yoloship.sources.pyav_video import load_av, open_container

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from pathlib import Path

COPIED: Final = frozenset(
    {"aac", "mp3", "mp3float", "mp2", "mp2float", "ac3", "eac3", "opus", "libopus", "flac", "alac"}
)
"""FFmpeg's names of the codecs that MP4 has a place for, and that players take from it."""
AAC_RATES: Final = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
"""Samples per second that AAC has, by their place in its headers. ISO/IEC 14496-3, table 1.18."""
USUAL_LAYOUTS: Final = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")
"""What one to eight channels mean if nothing says where their speakers are. ISO/IEC 14496-3, table 1.19."""
_logger = logging.getLogger("yoloship.sinks")


class Sound(Closing):
    """The first sound track of a video, as packets for an MP4 file.

    Args:
        path: The video, which has sound.
        output: The `av.OutputContainer`; it gets a stream for the sound.

    Raises:
        InputError: the video cannot be read any longer.
        OutputError: its sound has no place in MP4, and cannot be decoded, or cannot be encoded as AAC.
        DependencyError: PyAV is not installed.
    """

    def __init__(self, path: Path, output: Any) -> None:
        self._av, self._name = load_av(str(path)), str(path)
        self._last_dts: int | None = None
        self._left_out = 0
        with ExitStack() as stack:
            file = stack.enter_context(open_regular(path, error=InputError, wanted="a video"))
            try:
                container = open_container(self._av, file)
            except (self._av.FFmpegError, OSError, UnicodeError) as error:
                raise InputError("cannot be opened again for its sound", subject=self._name) from error
            stack.callback(container.close)
            source = container.streams.audio[0]
            codec = source.codec_context.name if source.codec_context is not None else None
            if codec is None:
                raise OutputError("sound has a codec that the installed FFmpeg does not know", subject=self._name)
            read = self._read(container, source)
            self._packets = (
                self._copied(read, output, source) if codec in COPIED else self._encoded(read, output, source)
            )
            self._waiting: Any = next(self._packets, None)  # what has no first packet has no stream either
            self._resources = stack.pop_all()

    def until(self, time_s: Fraction | None) -> Iterator[Any]:
        """The packets that begin before a time and were not given yet.

        Args:
            time_s: Seconds by the clock of the container, as `Frame.pts` counts them; None gives all that are left.
        """
        while (packet := self._waiting) is not None and (time_s is None or packet.pts * packet.time_base < time_s):
            self._waiting = next(self._packets, None)
            if self._last_dts is not None and packet.dts <= self._last_dts:
                self.lose()
                continue
            self._last_dts = packet.dts
            yield packet

    def lose(self) -> None:
        """Count a packet that MP4 did not take."""
        self._left_out += 1

    def close(self) -> None:
        """Release the video. It may be called twice."""
        if self._left_out:
            _logger.warning("%s: %d damaged packets of its sound were left out", self._name, self._left_out)
            self._left_out = 0
        self._resources.close()

    def _read(self, container: Any, source: Any) -> Iterator[Any]:
        packets = container.demux(source)
        while True:
            try:
                packet = next(packets, None)
            except (self._av.FFmpegError, OSError):
                return  # the source of the video says that it is damaged
            if packet is None:
                return
            if packet.size and packet.pts is not None and packet.dts is not None:
                yield packet

    def _copied(self, packets: Iterator[Any], output: Any, source: Any) -> Iterator[Any]:
        target: Any = None
        has_headers = False
        for packet in packets:
            data = bytes(packet)
            if target is None:
                has_headers = source.codec_context.name == "aac" and _is_adts(data)
                target = output.add_stream_from_template(source)
                if has_headers:
                    target.codec_context.extradata = audio_specific_config(data)
            copy = packet
            if has_headers:
                if not _is_adts(data):
                    self.lose()
                    continue
                copy = self._av.Packet(data[7 if data[1] & 1 else 9 :])
                copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
                copy.time_base = packet.time_base
            copy.stream = target
            yield copy

    def _encoded(self, packets: Iterator[Any], output: Any, source: Any) -> Iterator[Any]:
        rate = source.codec_context.sample_rate
        rate = rate if rate in AAC_RATES else 48_000
        layout = self._aac_layout(source.codec_context, rate)
        target = output.add_stream("aac", rate=rate, layout=layout)
        _logger.info(
            "%s: the sound is encoded as AAC, because MP4 does not support %s", self._name, source.codec_context.name
        )
        resampler = self._av.AudioResampler("fltp", layout, rate, frame_size=1024)
        for packet in packets:
            try:
                pieces = [piece for frame in packet.decode() for piece in resampler.resample(frame)]
            except (self._av.FFmpegError, OSError, ValueError):  # what cannot be decoded is a gap
                self.lose()
                continue
            for piece in pieces:
                yield from target.encode(piece)
        for piece in resampler.resample(None):
            yield from target.encode(piece)
        yield from target.encode(None)

    def _aac_layout(self, context: Any, rate: int) -> str:
        """The layout of speakers for AAC, tried out before the file gets a stream that nothing could be written to."""
        count = context.layout.nb_channels
        usual = USUAL_LAYOUTS[count - 1 : count] if count else ()
        for layout in (context.layout.name, *usual):
            encoder = self._av.CodecContext.create("aac", "w")
            try:
                encoder.layout, encoder.sample_rate, encoder.format = layout, rate, "fltp"
                encoder.open()
            except (self._av.FFmpegError, ValueError):
                continue
            return str(layout)
        raise OutputError(f"sound of {count} channels cannot be encoded as AAC", subject=self._name)


def _is_adts(data: bytes) -> bool:
    """Whether a packet of AAC begins with a header of its own."""
    return len(data) > 9 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0


def audio_specific_config(header: bytes) -> bytes:
    """What MP4 wants to know of AAC, from the header that each packet of a transport stream has.

    Args:
        header: The first 4 bytes of a packet, or more.

    Source:
        ISO/IEC 13818-7, section 6.2 (the header); ISO/IEC 14496-3, section 1.6.2.1 (AudioSpecificConfig).
    """
    kind, rate = (header[2] >> 6) + 1, header[2] >> 2 & 15
    channels = (header[2] & 1) << 2 | header[3] >> 6
    return (kind << 11 | rate << 7 | channels << 3).to_bytes(2, "big")
