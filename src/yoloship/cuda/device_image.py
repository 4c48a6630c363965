"""Images that one of our decoders has put into device memory: `DeviceImage`. `HostReader` brings them to the host."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import numpy as np

from yoloship._util.closing import Closing
from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer, download
from yoloship.cuda.device_pixels import ColourMatrix, DevicePixels, PixelFormat
from yoloship.cuda.letterbox import FRAME_DTYPE, Canvas, FrameDescriptor, launch_letterbox, pack_frames
from yoloship.cuda.stream import Stream
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Event, Fence


__all__ = ["ColourMatrix", "DeviceImage", "DevicePixels", "HostReader", "PixelFormat"]


class HostReader(Closing):
    """Brings images from the device to the host. Threads may share it; one image at a time passes through it.

    Args:
        device: Where the images lie.
        kernels: A `KernelSet` of that device, open longer than this.

    Raises:
        CudaError: the device failed, or is out of memory.
    """

    def __init__(self, device: Device, kernels: Mapping[str, Launchable]) -> None:
        self._kernels = kernels
        self._lock = threading.Lock()
        self._canvas: DeviceBuffer | None = None
        self._stream = Stream(device)
        try:
            self._table = PinnedBuffer(device, FRAME_DTYPE.itemsize)
        except BaseException:
            self._stream.close()
            raise

    @property
    def device(self) -> Device:
        """Where the images lie."""
        return self._stream.device

    def read(self, pixels: DevicePixels, ready: Event | Fence | None) -> npt.NDArray[np.uint8]:
        """Convert an image as the letterbox does, and download it.

        Args:
            pixels: Where it lies.
            ready: What the download must wait for; None if the image is complete.

        Returns:
            (height, width, 3) uint8 BGR, upright, in memory of its own.

        Raises:
            CudaError: the device failed or is out of memory, or the reader is closed.
        """
        image = np.empty((*pixels.upright_hw, 3), np.uint8)
        with self._lock:
            stream = self._stream
            if ready is not None:
                ready.hold(stream)
            plain = pixels.pixel_format == "bgr" and pixels.orientation == 1
            if plain and pixels.pitch_bytes == 3 * pixels.stored_hw[1]:
                source = pixels.pointer
            else:
                source = self._room(image.nbytes)
                self._convert(pixels, source)
            download(stream, image, source)
            stream.sync()
        return image

    def close(self) -> None:
        """Give everything back. Closing twice is not an error."""
        with self._lock:
            if not self._stream.is_closed:
                self._stream.close()
            self._table.close()
            if self._canvas is not None:
                self._canvas.close()
                self._canvas = None

    def _room(self, size_bytes: int) -> int:
        """The address of memory for an image; the last one has left it."""
        if self._canvas is None or self._canvas.size_bytes < size_bytes:
            if self._canvas is not None:
                self._canvas.close()
                self._canvas = None
            self._canvas = DeviceBuffer(self._stream.device, size_bytes)
        return self._canvas.pointer

    def _convert(self, pixels: DevicePixels, target: int) -> None:
        """Queue a letterbox that neither scales nor pads, which gives the pixels themselves."""
        hw = pixels.upright_hw
        table = self._table.array(FRAME_DTYPE, (1,))
        pack_frames([FrameDescriptor(pixels, hw, (0, 0))], hw, table)
        launch_letterbox(self._kernels, self._stream, self._table.pointer, Canvas(target, 1, hw, "uint8_bgr_hwc"))


class DeviceImage(Closing):
    """An image that one of our decoders has put into device memory.

    A detector takes it as it takes an array. What is handed to `Detector.submit` or a stream is closed there. An image
    that is no longer held by anybody is given back as if it had been closed.

    Args:
        pixels: Where it lies.
        nbytes: Bytes of device memory that it keeps in use.
        ready: Holds other streams back until the pixels are written: an event that was recorded behind that work, or a
            fence of the decoder's stream. It must stay open until the image is closed. Images may share it. None if
            the pixels are written already.
        reader: Brings it to the host; open for as long as `host` may be called.
        release: Gives its memory back to the decoder. It is called once, by any thread.

    Attributes:
        pixels: As above.
        nbytes: As above.
        ready: As above.
    """

    __slots__ = ("__weakref__", "_host", "_lock", "_reader", "_release", "nbytes", "pixels", "ready")

    def __init__(
        self,
        pixels: DevicePixels,
        nbytes: int,
        *,
        ready: Event | Fence | None,
        reader: HostReader,
        release: Callable[[], None],
    ) -> None:
        self.pixels = pixels
        self.nbytes = nbytes
        self.ready = ready
        self._reader = reader
        self._lock = threading.Lock()
        self._host: npt.NDArray[np.uint8] | None = None
        self._release: Callable[[], None] | None = release

    @property
    def device(self) -> Device:
        """Where it lies."""
        return self._reader.device

    @property
    def is_closed(self) -> bool:
        """Whether its memory was given back."""
        return self._release is None

    def wait_on(self, stream: Stream) -> None:
        """Make later work on a stream wait until the pixels are written. The caller does not wait."""
        if self.ready is not None:
            self.ready.hold(stream)

    def host(self) -> npt.NDArray[np.uint8]:
        """The image in the host's memory, downloaded once.

        Returns:
            (height, width, 3) uint8 BGR, upright, read only: the pixels that the letterbox sees. It stays valid, and
            can be asked for again, after `close`.

        Raises:
            CudaError: the device failed, or is out of memory.
            InputError: the image was closed before it was downloaded.
        """
        with self._lock:
            if self._host is None:
                if self.is_closed:
                    raise InputError(
                        "was closed before it was downloaded", subject="image on the GPU",
                        hint="to keep the images of a stream, use keep_images=True",
                    )  # fmt: skip
                image = self._reader.read(self.pixels, self.ready)
                image.flags.writeable = False
                self._host = image
            return self._host

    def close(self) -> None:
        """Let its memory be used again. Call it once all work that reads it is done. Closing twice is not an error."""
        with self._lock:
            self._give_back()

    def __del__(self) -> None:
        """Give its memory back, unless the end of the process does. A finaliser would take several times as long."""
        if self._release is not None and not sys.is_finalizing():
            self._give_back()

    def _give_back(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()
