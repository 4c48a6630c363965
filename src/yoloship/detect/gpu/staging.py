"""Getting a batch's frames, and the table that says where they lie, to the GPU: `Staging`.

One block of pinned memory has a twin on the device, laid out alike:

    … spare │ letterbox table │ result table │ frame │ frame │ …
                                             └ a fixed place; the tables of n frames end here, frames begin here

If the device's memory is the host's (an integrated GPU, as in a Jetson), there is no twin. The letterbox reads frames
and tables from pinned memory, and nothing is copied up.

So frames lie at the same places batch after batch, and a batch like the last one needs no new tables. The letterbox
table says where the pixels are and what becomes of them; the result table has the geometry from the source image to
the canvas, which differs if the host has scaled a frame already.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer
from yoloship.cuda.device_image import DeviceImage
from yoloship.cuda.device_pixels import DevicePixels, PixelFormat
from yoloship.cuda.interop import ForeignFrame, HandedFrame
from yoloship.cuda.letterbox import FRAME_DTYPE, FrameDescriptor, frame_row
from yoloship.cuda.letterbox_host import band_rows
from yoloship.cuda.stream import Event, Fence
from yoloship.detect.gpu.filling import BY_THE_HOST, Copiers, Piece, fill, kind, staged_hw
from yoloship.detect.pipeline import PlacedImage

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.cuda.stream import StreamCalls
    from yoloship.detect.gpu.transfer import RowPick, TransferMode
    from yoloship.images import ChannelOrder
    from yoloship.letterbox import Letterbox


_ALIGNMENT: Final = 256
_TABLES: Final = 2
_STAGED: Final = BY_THE_HOST | {"pinned"}
_NOWHERE: Final = 1
_SMALLEST: Final = 1 << 22
"""Bytes for frames to begin with: an image of 1280×960."""


@dataclass(slots=True, eq=False)
class Frame(PlacedImage):
    """An image, and how it gets to the device. It is not changed; to freeze it would take four times as long.

    Attributes:
        pixels: (height, width, 3) uint8, C-contiguous, read only; for `resident` an array of another
            library, a `HandedFrame` of one, or a `DeviceImage`.
        letterbox: Where it lies on the canvas.
        mode: How its pixels get to the device; see the table in `transfer`.
        address: Of its pixels: as the host sees it if `mode` is `pinned`, as the device does if it is `mapped`.
        pick: Which rows are copied if `mode` is `copied`; None copies all.
        channels: The order of its colours.
        gpu: ``cuda:N`` in whose memory it lies if `mode` is `resident`.
    """

    mode: TransferMode
    address: int = 0
    pick: RowPick | None = None
    channels: ChannelOrder = "bgr"
    gpu: str | None = None

    def release(self) -> None:
        """Let go of what was handed to another thread: an array of another library, or an image of a decoder."""
        if isinstance(self.pixels, DeviceImage | HandedFrame):
            self.pixels.close()


class Tables(NamedTuple):
    """Where the tables of a batch lie on the device.

    Attributes:
        letterbox: Address of the descriptors that say where pixels are and what becomes of them.
        results: Address of those that have the way back from the canvas to the source.
        pinned: Address of the former in pinned memory.
    """

    letterbox: int
    results: int
    pinned: int


class Front(NamedTuple):
    """What a chain begins with, ahead of the network.

    Attributes:
        fetches: `launch_fetch`, ahead of the letterbox.
        band: If not 0, `launch_letterbox_host` with this band instead of the letterbox.
    """

    fetches: bool = False
    band: int = 0


class _Place(NamedTuple):
    """Where a frame's pixels are when the letterbox reads them. Equal places need no new table."""

    letterbox: Letterbox
    mode: TransferMode
    channels: ChannelOrder
    pixels: DevicePixels
    source: int = 0


class Staging:
    """The memory that one batch at a time passes through. Close it once its stream has passed all work.

    Args:
        calls: Of the stream that the copies are queued on.
        max_batch: Frames of the largest batch.
        cores: Held while a lone frame is copied by all cores. It is shared by all who copy: one frame after the other
            is sooner there than all of them side by side, each by one core.
        copiers: Copy the frames of a batch.
    """

    def __init__(self, calls: StreamCalls, max_batch: int, cores: threading.Lock, copiers: Copiers) -> None:
        self._calls = calls
        self._cores = cores
        self._copiers = copiers
        self._first_frame = _rounded(_TABLES * FRAME_DTYPE.itemsize * max_batch)
        self._pinned: PinnedBuffer | None = None
        self._twin: DeviceBuffer | None = None
        self._bytes: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._host = self._device = 0
        self._sent: tuple[int, list[_Place]] = (0, [])
        self._tables: dict[int, Tables] = {}
        self._foreign: list[ForeignFrame] = []
        self._is_shared = calls.stream.device.info.integrated
        self._address = np.zeros(1, np.uint64)
        """Of a lone pinned frame, in the letterbox table on pinned memory."""
        self.front = Front()
        self._mark = Event(calls.stream.device)
        try:
            self._grow(_SMALLEST)
        except BaseException:
            self._mark.close()
            raise

    def tables(self, batch: int) -> Tables:
        """Where they lie, until the memory grows."""
        found = self._tables.get(batch)
        if found is None:
            size, end = FRAME_DTYPE.itemsize * batch, self._device + self._first_frame
            first = end - 2 * size
            found = self._tables[batch] = Tables(first, end - size, first - self._device + self._host)
        return found

    def send(self, frames: Sequence[Frame], batch: int) -> None:
        """Queue all that the letterbox needs; its `calls` are entered, and the stream has passed the last batch.

        What goes up by DMA is queued at once: the rest of the host's work is done while it is under way. Where the
        memory had to grow, the tables have moved. The chain must begin as `front` says.

        Args:
            frames: At most `batch`, for which there is room; the rest of the batch repeats the first.
            batch: Images of the run.

        Raises:
            CudaError: out of memory, or a copy cannot be queued.
            InputError: an array of another library is not a frame on this device.
        """
        is_alone = batch == 1
        if is_alone and self._is_like_last(frames[0]):
            self._send_again(frames[0])
            return
        if self.front.band:
            self._sent = (0, [])  # the place of a pinned frame may have changed since
        self._make_room(frames)
        if is_alone and (band := self._band(frames[0])):
            self._send_direct(frames[0], band)
            return
        is_fetched = is_alone and frames[0].mode in BY_THE_HOST
        if is_fetched:
            with self._cores:
                places = [self._place_alone(frames[0])]
        else:
            places = self._place(frames)
        self.front = Front(is_fetched and not self._is_shared)
        if self._sent != (batch, places):
            self._send_tables(places, batch)

    def release(self) -> None:
        """Let go of other libraries' arrays; the stream has passed the work that read them."""
        for foreign in self._foreign:
            foreign.close()
        self._foreign.clear()

    def forget(self) -> None:
        """Take nothing for sent; the stream has passed all work."""
        self.release()
        self._sent = (0, [])

    def close(self) -> None:
        """Give the memory back. Closing twice is not an error."""
        self._drop()
        self._mark.close()

    def _drop(self) -> None:
        self.forget()
        for buffer in (self._pinned, self._twin):
            if buffer is not None:
                buffer.close()
        self._pinned = self._twin = None
        self._bytes = np.empty(0, np.uint8)

    def _place(self, frames: Sequence[Frame]) -> list[_Place]:
        """Begin to transfer frames."""
        places: list[_Place | None] = [None] * len(frames)
        by_host: dict[object, list[int]] = {}
        offset = self._first_frame
        waited: Event | Fence | None = None
        for number, frame in enumerate(frames):
            mode = frame.mode
            if mode in BY_THE_HOST:
                by_host.setdefault(kind(frame), []).append(number)
            elif mode == "resident":
                pixels = frame.pixels
                if isinstance(pixels, DeviceImage):
                    if pixels.ready is not waited:  # images that were decoded together share it
                        pixels.wait_on(self._calls.stream)
                        waited = pixels.ready
                    places[number] = _Place(frame.letterbox, mode, frame.channels, pixels.pixels)
                else:
                    foreign = self._foreign_frame(pixels)
                    places[number] = self._packed(number, frame, foreign.pointer, foreign.pitch_bytes)
            else:
                height, width = frame.letterbox.image_hw
                pointer = frame.address
                if mode == "pinned":
                    pointer = self._device + offset
                    self._calls.upload(pointer, frame.address, 3 * height * width)
                    offset += _rounded(3 * height * width)
                places[number] = self._packed(number, frame, pointer, 3 * width)
        pieces: list[Piece] = []
        for numbers in by_host.values():
            start = offset = _rounded(offset)
            sizes = []
            for number in numbers:
                height, width = staged_hw(frames[number])
                places[number] = self._packed(number, frames[number], self._device + offset, 3 * width)
                sizes.append((frames[number], 3 * height * width))
                offset += 3 * height * width
            pieces += self._copiers.pieces(sizes, start)
        if pieces:
            self._copiers.copy(pieces, self._bytes, self._go_up)
        return [place for place in places if place is not None]

    def _go_up(self, piece: Piece) -> None:
        """Queue the upload of a piece, in the thread that has copied it."""
        with self._calls:
            self._calls.upload(self._device + piece.start, self._host + piece.start, piece.size_bytes)

    def _place_alone(self, frame: Frame) -> _Place:
        """Copy a lone frame by all cores; a kernel fetches it."""
        offset = self._first_frame
        height, width = staged_hw(frame)
        fill(frame, self._target(offset, height, width))
        source = 0 if self._is_shared else self._host + offset
        return self._packed(0, frame, self._device + offset, 3 * width, source, is_swapped=frame.mode == "copied")

    def _packed(
        self, number: int, frame: Frame, pointer: int, pitch_bytes: int, source: int = 0, *, is_swapped: bool = False
    ) -> _Place:
        """The place of packed pixels: that of the last batch, if it was the same there."""
        pixel_format: PixelFormat = frame.channels
        if is_swapped:
            pixel_format = "rgb" if frame.channels == "bgr" else "bgr"
        last = self._sent[1]
        if number < len(last):
            place = last[number]
            pixels = place.pixels
            if (
                place.letterbox is frame.letterbox
                and place.mode == frame.mode
                and place.channels == frame.channels
                and pixels.pixel_format == pixel_format
                and (pixels.pointer, pixels.pitch_bytes, place.source) == (pointer, pitch_bytes, source)
                and pixels.orientation == 1
            ):
                return place
        pixels = DevicePixels(pointer, pitch_bytes, staged_hw(frame), pixel_format)
        return _Place(frame.letterbox, frame.mode, frame.channels, pixels, source)

    def _foreign_frame(self, pixels: Any) -> ForeignFrame:
        stream = self._calls.stream
        if isinstance(pixels, HandedFrame):
            pixels.wait_on(stream)
            return pixels
        foreign = ForeignFrame(pixels, stream, self._mark)
        self._foreign.append(foreign)
        return foreign

    def _is_like_last(self, frame: Frame) -> bool:
        """Whether the last batch was one image of the same size, transferred in the same mode to the same place."""
        batch, places = self._sent
        if batch != 1:
            return False
        last = places[0]
        is_alike = last.letterbox is frame.letterbox and last.mode == frame.mode and last.channels == frame.channels
        return is_alike and (frame.mode in _STAGED or self.front.band > 0)

    def _send_again(self, frame: Frame) -> None:
        """The short way of what a video is made of: no table changes, and there is room. Python's time counts here."""
        if self.front.band:
            self._address[0] = frame.address
            return
        pixels = self._sent[1][0].pixels
        height, width = pixels.stored_hw
        if frame.mode == "pinned":
            self._calls.upload(pixels.pointer, frame.address, height * pixels.pitch_bytes)
        else:
            with self._cores:
                fill(frame, self._target(self._first_frame, height, width))

    def _band(self, frame: Frame) -> int:
        """Rows of the canvas for a block if a lone frame is to be letterboxed while it is fetched; else 0."""
        if frame.mode != "mapped" or self._is_shared:
            return 0
        height, width = frame.letterbox.image_hw
        return band_rows(3 * width, height, frame.letterbox.resized_hw[0])

    def _send_direct(self, frame: Frame, band: int) -> None:
        """Make everything ready for a lone frame that is letterboxed while it is fetched."""
        self._send_tables([self._packed(0, frame, frame.address, 3 * frame.letterbox.image_hw[1])], 1)
        self._address = self._bytes[self._first_frame - 2 * FRAME_DTYPE.itemsize :][:8].view(np.uint64)
        self.front = Front(False, band)

    def _make_room(self, frames: Sequence[Frame]) -> None:
        needed = sum(map(_staged_bytes, frames))
        if needed > len(self._bytes) - self._first_frame:
            self._grow(max(needed, 2 * (len(self._bytes) - self._first_frame)))

    def _grow(self, frame_bytes: int) -> None:
        self._drop()
        device = self._calls.stream.device
        size = self._first_frame + _rounded(frame_bytes)
        pinned = PinnedBuffer(device, size)
        try:
            twin = None if self._is_shared else DeviceBuffer(device, size)
        except BaseException:
            pinned.close()
            raise
        self._pinned, self._twin = pinned, twin
        self._bytes = pinned.array(np.uint8, (size,))
        self._host = pinned.pointer
        self._device = self._host if twin is None else twin.pointer
        self._tables.clear()

    def _send_tables(self, places: list[_Place], batch: int) -> None:
        """Write the tables on pinned memory, and queue their copy."""
        size = FRAME_DTYPE.itemsize * batch
        start = self._first_frame - 2 * size
        canvas_hw = places[0].letterbox.input_hw
        all_places = places + places[:1] * (batch - len(places))
        found: dict[int, bytes] = {}  # images of one size share their letterbox, and so the way back
        rows = [_row_as_read(place.pixels, place.letterbox, place.source, canvas_hw) for place in all_places]
        for place in all_places:
            key = id(place.letterbox)
            if key not in found:
                found[key] = frame_row(_as_found(place), canvas_hw)
            rows.append(found[key])
        self._bytes[start : start + 2 * size] = np.frombuffer(b"".join(rows), np.uint8)
        self._calls.upload(self._device + start, self._host + start, 2 * size)
        self._sent = (batch, places)

    def _target(self, offset: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Where a frame lies on pinned memory."""
        return self._bytes[offset : offset + 3 * height * width].reshape(height, width, 3)


def _staged_bytes(frame: Frame) -> int:
    """What a frame takes of the memory for frames."""
    if frame.mode not in _STAGED:
        return 0
    height, width = staged_hw(frame)
    return _rounded(3 * height * width)


def _rounded(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


@lru_cache(maxsize=1024)
def _row_as_read(pixels: DevicePixels, box: Letterbox, source: int, canvas_hw: tuple[int, int]) -> bytes:
    """What the letterbox does with the pixels. Memory is used again and again, and so are the rows."""
    return frame_row(FrameDescriptor(pixels, box.resized_hw, (box.top, box.left), source), canvas_hw)


def _as_found(place: _Place) -> FrameDescriptor:
    """The way back from the canvas to the source; no pixel is read by this one, so it has a pointer to none."""
    box = place.letterbox
    pixels = DevicePixels(_NOWHERE, 3 * box.image_hw[1], box.image_hw)
    return FrameDescriptor(pixels, box.resized_hw, (box.top, box.left))
