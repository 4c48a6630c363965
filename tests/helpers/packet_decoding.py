"""Decodes the packets of live streams with the CPU, as the GPU does it, and counts the images that are in use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from yoloship._util.closing import Closing
from yoloship.errors import InputError
from yoloship.images import ImageLimits
from yoloship.sources.live.ring import SLOT_BYTES
from yoloship.sources.pixels import Converter, check_size, orientation_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from yoloship.sources.live.messages import Coded

LIMITS = ImageLimits(max_pixels=SLOT_BYTES // 3)


class Pretended:
    """An image that is pretended to be on a device."""

    def __init__(self, owner: CpuPackets, image: npt.NDArray[np.uint8]) -> None:
        self._owner, self._image, self.nbytes, self.is_closed = owner, image, image.nbytes, False
        owner.count(1)

    def host(self) -> npt.NDArray[np.uint8]:
        assert not self.is_closed
        return self._image

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._owner.count(-1)


class CpuPackets:
    """A `PacketDecoding`, which is also the `VideoDecoding` that lends it.

    Args:
        refuses: Codecs that this device does not have.
        fails_at: The number of the image, counted over all streams, that this device cannot give.
        spoil: May raise an error for a frame.

    Attributes:
        in_use: Images that nobody has closed.
        opened: What was decoded.
        open: Decoders that are open.
    """

    def __init__(
        self,
        *,
        refuses: tuple[str, ...] = (),
        fails_at: int | None = None,
        has_fallback: bool = True,
        spoil: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self.refuses, self.fails_at, self.has_fallback, self.spoil = refuses, fails_at, has_fallback, spoil
        self.in_use = self.given = self.open_now = 0
        self.opened: list[Coded] = []
        self._lock = threading.Lock()

    @property
    def packets(self) -> CpuPackets:
        return self

    def open(self, coded: Coded) -> CpuPacketDecoder:
        if coded.codec in self.refuses:
            raise InputError("is a codec that NVDEC does not have", subject=coded.codec)
        self.opened.append(coded)
        return CpuPacketDecoder(self, coded)

    def count(self, change: int) -> None:
        with self._lock:
            self.in_use += change
            self.given += change > 0


class CpuPacketDecoder(Closing):
    def __init__(self, owner: CpuPackets, coded: Coded) -> None:
        import av

        self._owner = owner
        self._context: Any = av.CodecContext.create(coded.codec, "r")
        if coded.data:
            self._context.extradata = coded.data
        self._context.options = {"max_pixels": str(LIMITS.max_pixels), "flags": "+low_delay"}
        self._context.thread_count = 1
        self._orientation = coded.orientation
        self._converter = Converter()
        owner.open_now += 1

    def decode(self, packet: Any) -> list[Any]:
        frames: list[Any] = self._context.decode(packet)
        for frame in frames:
            check_size(frame.width, frame.height, LIMITS)
        return frames

    def image(self, frame: Any) -> tuple[Pretended, tuple[int, int]]:
        if self._owner.given == self._owner.fails_at:
            raise InputError("NVDEC does not take it, or has no session left", got="h264")
        self._owner.spoil(frame)
        assert orientation_of(self._converter.matrix(frame)) in {1, self._orientation}
        image = self._converter.upright_bgr(frame)
        return Pretended(self._owner, image), image.shape[:2]

    def close(self) -> None:
        if self._context is not None:
            self._context = None
            self._owner.open_now -= 1
