"""Getting a batch's frames, and the table that says where they lie, to the GPU: `Staging`.

One block of pinned memory has a twin on the device, laid out alike:

    … spare │ letterbox table │ result table │ frame │ frame │ …
                                             └ a fixed place; the tables of n frames end here, frames begin here

Tables and first frame are neighbours, so they go up in one copy; and a batch like the last one needs no tables at all.
The letterbox table says where the pixels are and what becomes of them; the result table has the geometry from the
source picture to the canvas, which differs where the host has scaled a frame already.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer
from yoloship.cuda.foreign import ForeignFrame
from yoloship.cuda.frames import FRAME_DTYPE, FrameDescriptor, pack_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.cuda.express import Express
    from yoloship.pipeline.crew import Crew
    from yoloship.pipeline.letterbox import Letterbox
    from yoloship.pipeline.transfer import TransferPolicy, Way

_ALIGNMENT: Final = 256
_TABLES: Final = 2
_PIECES: Final = 32
"""A batch is cut into about so many pieces at most, but no frame is joined to another: each costs some Python."""
_SMALLEST: Final = 1 << 22
"""Bytes for frames to begin with: a picture of 1280×960."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture, and the way that it takes to the device.

    Attributes:
        pixels: (height, width, 3) uint8 BGR, C-contiguous, read only; for `resident` an array of another library.
        letterbox: Where it lies on the canvas.
        way: See `transfer`.
        address: Of its pixels on the host; where `way` is `mapped`, as the device sees it; 0 for `resident`.
    """

    pixels: Any
    letterbox: Letterbox
    way: Way
    address: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a frame's pixels are when the letterbox reads them. Equal places need no new table."""

    data: int
    pitch_bytes: int
    letterbox: Letterbox
    is_resized: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Pixels to be put on pinned memory: bytes from an address, or a frame to be scaled."""

    offset: int
    size_bytes: int
    source: int
    frame: Frame


class Staging:
    """The memory that one batch at a time passes through. Close it once its stream has passed all work.

    Args:
        express: Of the stream that the copies are queued on.
        max_batch: Frames of the largest batch.
        policy: How copies are cut.
        crew: Helps with copying.
    """

    def __init__(self, express: Express, max_batch: int, policy: TransferPolicy, crew: Crew) -> None:
        self._express = express
        self._policy = policy
        self._crew = crew
        self._first_frame = _rounded(_TABLES * FRAME_DTYPE.itemsize * max_batch)
        self._pinned: PinnedBuffer | None = None
        self._twin: DeviceBuffer | None = None
        self._bytes: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._host = self._device = 0
        self._sent: tuple[_Place, ...] = ()
        self._foreign: list[ForeignFrame] = []
        self.generation = 0
        self._grow(_SMALLEST)

    def tables(self, batch: int) -> tuple[int, int]:
        """Device addresses of the letterbox table and the result table of a batch; they hold for one `generation`."""
        size = FRAME_DTYPE.itemsize * batch
        return self._device + self._first_frame - 2 * size, self._device + self._first_frame - size

    def make_room(self, frames: Sequence[Frame]) -> None:
        """Make the memory large enough; where it grows, the tables move and `generation` counts up.

        Raises:
            CudaError: out of memory.
        """
        needed = sum(map(_staged_bytes, frames))
        if needed > len(self._bytes) - self._first_frame:
            self._grow(max(needed, 2 * (len(self._bytes) - self._first_frame)))

    def send(self, frames: Sequence[Frame], batch: int) -> None:
        """Queue all that the letterbox needs; the express is entered, and the stream has passed the last batch.

        Args:
            frames: At most `batch`, for which there is room; the rest of the batch repeats the first.
            batch: Pictures of the run.

        Raises:
            CudaError: a copy cannot be queued.
            InputError: an array of another library is no frame on this device.
        """
        places: list[_Place] = []
        pieces: list[_Piece] = []
        direct: list[tuple[int, int, int]] = []
        offset, piece_bytes = self._first_frame, 0
        for frame in frames:
            letterbox = frame.letterbox
            height, width = letterbox.image_hw
            if frame.way == "resident":
                foreign = ForeignFrame(frame.pixels, self._express.stream)
                self._foreign.append(foreign)
                places.append(_Place(foreign.pointer, foreign.pitch_bytes, letterbox, False))
                continue
            if frame.way == "mapped":
                places.append(_Place(frame.address, 3 * width, letterbox, False))
                continue
            is_resized = frame.way == "resized"
            columns = letterbox.resized_hw[1] if is_resized else width
            places.append(_Place(self._device + offset, 3 * columns, letterbox, is_resized))
            size = _staged_bytes(frame)
            if frame.way == "pinned":
                direct.append((self._device + offset, frame.address, 3 * height * width))
            elif is_resized:
                pieces.append(_Piece(offset, size, 0, frame))
            else:
                piece_bytes = piece_bytes or max(self._policy.piece_bytes, sum(map(_staged_bytes, frames)) // _PIECES)
                pieces.extend(_cut(frame, offset, piece_bytes))
            offset += size
        table_bytes = self._describe(places, batch)
        if table_bytes and not pieces:
            start = self._first_frame - table_bytes
            self._express.upload(self._device + start, self._host + start, table_bytes)
        for target, source, size in direct:
            self._express.upload(target, source, size)
        if pieces:
            self._put(pieces, table_bytes)

    def release(self) -> None:
        """Let go of other libraries' arrays; the stream has passed the work that read them."""
        for foreign in self._foreign:
            foreign.close()
        self._foreign.clear()

    def forget(self) -> None:
        """Take nothing for sent; the stream has passed all work."""
        self.release()
        self._sent = ()

    def close(self) -> None:
        """Give the memory back. Closing twice is no error."""
        self.forget()
        for buffer in (self._pinned, self._twin):
            if buffer is not None:
                buffer.close()
        self._pinned = self._twin = None
        self._bytes = np.empty(0, np.uint8)

    def _grow(self, frame_bytes: int) -> None:
        self.close()
        device = self._express.stream.device
        size = self._first_frame + _rounded(frame_bytes)
        pinned = PinnedBuffer(device, size)
        try:
            twin = DeviceBuffer(device, size)
        except BaseException:
            pinned.close()
            raise
        self._pinned, self._twin = pinned, twin
        self._bytes = pinned.array(np.uint8, (size,))
        self._host, self._device = pinned.pointer, twin.pointer
        self.generation += 1

    def _describe(self, places: list[_Place], batch: int) -> int:
        """Write the tables on pinned memory where they differ from the last ones; how many bytes must go up."""
        places += places[:1] * (batch - len(places))
        key = tuple(places)
        if key == self._sent:
            return 0
        size = FRAME_DTYPE.itemsize * batch
        start = self._first_frame - 2 * size
        canvas_hw = places[0].letterbox.input_hw
        for number, seen_by_letterbox in enumerate((True, False)):
            table = self._bytes[start + number * size : start + (number + 1) * size].view(FRAME_DTYPE)
            pack_frames([_descriptor(place, seen_by_letterbox) for place in places], canvas_hw, table)
        self._sent = key
        return 2 * size

    def _put(self, pieces: list[_Piece], table_bytes: int) -> None:
        """Fill pinned memory piece by piece, and send each up as soon as it is there; tables go with the first."""
        upload, host, device, first = self._express.upload, self._host, self._device, pieces[0]
        alone = sum(piece.size_bytes for piece in pieces) <= self._policy.alone_bytes

        def send_up(piece: _Piece) -> None:
            extra = table_bytes if piece is first else 0
            # Tables end where frames begin, and the first piece is the first frame's beginning, unless a pinned frame
            # lies between; then they go up by themselves.
            if extra and piece.offset != self._first_frame:
                start = self._first_frame - extra
                upload(device + start, host + start, extra)
                extra = 0
            start = piece.offset - extra
            upload(device + start, host + start, piece.size_bytes + extra)

        if alone:
            for piece in pieces:
                self._fill(piece)
                send_up(piece)
        else:
            self._crew.work(pieces, self._fill, send_up)

    def _fill(self, piece: _Piece) -> None:
        if piece.source:
            ctypes.memmove(self._host + piece.offset, piece.source, piece.size_bytes)
            return
        import cv2

        rows, columns = piece.frame.letterbox.resized_hw
        scaled = self._bytes[piece.offset : piece.offset + 3 * rows * columns].reshape(rows, columns, 3)
        if piece.frame.letterbox.image_hw == (rows, columns):
            np.copyto(scaled, piece.frame.pixels)
        else:
            cv2.resize(piece.frame.pixels, (columns, rows), dst=scaled, interpolation=cv2.INTER_LINEAR)


def _cut(frame: Frame, offset: int, piece_bytes: int) -> list[_Piece]:
    """A frame's bytes in pieces of nearly equal size."""
    size, source = int(frame.pixels.nbytes), frame.address
    count = -(-size // piece_bytes)
    step = -(-size // (count * _ALIGNMENT)) * _ALIGNMENT
    return [_Piece(offset + start, min(step, size - start), source + start, frame) for start in range(0, size, step)]


def _staged_bytes(frame: Frame) -> int:
    """What a frame takes of the memory for frames."""
    if frame.way in {"resident", "mapped"}:
        return 0
    height, width = frame.letterbox.resized_hw if frame.way == "resized" else frame.letterbox.image_hw
    return _rounded(3 * height * width)


def _rounded(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


def _descriptor(place: _Place, seen_by_letterbox: bool) -> FrameDescriptor:
    box = place.letterbox
    is_scaled = place.is_resized and seen_by_letterbox
    image_hw = box.resized_hw if is_scaled else box.image_hw
    pitch = max(place.pitch_bytes, 3 * image_hw[1])  # the result table's pixels are never read
    return FrameDescriptor(place.data, pitch, image_hw, box.resized_hw, (box.top, box.left))
