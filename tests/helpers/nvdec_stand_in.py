"""A stand-in for PyAV with NVDEC: the CPU decodes, and frames are put into device memory as FFmpeg's are."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from yoloship.cuda.buffers import DeviceBuffer, upload
from yoloship.cuda.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.cuda.device import Device

SIZE = (192, 160)
"""(width, height) of videos for tests: NVDEC has smallest sizes, 144 pixels for some codecs."""
_PITCH = 256
_ON_CPU = {"av1": "libdav1d"}
"""FFmpeg's decoder of AV1 named ``av1`` needs hardware."""


@dataclass
class StandInAv:
    """Looks like the module `av` where `yoloship.cuda.nvdec` uses it.

    Attributes:
        device: Where frames go.
        codecs: What this NVDEC has.
        sessions: Decoders that may be open at once; as in FFmpeg, the frames of one more come from the CPU.
        spoil: Given the number of a frame of a decoder, and the frame, may change it or raise an error of FFmpeg.
        open: Decoders that are open.
        opened: Decoders that were opened so far.
        frames: Frames whose memory is in use.
    """

    device: Device
    codecs: tuple[str, ...] = ("h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video")
    sessions: int = 100
    spoil: Callable[[int, StandInFrame], None] = lambda _number, _frame: None
    open: int = 0
    frames: int = 0
    opened: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stream = Stream(self.device)
        self.CodecContext = SimpleNamespace(create=self._create)
        self.codec = SimpleNamespace(hwaccel=SimpleNamespace(HWAccel=self._accel, hwdevices_available=lambda: ["cuda"]))

    def __getattr__(self, name: str) -> Any:
        return getattr(av, name)

    def close(self) -> None:
        self.stream.close()

    def wait_until_closed(self) -> None:
        """Wait until no decoder is open: those of video files are closed a little later."""
        while self.open:
            time.sleep(0.01)

    def _accel(self, kind: str, **how: Any) -> dict[str, Any]:
        assert kind == "cuda"
        self.asked.append(how)
        return how

    def _create(self, codec: str, mode: str, hwaccel: dict[str, Any]) -> StandInContext:
        assert mode == "r"
        assert hwaccel["is_hw_owned"]
        return StandInContext(self, codec)


class StandInContext:
    """A decoder. It is closed when nobody holds it, as PyAV's is."""

    def __init__(self, owner: StandInAv, codec: str) -> None:
        self._owner = owner
        self._inner: Any = av.CodecContext.create(_ON_CPU.get(codec, codec), "r")
        self.is_hwaccel = codec in owner.codecs
        self._has_session = owner.open < owner.sessions
        self._number = 0
        self._shown: Any = None
        self.pix_fmt = "cuda"
        self._needs_format = codec == "av1"
        owner.open += 1
        owner.opened += 1

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {"extradata", "options", "thread_count", "reorder_depth"}:
            setattr(self._inner, name, value)
        else:
            super().__setattr__(name, value)

    def __del__(self) -> None:
        self._owner.open -= 1

    def decode(self, packet: Any) -> list[Any]:
        """Decode as NVDEC does, which takes no notice of damage inside a frame."""
        if self._needs_format and self.pix_fmt == "cuda":  # see `NvdecDecoder`
            raise av.error.ArgumentError(22, "Invalid argument", "avcodec_send_packet()")
        found = []
        for frame in self._decoded(packet):
            deep = frame.format.name == "yuv420p10le"
            if not self._has_session or not (deep or frame.format.name in {"yuv420p", "yuvj420p"}):
                found.append(frame)  # as FFmpeg does without a session, or for what NVDEC does not decode
                continue
            self._shown = frame
            made = StandInFrame(self._owner, frame, "p010le" if deep else "nv12")
            if made.is_corrupt and _has_slices(packet):
                made.is_corrupt = False  # the CPU alone notices it
            self._owner.spoil(self._number, made)
            self._number += 1
            found.append(made)
        return found

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = self._inner.decode(packet)
        except av.error.InvalidDataError:
            if self._shown is None or not _has_slices(packet):
                raise
            self._shown.pts = packet.pts
            return [self._shown]
        return frames


def _has_slices(packet: Any) -> bool:
    """Whether a packet of H.264, as MP4 keeps it, is made of whole units with headers: all that FFmpeg looks at."""
    data, kinds = bytes(packet), []
    while len(data) > 4:
        size = int.from_bytes(data[:4], "big")
        if not 0 < size <= len(data) - 4 or data[4] & 0x80:
            return False
        kinds.append(data[4] & 31)
        data = data[4 + size :]
    return not data and any(kind in {1, 5} for kind in kinds)


class StandInFrame:
    """A frame on the device."""

    is_corrupt: bool

    def __init__(self, owner: StandInAv, frame: Any, sw_format: str) -> None:
        self._owner = owner
        self.format = SimpleNamespace(name="cuda")
        self.sw_format = SimpleNamespace(name=sw_format)
        for name in ("pts", "width", "height", "colorspace", "color_range", "is_corrupt", "rotation"):
            setattr(self, name, getattr(frame, name))
        self.side_data: dict[str, Any] = {}
        rows = device_rows(frame, sw_format)
        self._memory = DeviceBuffer(owner.device, rows.nbytes)
        upload(owner.stream, self._memory.pointer, rows)
        owner.stream.sync()
        pitch = rows.strides[0]
        starts = (self._memory.pointer, self._memory.pointer + frame.height * pitch)
        self.planes = tuple(SimpleNamespace(buffer_ptr=start, line_size=pitch) for start in starts)
        owner.frames += 1

    def __del__(self) -> None:
        self._memory.close()
        self._owner.frames -= 1


def device_rows(frame: Any, sw_format: str) -> Any:
    """Rows of luma, and behind them rows of pairs of chroma, of one pitch."""
    height, width = frame.height, frame.width
    dtype: Any = np.uint16 if sw_format == "p010le" else np.uint8
    planes = [
        np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width] << (6 if dtype == np.uint16 else 0)
        for plane in frame.planes
    ]
    pitch = -(-width * dtype(0).itemsize // _PITCH) * _PITCH // dtype(0).itemsize
    rows = np.zeros((height + (height + 1) // 2, pitch), dtype)
    rows[:height, :width] = planes[0]
    chroma_width = (width + 1) // 2 * 2
    rows[height:, 0:chroma_width:2], rows[height:, 1:chroma_width:2] = planes[1], planes[2]
    return rows
