"""The seam between a `Detector` and what runs its model: `Pipeline`, which the CPU and a GPU fill in."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import numpy as np

from yoloship._util.closing import Closing
from yoloship.errors import InputError
from yoloship.letterbox import Letterbox
from yoloship.tasks import task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from yoloship.detect.options import DetectOptions
    from yoloship.detect.stream import Outcome, Reserve
    from yoloship.images import ChannelOrder
    from yoloship.model import ModelInfo
    from yoloship.results.detections import Detections
    from yoloship.runtime import Session
    from yoloship.runtime.session import DeviceSession
    from yoloship.tasks.task import Form, Task

    Image = npt.NDArray[np.uint8]

ShapeMode: TypeAlias = Literal["square", "rect"]
"""``square``: every image lies on one canvas of a fixed size. ``rect``: the canvas ends at the next multiple of the
stride, which is faster and gives slightly other numbers. It needs a graph of dynamic height and width."""

DEFAULT_SIDE: Final = 640


@dataclass(frozen=True, slots=True)
class ModelInput:
    """How images meet a model.

    Attributes:
        info: What the model is.
        input_hw: (height, width) of the canvas in model pixels; in `rect` mode its limit.
        shape_mode: How an image meets the canvas.
        model_name: For messages.
    """

    info: ModelInfo
    input_hw: tuple[int, int]
    shape_mode: ShapeMode
    model_name: str

    @classmethod
    def checked(
        cls, info: ModelInfo, imgsz: tuple[int, int] | None, shape_mode: ShapeMode, model_name: str
    ) -> ModelInput:
        """Settle the canvas size.

        Args:
            info: What the model is.
            imgsz: (height, width) that is asked for; None takes the graph's own size, else 640×640.
            shape_mode: How an image meets the canvas.
            model_name: For messages.

        Raises:
            InputError: the size or the mode contradicts the graph.
        """
        if shape_mode not in get_args(ShapeMode):
            raise InputError(
                "no such mode", subject="shape_mode", expected=" or ".join(get_args(ShapeMode)), got=repr(shape_mode)
            )
        height, width = info.input_hw
        if shape_mode == "rect" and (height is not None or width is not None):
            raise InputError(
                "rectangular input needs a graph of dynamic height and width",
                subject=model_name,
                got=f"{height or 'dynamic'}×{width or 'dynamic'}",
                hint="export it with '--imgsz dynamic', load the .pt itself, or use the square mode",
            )
        wanted = imgsz or (height or DEFAULT_SIDE, width or DEFAULT_SIDE)
        for have, want in zip(info.input_hw, wanted, strict=True):
            if have is not None and have != want:
                raise InputError(
                    "the graph has a fixed size",
                    subject=model_name,
                    expected=f"{height or 'any'}×{width or 'any'}",
                    got=f"{wanted[0]}×{wanted[1]}",
                    hint="leave the size out, or export the model at that size",
                )
        stride = info.size_multiple
        if any(side < stride or side % stride for side in wanted):
            raise InputError(
                "the size is not a multiple of the model's stride",
                subject="imgsz",
                expected=f"n × {stride}",
                got=f"{wanted[0]}×{wanted[1]}",
            )
        return cls(info, wanted, shape_mode, model_name)

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """Where an image of this size lies on the canvas."""
        if self.shape_mode == "rect":
            return Letterbox.rect(image_hw, self.input_hw, self.info.size_multiple)
        return Letterbox.fixed(image_hw, self.input_hw)


@dataclass(frozen=True, slots=True, eq=False)
class PlacedImage:
    """An image, and where it lies on the model's canvas.

    Attributes:
        pixels: (height, width, channels) uint8, C-contiguous, read only.
        letterbox: Where it lies.
    """

    pixels: Any
    letterbox: Letterbox

    def release(self) -> None:
        """Let go of what `Pipeline.hand_over` took."""


@dataclass(frozen=True, slots=True)
class DetectSteps:
    """What becomes of a source of a stream.

    Attributes:
        channels: The order of the colours of arrays among the sources.
        read: From a source to an image in the host's memory, BGR if it has colours; see `in_order`.
        options: What to keep of each.
        submit: Hands an image with its order of channels over, to be run with whatever waits.
    """

    channels: ChannelOrder
    read: Callable[[object, Reserve], Image]
    options: DetectOptions
    submit: Callable[[object, ChannelOrder], Future[Detections]]


class Pipeline(Closing):
    """Runs one model, from images to detections. It owns its session. Many threads may use it at once.

    Args:
        model: How images meet the model.
        session: What runs the network.
        max_batch: Images of the largest run.
        parallel_runs: Runs that may be under way at once.
    """

    session: Session | DeviceSession

    def __init__(
        self, model: ModelInput, session: Session | DeviceSession, *, max_batch: int, parallel_runs: int
    ) -> None:
        self.model = model
        self.session = session
        self.task: Task[Any, Detections] = task_of(model.info, model.model_name)
        self.form: Form[Any] = self.task.form(model.info.output_form, model.model_name)
        self.max_batch = max_batch
        self.parallel_runs = parallel_runs

    @property
    @abstractmethod
    def batches(self) -> tuple[int, ...]:
        """Images that a run of what was submitted may have, ascending from 1."""

    @property
    def device(self) -> str:
        """Where the network runs: ``cpu`` or ``cuda:N``."""
        return "cpu"

    @abstractmethod
    def place(self, image: object, channels: ChannelOrder) -> PlacedImage:
        """Read an image, and settle where it lies on the canvas.

        Args:
            image: As `Detector.__call__` takes it.
            channels: The order of its colours if it is an array.

        Raises:
            ImageError: it cannot be read.
            InputError: it is not an image that the model takes.
        """

    @abstractmethod
    def run(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Detections]:
        """Run the model once.

        Args:
            images: 1 to `max_batch`, on canvases of one size.
            options: What to keep.

        Returns:
            One result for each image, in their order.
        """

    @abstractmethod
    def run_timed(
        self, images: Sequence[PlacedImage], options: DetectOptions
    ) -> tuple[list[Detections], dict[str, float]]:
        """Do what `run` does, a little slower, and give the milliseconds of each stage, and of all of it, ``total``."""

    @abstractmethod
    def stream(self, sources: Iterable[object], steps: DetectSteps, *, keep_images: bool) -> Iterator[Outcome]:
        """Detect on any number of images.

        Args:
            sources: As `Detector.stream` takes them.
            steps: What becomes of each.
            keep_images: Whether each `Outcome` carries its image.
        """

    @abstractmethod
    def prepare(self, batches: Sequence[int], options: DetectOptions) -> None:
        """Make ready, for every run that may be under way at once, what its first image would wait for.

        Args:
            batches: Images of the runs to make ready for, on the model's own canvas.
            options: What they will keep.
        """

    @abstractmethod
    def network(self, batch: int) -> AbstractContextManager[Callable[[], None]]:
        """A function that runs only the network, for so many images of the model's own canvas, and waits for it."""

    def hand_over(self, image: PlacedImage) -> PlacedImage:
        """Make an image ready to be run by another thread, which releases it afterwards."""
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
        """(height, width, channels) uint8 memory, not initialised, from which an image gets to the network fastest."""
        return np.empty((*image_hw, self.model.info.channels), np.uint8)
