"""Decodes the packets of live streams on the GPU: `NvdecPackets`, for `yoloship.sources.live`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from yoloship._util.closing import Closing
from yoloship.cuda.nvdec import SOFTWARE_FORMATS, FrameForm, is_on_device
from yoloship.errors import InputError
from yoloship.images import ImageLimits
from yoloship.sources.live.ring import SLOT_BYTES
from yoloship.sources.pixels import Converter, orientation_of

if TYPE_CHECKING:
    from yoloship.cuda.device_image import DeviceImage
    from yoloship.cuda.nvdec import Nvdec
    from yoloship.sources.live.messages import Coded

_LIMITS: Final = ImageLimits(max_pixels=SLOT_BYTES // 3)


class NvdecPackets:
    """Opens decoders for live streams; see `yoloship.sources.live.packets.PacketDecoding`. Threads may share it.

    Args:
        nvdec: The decoders of a GPU, open longer than this is used.
        has_fallback: Whether the CPU decodes what the GPU does not decode.

    Attributes:
        has_fallback: As above.
    """

    def __init__(self, nvdec: Nvdec, *, has_fallback: bool = True) -> None:
        self._nvdec = nvdec
        self.has_fallback = has_fallback

    def open(self, coded: Coded) -> LiveNvdec:
        """Open a decoder.

        Args:
            coded: What its decoder process says about a stream, which is not to be trusted.

        Raises:
            DependencyError: PyAV is missing, too old, or without NVDEC.
            InputError: the GPU does not take such a stream, or no decoder can be opened.
        """
        if coded.pixels is not None and coded.pixels not in SOFTWARE_FORMATS:
            raise InputError("is not a form of pixels that the GPU decodes", subject=coded.pixels)
        return LiveNvdec(self._nvdec, coded)


class LiveNvdec(Closing):
    """The decoder of one live stream; see `yoloship.sources.live.packets.PacketDecoder`.

    Args:
        nvdec: The decoders of a GPU.
        coded: The stream.

    Raises:
        DependencyError: PyAV is missing, too old, or without NVDEC.
        InputError: NVDEC does not have the codec, or no decoder can be opened.
    """

    def __init__(self, nvdec: Nvdec, coded: Coded) -> None:
        self._nvdec = nvdec
        self._orientation = coded.orientation
        self._codec = coded.codec
        self._converter = Converter()
        self._decoder = nvdec.decoder(coded.codec, coded.data or None, limits=_LIMITS, delay="least")

    def decode(self, packet: Any) -> list[Any]:
        """Decode a packet; see `PacketDecoder.decode`."""
        return self._decoder.decode(packet)

    def image(self, frame: Any) -> tuple[DeviceImage, tuple[int, int]]:
        """Take a decoded frame; see `PacketDecoder.image`.

        Raises:
            CudaError: the device failed.
            InputError: NVDEC has not decoded it, or its pixels have a form that the letterbox does not take.
        """
        if not is_on_device(frame):
            what = f"{self._codec}, {frame.format.name}, {frame.width}×{frame.height}"
            raise InputError("NVDEC does not take it, or has no session left", got=what)
        matrix = self._converter.matrix(frame)
        orientation = self._orientation if matrix is None else orientation_of(matrix)
        image = self._nvdec.image(frame, FrameForm.of(frame, orientation))
        return image, image.pixels.upright_hw

    def close(self) -> None:
        """Give the session back; images stay valid. Closing twice is not an error."""
        self._decoder.close()
