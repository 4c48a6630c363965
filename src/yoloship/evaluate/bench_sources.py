"""What a benchmark hands to a detector: images, image files, frames on the GPU, and videos over and over."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from yoloship._util.closing import Closing
from yoloship.errors import InputError
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions
from yoloship.sources.source import Frame, Source
from yoloship.sources.video import VideoFiles

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.cuda.device import Device
    from yoloship.detect.detector import Detector
    from yoloship.sources.reader import VideoDecoding

    Image = npt.NDArray[np.uint8]

Origin: TypeAlias = Literal["array", "file", "device"]
"""Where measuring begins: with images in the host's memory, with files, or with images in the GPU's memory."""


@dataclass(frozen=True, slots=True)
class BenchSources:
    """What is measured on.

    Attributes:
        images: (height, width, 3) uint8 BGR each. Read only. Those of the files, or the first frames of the videos.
        origin: Where measuring begins.
        files: The image files of the same images, in their order; needed for the origin ``file``, unless there are
            videos.
        videos: Videos, which are decoded from their files.

    Raises:
        InputError: there are no images, or not one file for each.
    """

    images: Sequence[Image]
    origin: Origin = "array"
    files: Sequence[Path] = ()
    videos: Sequence[Path] = ()

    def __post_init__(self) -> None:
        if not self.images:
            raise InputError("nothing to measure", expected="one image, or more")
        if self.origin == "file" and not self.videos and len(self.files) != len(self.images):
            raise InputError("not one file for each image", expected=str(len(self.images)), got=str(len(self.files)))

    def handed(self, detector: Detector, count: int, resources: ExitStack) -> list[Any]:
        """So many images in turn, from the first, as a detector takes them from this origin.

        Args:
            detector: If they are in a GPU's memory, it is this detector's GPU.
            count: How many.
            resources: Gives memory of the GPU back, before the detector is closed.
        """
        if self.origin == "file" and not self.videos:
            return [self.files[place % len(self.files)] for place in range(count)]
        if self.origin != "device":
            return [self.images[place % len(self.images)] for place in range(count)]
        session: Any = detector.session
        held = [resources.enter_context(ResidentImage(session.device, image)) for image in self.images[:count]]
        return [held[place % len(held)] for place in range(count)]

    def decoded_by(self, detector: Detector) -> str | None:
        """Who decodes, and why; None if nothing is decoded."""
        if self.origin != "file":
            return None
        if self.videos:
            return detector.video_decoding
        chosen = detector.decoding
        return f"{chosen.images} ({chosen.reason})"


class ResidentImage(Closing):
    """An image in a GPU's memory, as other libraries hold theirs.

    Args:
        device: The GPU.
        image: (height, width, 3) uint8. It is copied.

    Raises:
        CudaError: out of memory.
    """

    def __init__(self, device: Device, image: Image) -> None:
        from yoloship.cuda.buffers import DeviceBuffer, upload
        from yoloship.cuda.stream import Stream

        self._memory = DeviceBuffer(device, image.nbytes)
        with Stream(device) as stream:
            upload(stream, self._memory.pointer, np.ascontiguousarray(image))
            stream.sync()
        self.__cuda_array_interface__ = {
            "shape": image.shape, "typestr": "|u1", "data": (self._memory.pointer, True), "strides": None, "version": 3,
        }  # fmt: skip

    def close(self) -> None:
        """Give the memory back. Closing twice is not an error."""
        self._memory.close()


class VideoLoop(Source):
    """Videos over and over, without an end.

    Args:
        paths: The videos.
    """

    help = "Videos over and over, for measurements."
    has_videos = True

    def __init__(self, paths: Sequence[Path]) -> None:
        self._videos = VideoFiles(tuple(paths))

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:  # noqa: ARG003 - the base's
        """Take file names."""
        return cls([Path(text) for text in texts])

    def decode_with(self, decoding: VideoDecoding) -> None:
        """Decode with a device from now on, if it takes files."""
        self._videos.decode_with(decoding)

    def __iter__(self) -> Iterator[Frame]:
        """Give frames that are decoded ahead.

        Raises:
            InputError: there are no frames.
        """
        while True:
            yield from self._some(self._videos)

    def when_asked(self) -> Generator[Frame]:
        """Give frames that are decoded when they are asked for.

        Raises:
            InputError: there are no frames.
        """
        while True:
            yield from self._some(
                frame for path in self._videos.paths for frame in self._videos.reading(path)(lambda: False)
            )

    def _some(self, frames: Any) -> Iterator[Frame]:
        frame = None
        for frame in frames:
            if frame.error is not None:
                raise frame.error
            yield frame
        if frame is None:
            raise InputError("has no frames", subject=str(self._videos.paths[0]))


def first_frames(videos: Sequence[Path], count: int) -> list[Image]:
    """The first frames of videos, decoded by the CPU.

    Args:
        videos: From as many of them as there are, one frame each in turn.
        count: How many.

    Returns:
        (height, width, 3) uint8 BGR each, owned by the caller.

    Raises:
        YoloshipError: a video cannot be read.
    """
    with ExitStack() as stack:
        loops: list[Any] = [VideoLoop([video]).when_asked() for video in videos[:count]]
        for loop in loops:
            stack.callback(loop.close)
        return [np.array(next(loops[place % len(loops)]).image) for place in range(count)]
