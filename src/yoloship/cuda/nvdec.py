"""Decodes video with the GPU's own decoders (NVDEC), through the FFmpeg inside PyAV: `Nvdec` and `NvdecDecoder`.

FFmpeg copies each decoded frame to memory of its own on the device, so any number of frames may be held. It works on
the legacy default stream of our context; a fence there tells our streams when the pixels are written.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from yoloship._util.closing import Closing
from yoloship.cuda.device_image import DeviceImage, HostReader
from yoloship.cuda.device_pixels import DevicePixels
from yoloship.cuda.stream import BorrowedStream, Event, Fence
from yoloship.errors import CudaError, DependencyError, InputError
from yoloship.images import DEFAULT_LIMITS, ImageLimits
from yoloship.sources.pixels import check_size
from yoloship.sources.pyav_video import load_av

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.device import Device
    from yoloship.cuda.device_pixels import ColourMatrix, PixelFormat

CODECS: Final = frozenset({"h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video"})
"""Codecs that are handed to NVDEC. Whether a GPU decodes one, and in which forms, is known when it is tried.

FFmpeg could hand it MJPEG, MPEG-4 part 2 and VC-1 too. They are left to the CPU, which is fast enough for them: damage
in MJPEG would be concealed, and the others have forms that NVDEC does not decode in the same way.
"""
SOFTWARE_FORMATS: Final[Mapping[str, PixelFormat]] = MappingProxyType(
    {
        "yuv420p": "nv12",
        "yuvj420p": "nv12",
        "nv12": "nv12",
        "yuv420p10le": "p010",
        "p010le": "p010",
    }
)
"""How the CPU's decoder calls the pixels of a video → how they lie in device memory."""
_DEVICE_FORMATS: Final[Mapping[str, PixelFormat]] = MappingProxyType({"nv12": "nv12", "p010le": "p010"})
_MATRICES: Final[Mapping[int, ColourMatrix]] = MappingProxyType(
    {1: "bt709", 2: "bt601", 3: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
)
"""AVColorSpace, libavutil/pixfmt.h; as libswscale, an unstated one (2) is BT.601. Others are left to the CPU."""
_FULL_RANGE: Final = 2
"""AVCOL_RANGE_JPEG"""
_LATER_S: Final = 0.5
_MOST_LEFT: Final = 8
"""PyAV holds Python's lock while it closes a decoder, 40 ms on an H200. So those of video files are closed when the
results of their last frames are there, but no more than these are left open."""
_LEGACY_STREAM: Final = 1
"""CU_STREAM_LEGACY, cuda.h"""
_AHEAD: Final = 2
"""Frames of H.264 that are decoded before one is taken out, if it may be late: FFmpeg waits until NVDEC has decoded the
frame that it takes out, and gives NVDEC nothing meanwhile. Its pool has four surfaces more than the stream needs
(libavcodec/decode.c, `ff_decode_get_hw_frames_ctx`)."""
_MAX_REORDER: Final = 16
"""Frames that H.264 may hold back."""
Delay: TypeAlias = Literal["any", "least"]
"""How long a frame may stay in a decoder: until its order is certain, or not longer than the stream demands (live)."""


@dataclass(frozen=True, slots=True)
class FrameForm:
    """How the frames of a video lie in device memory, and how they become upright BGR.

    Attributes:
        hw: (height, width) as stored, in pixels.
        pixel_format: `nv12` or `p010`.
        matrix: The colour matrix.
        full_range: Whether samples use all values.
        orientation: 1 to 8, as Exif numbers it.
    """

    hw: tuple[int, int]
    pixel_format: PixelFormat
    matrix: ColourMatrix = "bt601"
    full_range: bool = False
    orientation: int = 1

    @classmethod
    def of(cls, frame: Any, orientation: int = 1) -> FrameForm:
        """The form of a decoded frame, on the device or in the host's memory.

        Args:
            frame: An `av.VideoFrame`.
            orientation: 1 to 8, as Exif numbers it.

        Raises:
            InputError: the letterbox on the GPU does not take such pixels.
        """
        on_device = is_on_device(frame)
        name = frame.sw_format.name if on_device else frame.format.name
        hw = (frame.height, frame.width)
        return _form(hw, name, on_device, int(frame.colorspace), int(frame.color_range), orientation)


@lru_cache(maxsize=256)
def _form(
    hw: tuple[int, int], name: str, on_device: bool, colorspace: int, color_range: int, orientation: int
) -> FrameForm:  # fmt: skip
    """See `FrameForm.of`, which every frame needs."""
    pixel_format = (_DEVICE_FORMATS if on_device else SOFTWARE_FORMATS).get(name)
    matrix = _MATRICES.get(colorspace)
    if pixel_format is None:
        raise InputError("has pixels that the GPU's letterbox does not take", expected="4:2:0 of 8 or 10 bits",
                         got=name)  # fmt: skip
    if matrix is None:
        raise InputError("states a colour matrix that the GPU's letterbox does not have",
                         expected="BT.601, BT.709 or BT.2020", got=f"number {colorspace}")  # fmt: skip
    is_full = color_range == _FULL_RANGE or name.startswith("yuvj")
    return FrameForm(hw, pixel_format, matrix, is_full, orientation)


class Nvdec(Closing):
    """The decoders of one GPU. Threads may share it. Close it after its decoders; images may outlive it.

    Args:
        device: The GPU.
        kernels: A `KernelSet` of that device, open longer than this.

    Raises:
        CudaError: the device failed, or is out of memory.
    """

    def __init__(self, device: Device, kernels: Mapping[str, Launchable]) -> None:
        self.device = device
        # Frames in use. Only single operations change it, which need no lock: the garbage collector may give a frame
        # back in any thread, whatever that is about to do.
        self._frames: dict[int, Any] = {}
        self._numbers = itertools.count()
        self._closed = False
        self._left: deque[NvdecDecoder] = deque()
        with ExitStack() as stack:
            self._reader = stack.enter_context(HostReader(device, kernels))
            self._ffmpeg = stack.enter_context(BorrowedStream(device, _LEGACY_STREAM))
            self._written = Fence(self._ffmpeg)
            stack.pop_all()

    def decoder(
        self,
        codec: str,
        extradata: bytes | None,
        *,
        reorder_depth: int | None = None,
        limits: ImageLimits = DEFAULT_LIMITS,
        delay: Delay = "any",
    ) -> NvdecDecoder:
        """Open a decoder for one video or stream.

        Args:
            codec: FFmpeg's name of the codec, such as ``h264``.
            extradata: What a container keeps of the codec's parameters; None if there is nothing.
            reorder_depth: Frames by which the order of showing may differ from that of decoding, as a container's
                context says. Without it, H.264 that does not state it may come in a wrong order at its beginning.
            limits: The largest frame to take.
            delay: How long a frame may stay in the decoder.

        Raises:
            DependencyError: PyAV is missing, too old, or without NVDEC.
            InputError: NVDEC does not have the codec, or no decoder can be opened.
        """
        return NvdecDecoder(self, codec, extradata, reorder_depth=reorder_depth, limits=limits, delay=delay)

    def image(self, frame: Any, form: FrameForm) -> DeviceImage:
        """Take a decoded frame, without a copy. Its memory is given back to FFmpeg when the image is closed.

        Args:
            frame: An `av.VideoFrame` on this device, from the thread that decoded it.
            form: Of the frame, such as `FrameForm.of` gives.

        Raises:
            CudaError: this is closed.
            InputError: the frame is not on the device, or has another form.
        """
        if self._closed:
            raise CudaError(
                "is closed", code=400, name="CUDA_ERROR_INVALID_HANDLE", subject="decoders of the GPU"
            )  # fmt: skip
        if not is_on_device(frame) or _DEVICE_FORMATS.get(frame.sw_format.name) != form.pixel_format:
            raise InputError("is not in device memory as expected", subject="frame", expected=form.pixel_format,
                             got=frame.format.name)  # fmt: skip
        luma, chroma = frame.planes
        pixels = DevicePixels(
            luma.buffer_ptr, luma.line_size, form.hw, form.pixel_format, chroma.buffer_ptr, chroma.line_size,
            form.orientation, form.matrix, form.full_range,
        )  # fmt: skip
        size = luma.line_size * form.hw[0] + chroma.line_size * ((form.hw[0] + 1) // 2)
        number = next(self._numbers)
        self._frames[number] = frame
        release = partial(self._give, number)
        return DeviceImage(pixels, size, ready=self._written, reader=self._reader, release=release)

    def leave(self, decoder: NvdecDecoder) -> None:
        """Close a decoder that nobody uses any more, a little later."""
        self._left.append(decoder)
        if self._closed or len(self._left) > _MOST_LEFT:
            self._close_one()
            return
        timer = threading.Timer(_LATER_S, self._close_one)
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """Give everything back. Closing twice is not an error."""
        self._closed = True
        while self._left:
            self._close_one()
        self._reader.close()
        if not self._frames:
            self._close_fence()

    def _close_one(self) -> None:
        with suppress(IndexError):  # another thread has closed it
            self._left.popleft().close()

    def _give(self, number: int) -> None:
        """Let FFmpeg use the memory of a frame again. The fence keeps the device's context until it is the last."""
        del self._frames[number]
        if self._closed and not self._frames:
            self._close_fence()

    def _close_fence(self) -> None:
        self._written.close()
        self._ffmpeg.close()


class NvdecDecoder(Closing):
    """One decoder, for one thread at a time.

    Args:
        nvdec: Of the device.
        codec: FFmpeg's name of the codec.
        extradata: What a container keeps of the codec's parameters; None if there is nothing.
        reorder_depth: See `Nvdec.decoder`.
        limits: The largest frame to take.
        delay: How long a frame may stay in the decoder.

    Raises:
        DependencyError: PyAV is missing, too old, or without NVDEC.
        InputError: NVDEC does not have the codec, or no decoder can be opened.

    Attributes:
        ahead: Frames that it holds back beyond those that their order holds back.
    """

    ahead = 0

    def __init__(
        self,
        nvdec: Nvdec,
        codec: str,
        extradata: bytes | None,
        *,
        reorder_depth: int | None = None,
        limits: ImageLimits = DEFAULT_LIMITS,
        delay: Delay = "any",
    ) -> None:
        self._av: Any = load_av("decoding on the GPU")
        self._nvdec = nvdec
        self._codec = codec
        self._limits = limits
        self._keeps = Event(nvdec.device)  # holds the device's context while FFmpeg uses it
        try:
            with nvdec.device.current():
                self._context: Any = self._open(codec, nvdec.device.ordinal)
            if extradata:
                self._context.extradata = extradata
            if codec == "h264" and delay == "any":  # FFmpeg's other decoders do not heed it
                self.ahead = _AHEAD
                reorder_depth = min((reorder_depth or 0) + _AHEAD, _MAX_REORDER)
            if reorder_depth is not None:
                self._context.reorder_depth = reorder_depth
            least = {"flags": "+low_delay"} if delay == "least" else {}
            self._context.options = {"max_pixels": str(limits.max_pixels), **least}
            self._context.thread_count = 1  # more only make frames late
        except BaseException:
            self._context = None
            self._keeps.close()
            raise

    def decode(self, packet: Any) -> list[Any]:
        """Decode a packet.

        Args:
            packet: An `av.Packet`; None for the end, which gives the frames that are still inside.

        Returns:
            Frames of PyAV in the order in which they are shown. `is_on_device` says where each lies: FFmpeg decodes
            with the CPU what it cannot give to NVDEC.

        Raises:
            av.FFmpegError: the packet is damaged, or the device failed.
            ImageError: a frame is too large.
            InputError: the decoder is closed, or FFmpeg has no other decoder for what NVDEC does not take.
        """
        if self._context is None:
            raise InputError("is closed", subject="decoder on the GPU")
        try:
            frames: list[Any] = self._context.decode(packet)
        except self._av.error.NotImplementedError as error:  # as an H200 did with AV1
            raise InputError("NVDEC does not take it", subject=self._codec) from error
        for frame in frames:
            check_size(frame.width, frame.height, self._limits)
        return frames

    def close(self) -> None:
        """Give the session back; frames stay valid. Closing twice is not an error."""
        self._context = None
        self._keeps.close()

    def close_later(self) -> None:
        """Do the same within half a second, when it is less in the way. It must not be used any more."""
        self._nvdec.leave(self)

    def _open(self, codec: str, ordinal: int) -> Any:
        av = self._av
        problem = support_problem(av)
        if problem is not None:
            raise problem
        if codec not in CODECS:
            raise InputError("is a codec that NVDEC does not have", subject=codec)
        # Our context, which is current: FFmpeg refuses the primary one if it has other flags than FFmpeg wants.
        options = {"primary_ctx": "0", "current_ctx": "1"}
        try:
            accel = av.codec.hwaccel.HWAccel(
                "cuda", device=str(ordinal), allow_software_fallback=True, is_hw_owned=True, options=options
            )
            context = av.CodecContext.create(codec, "r", hwaccel=accel)
        except (av.FFmpegError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
            raise InputError(
                "no decoder of the GPU can be opened", subject=codec, got=str(getattr(error, "strerror", None) or error)
            ) from error
        if not context.is_hwaccel:
            raise InputError("is a codec that this FFmpeg does not give to NVDEC", subject=codec)
        if codec == "av1":
            # PyAV states the format "cuda" before the decoder is opened. FFmpeg's decoder of AV1 alone takes that for a
            # choice made earlier, never sets up NVDEC, and fails with "Invalid argument" (libavcodec/av1dec.c,
            # get_pixel_format). Any format of the host makes it choose.
            context.pix_fmt = "yuv420p"
        return context


def is_on_device(frame: Any) -> bool:
    """Whether the pixels of a frame of PyAV are in device memory."""
    return str(frame.format.name) == "cuda"


def support_problem(av: Any) -> DependencyError | None:
    """Why the installed PyAV cannot decode on a GPU; None if it can, as far as it says.

    Args:
        av: PyAV.
    """
    if not hasattr(av.VideoFrame, "sw_format") or not hasattr(av.VideoCodecContext, "reorder_depth"):
        return DependencyError(
            "is too old to decode on a GPU", subject=f"PyAV {av.__version__}", hint="pip install -U av"
        )
    if "cuda" not in av.codec.hwaccel.hwdevices_available():
        return DependencyError(
            "has an FFmpeg without CUDA", subject=f"PyAV {av.__version__}", hint="install the wheel from PyPI"
        )
    return None
