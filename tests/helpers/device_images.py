"""Images in device memory as our decoders hand them over, made from arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.cuda.buffers import DeviceBuffer, upload
from yoloship.cuda.device_image import DeviceImage, DevicePixels, HostReader, PixelFormat
from yoloship.cuda.stream import Event, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from yoloship.cuda.device import Device


class OnDevice:
    """An image on a device as other libraries show it: by `__cuda_array_interface__` alone.

    Args:
        device: Where it is put.
        image: (height, width, 3) uint8.
    """

    def __init__(self, device: Device, image: npt.NDArray[np.uint8]) -> None:
        self.buffer = DeviceBuffer(device, image.nbytes)
        self.shape = image.shape
        with Stream(device) as stream:
            upload(stream, self.buffer.pointer, np.ascontiguousarray(image))
            stream.sync()
        self.__cuda_array_interface__ = {
            "shape": image.shape, "typestr": "|u1", "data": (self.buffer.pointer, False), "version": 3,
        }  # fmt: skip


def device_image(
    reader: HostReader,
    stream: Stream,
    stored: npt.NDArray[Any],
    pixel_format: PixelFormat = "bgr",
    *,
    padding: int = 0,
    on_release: Callable[[], None] = lambda: None,
    **stated: Any,
) -> DeviceImage:
    """Upload an image as a decoder would have written it.

    Args:
        reader: Of the same device.
        stream: The decoder's.
        stored: (height, width, 3) in the order of the format; or luma rows with chroma rows behind them.
        pixel_format: What it is.
        padding: Samples between rows.
        on_release: Called when the image is closed.
        stated: Further fields of `DevicePixels`.
    """
    planar = pixel_format in {"nv12", "p010"}
    rows = stored if planar else stored.reshape(len(stored), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    height = len(stored) * 2 // 3 if planar else len(stored)
    pitch = padded.strides[0]
    memory = DeviceBuffer(stream.device, padded.nbytes)
    upload(stream, memory.pointer, padded)
    ready = Event(stream.device)
    stream.record(ready)
    chroma = (memory.pointer + height * pitch, pitch) if planar else (0, 0)
    pixels = DevicePixels(memory.pointer, pitch, (height, stored.shape[1]), pixel_format, *chroma, **stated)

    def release() -> None:
        ready.close()
        memory.close()
        on_release()

    return DeviceImage(pixels, memory.size_bytes, ready=ready, reader=reader, release=release)
