"""`Pipeline`, the interface between a `Detector` and the code that runs its model on a CPU or a GPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypeVar, get_args

import numpy as np

from yoloship._util.closing import Closing
from yoloship.errors import InputError
from yoloship.images.reading import ImageFile, read_image
from yoloship.letterbox import Letterbox
from yoloship.model import size_multiple
from yoloship.tasks import task_of
from yoloship.transforms import TRANSFORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from yoloship.detect.batching import Answer, Batcher, Gathering
    from yoloship.detect.options import DetectOptions
    from yoloship.detect.stream import Outcome, Reserve
    from yoloship.images import ChannelOrder
    from yoloship.model import ModelInfo
    from yoloship.results import Result
    from yoloship.runtime import Session
    from yoloship.runtime.session import DeviceSession
    from yoloship.sources.source import Source
    from yoloship.tasks.task import Form, Task
    from yoloship.transforms.crop import Crop

    Image = npt.NDArray[np.uint8]

ShapeMode: TypeAlias = Literal["square", "rect"]
"""``square``: every image is padded to a canvas of a fixed size. ``rect``: it is padded to the next multiple of the
stride, which is faster and gives slightly different numbers; this needs a graph with dynamic height and width."""

Used = TypeVar("Used")

DEFAULT_SIDE: Final = 640
WAITING: Final = 4
"""Batches that may wait in `Detector.submit`, for each run that is possible at the same time."""
Placement: TypeAlias = "Letterbox | Crop"
"""Where an image lies on the model's canvas: whole, with padding around it, or its centre alone. Both have `image_hw`,
`input_hw` and `apply`; boxes come back through a letterbox only."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A model and the size of its input.

    Attributes:
        info: The model's description.
        input_hw: (height, width) of the canvas in model pixels; in `rect` mode its limit.
        shape_mode: How images are padded.
        model_name: The model's name, for messages.
    """

    info: ModelInfo
    input_hw: tuple[int, int]
    shape_mode: ShapeMode
    model_name: str

    @classmethod
    def checked(
        cls, info: ModelInfo, imgsz: tuple[int, int] | None, shape_mode: ShapeMode, model_name: str
    ) -> ModelInput:
        """Choose the canvas size and check it.

        Args:
            info: The model's description.
            imgsz: The requested (height, width); None takes the graph's own size, else that of the model's transform or
                its training, else 640×640.
            shape_mode: How images are padded.
            model_name: The model's name, for messages.

        Raises:
            InputError: the size or the mode does not fit the graph.
        """
        if shape_mode not in get_args(ShapeMode):
            raise InputError(
                "no such mode", subject="shape_mode", expected=" or ".join(get_args(ShapeMode)), got=repr(shape_mode)
            )
        if info.class_scores is not None:
            info = _with_known_transform(info, shape_mode, model_name)
        height, width = info.input_hw
        if shape_mode == "rect" and (height is not None or width is not None):
            raise InputError(
                "rectangular input needs a graph with dynamic height and width",
                subject=model_name,
                got=f"{height or 'dynamic'}×{width or 'dynamic'}",
                hint="export it with 'yoloship export --imgsz dynamic', load the .pt itself, or use the square mode",
            )
        usual = info.usual_hw or (DEFAULT_SIDE, DEFAULT_SIDE)
        usual = usual if info.transform is None else info.transform.crop
        wanted = imgsz or (height or usual[0], width or usual[1])
        for have, want in zip(info.input_hw, wanted, strict=True):
            if have is not None and have != want:
                raise InputError(
                    "the graph has a fixed size",
                    subject=model_name,
                    expected=f"{height or 'any'}×{width or 'any'}",
                    got=f"{wanted[0]}×{wanted[1]}",
                    hint="leave the size out, or export the model at that size",
                )
        if shape_mode == "rect" and info.framing is not None:
            raise InputError(
                f"places images in its own way ({info.framing})", subject="shape_mode", expected="square", got="rect",
                hint="leave it out",
            )  # fmt: skip
        stride = size_multiple(info.strides)
        if any(side < stride or side % stride for side in wanted):
            raise InputError(
                "the size is not a multiple of the model's stride",
                subject="imgsz",
                expected=f"n × {stride}",
                got=f"{wanted[0]}×{wanted[1]}",
            )
        if info.transform is not None:
            info = replace(info, transform=info.transform.at(wanted))
        return cls(info, wanted, shape_mode, model_name)

    def placement(self, image_hw: tuple[int, int]) -> Placement:
        """Where an image of this size lies on the canvas."""
        transform = self.info.transform
        if transform is not None:
            from yoloship.transforms.crop import Crop

            return Crop.of(image_hw, transform)
        if self.info.framing == "stretch":
            return Letterbox.stretched(image_hw, self.input_hw)
        if self.info.framing == "top_left":
            return Letterbox.top_left(image_hw, self.input_hw)
        if self.shape_mode == "rect":
            return Letterbox.rect(image_hw, self.input_hw, size_multiple(self.info.strides))
        return Letterbox.fixed(image_hw, self.input_hw)

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """Where an image of this size lies on the canvas, for models that see whole images."""
        placed = self.placement(image_hw)
        assert isinstance(placed, Letterbox), "a classification model sees a crop"
        return placed


def _with_known_transform(info: ModelInfo, shape_mode: ShapeMode, model_name: str) -> ModelInfo:
    """The record, if it says how an image becomes the input of a classification model.

    Raises:
        InputError: it does not, or the mode is for boxes.
    """
    if shape_mode == "rect":
        raise InputError(
            "has no effect for a classification model, whose images are cropped", subject="shape_mode (--rect)",
            expected="square", got="rect", hint="leave it out",
        )  # fmt: skip
    if info.transform is None:
        raise InputError(
            "does not say how images become its input", subject=model_name,
            expected=f"the transform of its training (--transform): {', '.join(TRANSFORMS)}",
            hint="torchvision-v1 resizes to 256 and torchvision-v2 to 232 before the crop; timm takes parameters: "
            "timm:crop_pct=0.95,interpolation=bicubic",
        )  # fmt: skip
    info.transform.check_channels(info.channels)
    return info


@dataclass(frozen=True, slots=True)
class Decoding:
    """Who decodes image files for a detector.

    Attributes:
        images: ``gpu`` for JPEG files if they are in its forms, the CPU for the others; ``cpu`` for all of them.
        reason: What the GPU uses, or why the CPU decodes.
    """

    images: Literal["gpu", "cpu"]
    reason: str


class DecodeQueue(Protocol):
    """Threads that decode images, together if they wait at the same time."""

    def put_all(
        self,
        images: Sequence[tuple[Any, Answer]],
        then: Callable[[Sequence[tuple[Answer, object]]], None],
        *,
        may_wait: bool = True,
    ) -> None:
        """Queue images.

        Args:
            images: Images that are for this queue, each with an answer, of which is asked only whether it is cancelled
                when the image's turn comes: then the image is dropped, and is heard of no more.
            then: Called for each image once, with several if they were decoded together: with their answers, and what
                `Pipeline.place` takes for them, or errors. One of those threads calls it. It must not raise.
            may_wait: Whether to wait while many images wait already.

        Raises:
            SessionError: the detector is closed. No image was queued.
        """


class Encoded(ABC):
    """An image that other threads can decode.

    Attributes:
        queue: Where it can wait for them.
    """

    __slots__ = ()
    queue: DecodeQueue

    @abstractmethod
    def decode_for(self, use: Callable[[Any], Used]) -> Used:
        """Decode it in this thread, and give what is made of it.

        Args:
            use: Called with what `Pipeline.place` takes, perhaps before all of the file is known to be sound. What it
                makes of a file that is not, or raises, is thrown away. Then it may be called again, with the image that
                the host has read. It must not keep the image.

        Raises:
            YoloshipError: it is damaged, the device failed, or the detector is closed.
        """


@dataclass(slots=True, eq=False)
class PlacedImage:
    """An image, and where it lies on the model's canvas. It is not changed.

    Attributes:
        pixels: (height, width, channels) uint8, C-contiguous, read only.
        letterbox: Its place on the canvas: a `Placement`.
    """

    pixels: Any
    letterbox: Any

    def release(self) -> None:
        """Release what `Pipeline.hand_over` holds."""


@dataclass(frozen=True, slots=True)
class DetectSteps:
    """How a stream processes a source.

    Attributes:
        channels: The colour order of arrays among the sources.
        read: Reads a source as an image in the host's memory, BGR if it has colours, as for `in_order`.
        options: Which detections to keep.
        queue: Gives what queues images, with their colour orders and what gets their answers, to run with others that
            wait. It is asked for once for a stream, and only if that has a use for it.
    """

    channels: ChannelOrder
    read: Callable[[object, Reserve], Image]
    options: DetectOptions
    queue: Callable[[], Callable[[Sequence[tuple[object, ChannelOrder, Answer]]], None]]


class Pipeline(Closing):
    """Runs one model, from images to detections. It owns its session. Many threads may use it at once.

    Args:
        model: The model and the size of its input.
        session: The session that runs the network.
        max_batch: Images of the largest run.
        parallel_runs: Runs that are possible at the same time.
    """

    session: Session | DeviceSession

    def __init__(
        self, model: ModelInput, session: Session | DeviceSession, *, max_batch: int, parallel_runs: int
    ) -> None:
        self.model = model
        self.session = session
        self.task: Task[Any, Result] = task_of(model.info, model.model_name)
        self.form: Form[Any] = self.task.form(model.info.output_form, model.model_name)
        self.max_batch = max_batch
        self.parallel_runs = parallel_runs

    @property
    @abstractmethod
    def batches(self) -> tuple[int, ...]:
        """Batch sizes of submitted images, ascending from 1."""

    @property
    def device(self) -> str:
        """Where the network runs: ``cpu`` or ``cuda:N``."""
        return "cpu"

    @abstractmethod
    def place(self, image: object, channels: ChannelOrder) -> PlacedImage:
        """Read an image, and compute its place on the canvas.

        Args:
            image: As `Detector.__call__` takes it.
            channels: The order of its colours if it is an array.

        Raises:
            ImageError: it cannot be read.
            InputError: it is not an image that the model takes.
        """

    def detect(self, image: object, channels: ChannelOrder, options: DetectOptions) -> Result:
        """Do what `place` and `run` do, for one image. The network may begin before a file is known to be sound.

        Args:
            image: As for `place`.
            channels: As for `place`.
            options: What to keep.

        Raises:
            YoloshipError: as `place` and `run`.
        """
        if not isinstance(image, np.ndarray):
            image, channels = self.opened(image, channels)
            if isinstance(image, Encoded):
                return image.decode_for(lambda found: self.run((self.place(found, "bgr"),), options)[0])
        return self.run((self.place(image, channels),), options)[0]

    def place_all(self, images: Iterable[object], channels: ChannelOrder) -> list[PlacedImage]:
        """Do what `place` does for each image. The first that fails raises."""
        return [self.place(image, channels) for image in images]

    def opened(
        self, image: object, channels: ChannelOrder, reserve: Reserve | None = None
    ) -> tuple[object, ChannelOrder]:
        """Do the part of `place` that a caller of `Detector.submit` waits for.

        Args:
            image: As for `place`, or an image file from `yoloship.images.open_image`.
            channels: As for `place`.
            reserve: As for `in_order`.

        Returns:
            What `place` takes for it, perhaps `Encoded`, and the order of its colours.
        """
        if isinstance(image, ImageFile):
            return read_image(image, reserve=reserve), "bgr"
        return image, channels

    def lend_decoder(self, source: Source) -> None:
        """Let a source decode its videos on the device, if this pipeline can use what comes of that."""

    @property
    def video_decoding(self) -> str:
        """Who decodes videos, and why."""
        return "cpu (the CPU prepares the images)"

    @property
    def files_ahead(self) -> int:
        """Files of a stream that decoders of its own may have, beside the images that wait for runs or are in them."""
        return 0

    @property
    def decoding(self) -> Decoding:
        """Who decodes image files."""
        return Decoding("cpu", "the CPU prepares the images")

    @abstractmethod
    def run(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Result]:
        """Run the model once.

        Args:
            images: 1 to `max_batch`, on canvases of one size.
            options: What to keep.

        Returns:
            One result for each image, in their order.
        """

    @abstractmethod
    def run_timed(self, images: Sequence[PlacedImage], options: DetectOptions) -> tuple[list[Result], dict[str, float]]:
        """Do what `run` does, a little slower, and return the milliseconds of each stage and of all, ``total``."""

    @abstractmethod
    def stream(self, sources: Iterable[object], steps: DetectSteps, *, keep_images: bool) -> Iterator[Outcome]:
        """Detect on any number of images.

        Args:
            sources: As `Detector.stream` takes them.
            steps: How each source is processed.
            keep_images: Whether each `Outcome` contains its image.
        """

    @abstractmethod
    def prepare(self, batches: Sequence[int], options: DetectOptions) -> None:
        """Prepare what the first images would wait for, for as many runs as are possible at the same time.

        Args:
            batches: Batch sizes to prepare for, on the model's own canvas.
            options: The options of those runs.
        """

    @abstractmethod
    def network(self, batch: int) -> AbstractContextManager[Callable[[], None]]:
        """A function that runs only the network, on this many images of the model's canvas size, and waits for it."""

    def run_waiting(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Result]:
        """Do what `run` does for images of `batcher`, which may run in a larger batch that is ready."""
        return self.run(images, options)

    def gathering(self) -> Gathering | None:
        """How `batcher` gathers images; None as `Batcher` does by itself."""
        return None

    def batcher(self) -> Batcher:
        """Make the threads of `Detector.submit`."""
        from yoloship.detect.batching import Batcher

        runs, sizes = self.parallel_runs, self.batches
        return Batcher(
            self.run_waiting,
            threads=runs,
            sizes=sizes,
            waiting=WAITING * runs * sizes[-1],
            model_name=self.model.model_name,
            gathering=self.gathering(),
        )

    def in_runs(self, images: Sequence[PlacedImage]) -> Iterator[list[int]]:
        """Indices of the images in each run: images of one kind, as many as a run takes."""
        groups: dict[Hashable, list[int]] = {}
        for row, image in enumerate(images):
            groups.setdefault(self._kind(image), []).append(row)
        for kind, rows in groups.items():
            size = self._run_size(kind, len(rows))
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def _kind(self, image: PlacedImage) -> Hashable:
        """Images of one kind can run together: those of one canvas size."""
        hw: tuple[int, int] = image.letterbox.input_hw
        return hw

    def _run_size(self, kind: Hashable, images: int) -> int:  # noqa: ARG002 - what an override needs
        """How many images of a kind a run takes if there are so many."""
        return self.max_batch

    def run_all(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Result]:
        """Run the model as often as the images need.

        Args:
            images: Any number, of any sizes.
            options: What to keep.

        Returns:
            One result for each image, in their order.

        Raises:
            YoloshipError: a run failed; the first in the order of the runs, of those that had begun.
        """
        results: dict[int, Result] = {}

        def once(rows: Sequence[int]) -> None:
            found = self.run([images[row] for row in rows], options)
            results.update(zip(rows, found, strict=True))

        self._do_all([partial(once, rows) for rows in self.in_runs(images)])
        return [results[row] for row in range(len(images))]

    def _do_all(self, calls: Sequence[Callable[[], None]]) -> None:
        """Make the calls. The first that fails raises."""
        for call in calls:
            call()

    def hand_over(self, image: PlacedImage) -> PlacedImage:
        """Make an image ready to be run by another thread, which calls its `release` afterwards."""
        return image

    def check_process(self) -> None:
        """Refuse to work in a process that was forked after the model was loaded, if it cannot work there.

        Raises:
            SessionError: it was forked.
        """

    def device_bytes(self) -> int | None:
        """Bytes of the device's memory in use, other processes' included; None on the CPU."""
        return None

    def pinned_frame(self, image_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """(height, width, channels) uint8 memory, not initialised, for an image that reaches the network fastest."""
        return np.empty((*image_hw, self.model.info.channels), np.uint8)
