"""Lends the decoders of the GPU to sources with videos: `VideoDecoding`."""

from __future__ import annotations

import itertools
import logging
import threading
from typing import TYPE_CHECKING

from yoloship._util.closing import Closing
from yoloship.cuda.nvdec import Nvdec, support_problem
from yoloship.cuda.nvdec_packets import NvdecPackets
from yoloship.cuda.nvdec_video import SIDE_BY_SIDE, NvdecVideos
from yoloship.errors import DependencyError, SessionError
from yoloship.sources.pyav_video import load_av
from yoloship.sources.reader import has_pyav

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.device import Device
    from yoloship.images import DecodeChoice
    from yoloship.sources.live.messages import Coded
    from yoloship.sources.live.packets import PacketDecoder
    from yoloship.sources.reader import VideoReader
    from yoloship.sources.source import Source

_logger = logging.getLogger("yoloship.detect")


class VideoDecoding(Closing):
    """Decodes the videos of sources on a detector's GPU; see `yoloship.sources.reader.VideoDecoding`.

    Nothing is opened before the first video. Threads may share it.

    Args:
        device: The GPU.
        kernels: A `KernelSet` of that device, open longer than this.
        choice: ``cpu`` lends nothing. ``auto`` lends for live streams alone, because a GPU does not tell damaged
            frames; the CPU decodes what the GPU does not. ``gpu`` lends for video files too, and what the GPU does
            not decode is an error of the video.
        model_name: For messages.

    Attributes:
        side_by_side: Videos to decode at the same time.
        takes_files: Whether it decodes video files, and not only live streams.
    """

    def __init__(
        self, device: Device, kernels: Mapping[str, Launchable], choice: DecodeChoice, model_name: str
    ) -> None:
        self._device = device
        self._kernels = kernels
        self._choice = choice
        self._model_name = model_name
        self._lock = threading.Lock()
        self._nvdec: Nvdec | None = None
        self._closed = False
        self.side_by_side = SIDE_BY_SIDE
        self.takes_files = choice == "gpu"

    @property
    def chosen(self) -> str:
        """Who decodes, and why, as far as it is known before the first video."""
        if self._choice == "cpu":
            return "cpu (chosen)"
        try:
            av = load_av("PyAV")
        except DependencyError:
            return "cpu (PyAV: is not installed)"
        problem = support_problem(av)
        if problem is not None:
            return f"cpu ({problem.subject}: {problem.problem})"
        on_device = f"NVDEC on {self._device} (PyAV {av.__version__}; damage inside a frame is not noticed)"
        return on_device if self.takes_files else f"cpu, which tells damaged frames; live streams: {on_device}"

    def lend(self, source: Source) -> bool:
        """Let a source decode its videos here from now on, if that was chosen and PyAV is installed.

        Returns:
            Whether it was lent.

        Raises:
            DependencyError: ``gpu`` was chosen, the source has videos, and PyAV is not installed.
        """
        if self._choice == "gpu" and source.has_videos:
            load_av("decoding videos on the GPU")
        if self._choice == "cpu" or not has_pyav():
            return False
        source.decode_with(self)
        return True

    def nvdec(self) -> Nvdec:
        """The decoders of the GPU, opened if they were not; this closes them.

        Raises:
            CudaError: the device failed, or is out of memory.
            SessionError: the detector is closed.
        """
        with self._lock:
            if self._closed:
                raise SessionError("the detector is closed", subject=self._model_name)
            if self._nvdec is None:
                self._nvdec = Nvdec(self._device, self._kernels)
            return self._nvdec

    @property
    def has_fallback(self) -> bool:
        """Whether the CPU decodes what the GPU does not."""
        return self._choice != "gpu"

    @property
    def packets(self) -> PacketsInTurn:
        """Decodes the packets of live streams."""
        return PacketsInTurn([self])

    def open(self, path: Path, resources: ExitStack, tell: Callable[[str], None]) -> VideoReader:
        """Open a video file; see `yoloship.sources.reader.VideoDecoding.open`."""
        _logger.debug("%s is decoded on %s", path, self._device)
        return NvdecVideos(self.nvdec(), "none").open(path, resources, tell)

    def close(self) -> None:
        """Refuse to open more, and close the decoders. Frames stay valid. Closing twice is not an error."""
        with self._lock:
            self._closed = True
            nvdec, self._nvdec = self._nvdec, None
        if nvdec is not None:
            nvdec.close()


class VideosInTurn:
    """Decodes each video on the next of several GPUs; see `yoloship.sources.reader.VideoDecoding`.

    Args:
        parts: One for each GPU.

    Attributes:
        side_by_side: Videos to decode at the same time, on all of them together.
        takes_files: Whether they decode video files, and not only live streams.
    """

    def __init__(self, parts: Sequence[VideoDecoding]) -> None:
        self._parts, self._turns = parts, itertools.cycle(parts)
        self.side_by_side = sum(part.side_by_side for part in parts)
        self.takes_files = all(part.takes_files for part in parts)

    def open(self, path: Path, resources: ExitStack, tell: Callable[[str], None]) -> VideoReader:
        """Open a video file; see `yoloship.sources.reader.VideoDecoding.open`."""
        return next(self._turns).open(path, resources, tell)

    @property
    def packets(self) -> PacketsInTurn:
        """Decodes the packets of live streams."""
        return PacketsInTurn(self._parts)


class PacketsInTurn:
    """Decodes each live stream on the next of one or more GPUs; see `yoloship.sources.live.packets.PacketDecoding`.

    Args:
        parts: One for each GPU.

    Attributes:
        has_fallback: Whether the CPU decodes what they do not decode.
    """

    def __init__(self, parts: Sequence[VideoDecoding]) -> None:
        self._turns = itertools.cycle(parts)
        self.has_fallback = all(part.has_fallback for part in parts)

    def open(self, coded: Coded) -> PacketDecoder:
        """Open a decoder; see `yoloship.sources.live.packets.PacketDecoding.open`."""
        return NvdecPackets(next(self._turns).nvdec()).open(coded)
