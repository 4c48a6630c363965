"""Decodes batches of JPEG files into device memory, where they are sound: `JpegEngine`."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from yoloship._util.closing import Closing
from yoloship.cuda.device_image import DeviceImage, HostReader
from yoloship.cuda.device_pixels import DevicePixels
from yoloship.cuda.jpeg_check import JpegCheck, PendingCheck, ScanHeader, scan_header
from yoloship.cuda.nvjpeg import NvJpeg, Target
from yoloship.cuda.stream import Stream
from yoloship.detect.gpu.image_memory import ImageMemory
from yoloship.errors import CudaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.cuda.buffers import DeviceBuffer
    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.device import Device
    from yoloship.images import ImageFile


MAX_FILES: Final = 32
"""Files of a batch. On an H100, batches of 8 reach 0.85 of the speed of batches of 64, and batches of 32 0.96."""
_MEMORY_BYTES: Final = 1 << 30
_MEMORY_SHARE: Final = 8
"""Decoded images take at most 1 GiB, and an eighth of the device's memory."""
_MOST_BYTES: Final = 256 << 20
"""Of the files of a batch: the check has a copy of them in pinned memory, and one on the device."""
_GIVE_UP: Final = 64
"""Files that the engine refuses, none taken in between, until it is no longer asked."""

_logger = logging.getLogger("yoloship.detect")


@dataclass(frozen=True, slots=True)
class JpegFile:
    """A JPEG file in a form that the engine decodes like the host's reader, if its data is sound.

    Attributes:
        file: The file, with its header.
        scan: What its scan consists of, for the check of its data.
    """

    file: ImageFile
    scan: ScanHeader

    @property
    def nbytes(self) -> int:
        """Bytes of the host's memory that it takes."""
        return len(self.file.data)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of device memory that its pixels take."""
        return 3 * self.file.header.width * self.file.header.height


def jpeg_file(file: ImageFile) -> JpegFile | None:
    """Take a JPEG file for the engine; None if only the host's reader decodes its form."""
    scan = scan_header(file.data, file.header.head)
    if scan is None or (scan.width, scan.height) != (file.header.width, file.header.height):
        return None  # memory is taken for the header's size; the engine writes as much as its own reading says
    return JpegFile(file, scan)


def one_batch(files: Sequence[JpegFile]) -> Sequence[JpegFile]:
    """As many of the first files as a batch takes."""
    total = 0
    for place, file in enumerate(files[:MAX_FILES]):
        total += file.nbytes
        if place and total > _MOST_BYTES:
            return files[:place]
    return files[:MAX_FILES]


class JpegEngine(Closing):
    """The JPEG engine of a GPU, the check of what it decodes, and memory for the pixels. Threads may share it.

    Args:
        device: The GPU.
        kernels: A `KernelSet` of that device, open longer than this.

    Attributes:
        memory: Where images are decoded to.

    Raises:
        CudaError: the GPU has no JPEG engine, or the device failed.
        DependencyError: the library nvJPEG is not installed.
    """

    def __init__(self, device: Device, kernels: Mapping[str, Launchable]) -> None:
        self._turn = threading.Lock()
        self._refused = 0
        with ExitStack() as stack:
            self._decoder = stack.enter_context(NvJpeg(device))
            self._stream = stack.enter_context(Stream(device))
            self._check = stack.enter_context(JpegCheck(kernels, device, MAX_FILES))
            self._reader = stack.enter_context(HostReader(device, kernels))
            limit_bytes = min(_MEMORY_BYTES, device.total_bytes // _MEMORY_SHARE)
            self.memory = stack.enter_context(ImageMemory(device, limit_bytes))
            self._owned = stack.pop_all()

    @property
    def device(self) -> Device:
        """The GPU."""
        return self._stream.device

    @property
    def library(self) -> str:
        """The name and version of the library."""
        return f"nvJPEG {'.'.join(map(str, self._decoder.version))}"

    @property
    def has_given_up(self) -> bool:
        """Whether the engine refused so many files one after the other that it is no longer asked."""
        return self._refused >= _GIVE_UP

    def decode(self, files: Sequence[JpegFile], blocks: Sequence[DeviceBuffer]) -> list[DeviceImage | None]:
        """Decode files, and check their data meanwhile.

        Args:
            files: 1 to `MAX_FILES`, as `one_batch` gives them.
            blocks: Of `memory`, as many, each with room for its image. They are given back with the images.

        Returns:
            Images whose pixels are written; None for a file that the host's reader must judge.

        Raises:
            CudaError: the device failed, or the engine is closed. All blocks are given back.
        """
        given = 0
        images: list[DeviceImage | None] = []
        try:
            with self._turn:
                decoded, check = self._begun(files, blocks)
                sound = check.verdicts()
            for file, block, is_good in zip(files, blocks, map(all, zip(decoded, sound, strict=True)), strict=True):
                given += 1
                if is_good:
                    images.append(self._image(file, block))
                else:
                    self.memory.give(block)
                    images.append(None)
        except BaseException:
            for block in blocks[given:]:
                self.memory.give(block)
            raise
        return images

    def decode_unchecked(self, file: JpegFile, block: DeviceBuffer) -> tuple[DeviceImage, PendingCheck] | None:
        """Decode a file without waiting for the check of its data.

        Args:
            file: The file.
            block: Of `memory`, with room for its image. It is given back with the image.

        Returns:
            An image whose pixels are written, and the check of its data. Nothing that was made of the image may be used
            before the check has found the file sound. None if the host's reader must judge the file.

        Raises:
            CudaError: the device failed, or the engine is closed. The block is given back.
        """
        image = self._image(file, block)
        try:
            with self._turn:
                (is_decoded,), check = self._begun([file], [block])
            if is_decoded:
                return image, check
            check.verdicts()  # raises if it is the device that failed
        except BaseException:
            image.close()
            raise
        image.close()
        return None

    def close(self) -> None:
        """Wait for the batch in progress, and give everything back. Closing twice is not an error."""
        with self._turn:
            self._owned.close()

    def _begun(self, files: Sequence[JpegFile], blocks: Sequence[DeviceBuffer]) -> tuple[list[bool], PendingCheck]:
        """Begin to check files, and decode them; which of them the engine took, and the check. The turn is held."""
        targets = [Target(block.pointer, 3 * file.file.header.width) for file, block in zip(files, blocks, strict=True)]
        data = [file.file.data for file in files]
        check = self._check.begin(self._stream, data, [file.scan for file in files])
        return self._decoded(data, targets), check

    def _decoded(self, data: Sequence[bytes], targets: Sequence[Target]) -> list[bool]:
        """Decode files; which of them the engine took. One that it refuses spoils the batch, which is then halved."""
        try:
            self._decoder.decode(data, targets)
        except CudaError as error:
            if len(data) > 1:
                middle = len(data) // 2
                return [
                    *self._decoded(data[:middle], targets[:middle]), *self._decoded(data[middle:], targets[middle:])
                ]  # fmt: skip
            self._refused += 1
            _logger.debug("the GPU does not decode a JPEG: %s", error)
            if self._refused == _GIVE_UP:
                _logger.warning(
                    "JPEGs are decoded on the CPU from now on, because the GPU refused %d: %s", _GIVE_UP, error
                )
            return [False]
        self._refused = 0
        return [True] * len(data)

    def _image(self, file: JpegFile, block: DeviceBuffer) -> DeviceImage:
        header = file.file.header
        pixels = _packed(block.pointer, header.width, header.height, header.orientation)
        return DeviceImage(
            pixels, block.size_bytes, ready=None, reader=self._reader, release=partial(self.memory.give, block)
        )


@lru_cache(maxsize=1024)
def _packed(pointer: int, width: int, height: int, orientation: int) -> DevicePixels:
    """Pixels in a block, which is used again and again."""
    return DevicePixels(pointer, 3 * width, (height, width), "bgr", orientation=orientation)
