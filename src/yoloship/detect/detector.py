"""The detector, which finds objects in images: `Detector`.

This file is long because each of its four calls documents its own keywords: users read them where they call.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Generic, NoReturn, cast

from yoloship._util.closing import Closing
from yoloship.detect.call_options import CallOptions
from yoloship.detect.cpu import CpuPipeline
from yoloship.detect.options import DetectOptions, whole_numbers
from yoloship.detect.pipeline import DetectSteps, ModelInput
from yoloship.detect.preprocess import as_image, several_images
from yoloship.detect.stream import of_name
from yoloship.errors import InputError, SessionError
from yoloship.images.normalise import checked_order
from yoloship.results import ResultT
from yoloship.tasks import info_of, refuse_other_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self, Unpack

    from yoloship.detect.async_stream import StreamArguments
    from yoloship.detect.batching import Answer, Batcher, Submitting
    from yoloship.detect.pipeline import Decoding, Pipeline, Placement, ShapeMode
    from yoloship.detect.stream import Outcome, Reserve
    from yoloship.images import ChannelOrder, ImageFile
    from yoloship.letterbox import Letterbox
    from yoloship.model import ModelInfo
    from yoloship.runtime import Session
    from yoloship.runtime.session import DeviceSession
    from yoloship.sources.source import Source as Videos

    Image = npt.NDArray[np.uint8]
    Source = str | Path | bytes | Image | object


@dataclass(frozen=True, slots=True)
class StageTimes:
    """The time of each stage from images in memory to detections.

    Attributes:
        stages_ms: Milliseconds of each stage, in order. On the CPU: letterbox, network, decode, suppress, or what the
            task calls them (`yoloship.tasks.task.Task.stages`). On a GPU: stage (describing frames and copying them to
            pinned memory, on the host), upload (until the last byte has arrived; it overlaps with stage), letterbox,
            network, postprocess, read (making `Detections`, on the host).
        total_ms: Milliseconds of all stages together, by the host's clock.
    """

    stages_ms: dict[str, float]
    total_ms: float


@dataclass(frozen=True, slots=True)
class Defaults:
    """Options of a detector that a call can override.

    Attributes:
        options: Which detections to keep; None takes the defaults for the model.
        changes: Values that replace single options.
        channels: The colour order of arrays.
        task: The task that the model must have; None takes any.
    """

    options: DetectOptions | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    channels: ChannelOrder = "bgr"
    task: str | None = None


class Detector(Closing, Generic[ResultT]):
    """Runs a model on images. Use it as a context manager or close it, because it owns the runtime of its model.

    The class is the same for a CPU and for NVIDIA GPUs; `yoloship.load` makes both. Many threads can call it at once.

    Args:
        session: Runs the network; closed with the detector. The CPU does everything else.
        info: The model's description; None reads it from the session.
        options: Which detections to keep, unless a call gives other options.
        imgsz: (height, width) of the canvas, in `rect` mode its limit; None takes the graph's own size, else 640×640.
        shape_mode: How images are padded, ``square`` or ``rect``.
        channels: The colour order of arrays, unless a call gives another.
        parallel_runs: Runs of the session at the same time; None takes as many as the session recommends.
        model_name: The model's name, for messages.

    Raises:
        InputError: the size or the mode does not fit the graph, or an option does not fit the classes.
        SessionError: the model has an unknown form.
    """

    def __init__(  # noqa: PLR0913 - all but the session have defaults
        self,
        session: Session,
        info: ModelInfo | None = None,
        *,
        options: DetectOptions | None = None,
        imgsz: tuple[int, int] | None = None,
        shape_mode: ShapeMode = "square",
        channels: ChannelOrder = "bgr",
        parallel_runs: int | None = None,
        model_name: str = "model",
    ) -> None:
        defaults = Defaults(options, DetectOptions.changes(options), checked_order(channels))
        found = info_of(session, model_name, canvas_hw=imgsz) if info is None else info
        model = ModelInput.checked(found, imgsz, shape_mode, model_name)
        self._begin(CpuPipeline(session, model, parallel_runs=parallel_runs), defaults)

    @classmethod
    def over(cls, pipeline: Pipeline, defaults: Defaults | None = None) -> Self:
        """Make a detector that owns a pipeline.

        Args:
            pipeline: Runs the model. If this method raises, the caller still owns it.
            defaults: Options that a call can override.

        Raises:
            InputError: an option contradicts the model.
        """
        made = cls.__new__(cls)
        made._begin(pipeline, defaults or Defaults())
        return made

    def _begin(self, pipeline: Pipeline, defaults: Defaults) -> None:
        self._pipeline = pipeline
        self._model = pipeline.model
        if defaults.task is not None and defaults.task != pipeline.model.info.task:
            refuse_other_task(pipeline.task, defaults.task, pipeline.model.model_name)
        self._channels = defaults.channels
        self._batcher: Batcher | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._call_options = CallOptions(pipeline, defaults.options, defaults.changes)
        self._options = self._call_options.default

    @property
    def info(self) -> ModelInfo:
        """The model's description."""
        return self._model.info

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by class id."""
        return self._model.info.class_names

    @property
    def model_name(self) -> str:
        """The model's name in messages: the name of its file."""
        return self._model.model_name

    @property
    def device(self) -> str:
        """Where the network runs: ``cpu``, ``cuda:N``, or several GPUs: ``cuda:0,cuda:1``."""
        return self._pipeline.device

    @property
    def decoding(self) -> Decoding:
        """What decodes image files, and why. This opens the GPU's decoder if nothing has needed it yet."""
        return self._pipeline.decoding

    @property
    def video_decoding(self) -> str:
        """Who decodes videos, and why: ``NVDEC on cuda:0 (PyAV 19.0.2; …)``, before it was tried, or ``cpu …``."""
        return self._pipeline.video_decoding

    @property
    def options(self) -> DetectOptions:
        """Which detections are kept, unless a call gives other options."""
        return self._options

    @property
    def channels(self) -> ChannelOrder:
        """The colour order of arrays, unless a call gives another."""
        return self._channels

    @property
    def shape_mode(self) -> ShapeMode:
        """How images are padded: ``square`` or ``rect``."""
        return self._model.shape_mode

    @property
    def input_hw(self) -> tuple[int, int]:
        """(height, width) of the canvas in model pixels; in `rect` mode its limit."""
        return self._model.input_hw

    @property
    def max_batch(self) -> int:
        """The largest number of images in a run."""
        return self._pipeline.max_batch

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes used for submitted images, ascending from 1."""
        return self._pipeline.batches

    @property
    def parallel_runs(self) -> int:
        """How many runs are possible at the same time."""
        return self._pipeline.parallel_runs

    @property
    def session(self) -> Session | DeviceSession:
        """The session that runs the network."""
        return self._pipeline.session

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """How an image of this size is placed on the model's canvas.

        Raises:
            InputError: it is a classification model, which gets a crop.
        """
        if self.info.transform is not None:
            raise InputError("uses a crop, not a letterbox", subject=self.model_name, hint="use placement()")
        return self._model.letterbox(image_hw)

    def placement(self, image_hw: tuple[int, int]) -> Placement:
        """How an image of this size is placed on the model's canvas: a letterbox, or a crop for classification."""
        return self._model.placement(image_hw)

    def __call__(
        self,
        image: Source,
        *,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
    ) -> ResultT:
        """Find the objects of one image.

        Args:
            image: A file's name, its bytes (also a bytearray or memoryview), a file that is open for reading bytes, a
                PIL image, or an array, a CPU tensor of torch, or whatever else has `__array__`: (height, width, 3)
                uint8 BGR, or another form that `yoloship.images.as_bgr` takes. On a GPU also an array on the detector's
                device with `__dlpack__` or `__cuda_array_interface__`, such as a torch tensor. Read only.
            options: Which detections to keep; None takes the options of the detector.
            score_threshold: Drop boxes whose score is not above this, in [0, 1]; None takes it from the options.
            iou_threshold: Drop a box whose IoU with a better box of its class is above this, in [0, 1]; None takes it
                from the options.
            classes: Keep only these classes, by id or name; None takes them from the options.
            channels: The colour order of arrays; None takes the detector's. Files, Pillow images and
                nvImageCodec images state their own order, which is then used.

        Returns:
            Boxes in source pixels, clipped to the image, best first.

        Raises:
            ImageError: the image cannot be read.
            InputError: it is not an image that the model takes, or an option names a class that the model does not
                have.
            SessionError: the runtime failed, or the detector is closed.
            CudaError: the GPU failed or is out of memory.
        """
        chosen, order = self._chosen(options, score_threshold, iou_threshold, classes, channels)
        return cast("ResultT", self._pipeline.detect(image, order, chosen))

    def detect_batch(
        self,
        images: Iterable[Source],
        *,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
    ) -> list[ResultT]:
        """Find the objects of several images of any sizes, in as few runs as the network takes.

        All of them are held in memory at once: for more than a few, use `stream`.

        Args:
            images: Paths, bytes of image files, open files, Pillow images or arrays, anything that a call accepts.
            options: Which detections to keep; None takes the options of the detector.
            score_threshold: Drop boxes whose score is not above this, in [0, 1]; None takes it from the options.
            iou_threshold: Drop a box whose IoU with a better box of its class is above this, in [0, 1]; None takes it
                from the options.
            classes: Keep only these classes, by id or name; None takes them from the options.
            channels: The colour order of arrays; None takes the detector's. Files, Pillow images and
                nvImageCodec images state their own order, which is then used.

        Returns:
            One result for each image, in their order.

        Raises:
            YoloshipError: an image, an option or a run failed, with the class of error that a call raises.
        """
        chosen, order = self._chosen(options, score_threshold, iou_threshold, classes, channels)
        placed = self._pipeline.place_all(several_images(images, self.info.channels), order)
        return cast("list[ResultT]", self._pipeline.run_all(placed, chosen))

    def submit(
        self,
        image: Source,
        *,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
    ) -> Future[ResultT]:
        """Queue an image and return at once; images that wait at the same time may run as one batch.

        It blocks while many images are already waiting.

        Args:
            image: A path, bytes of an image file, an open file, a Pillow image or an array, anything that a call
                accepts. An array must not change until the result is available.
            options: Which detections to keep; None takes the options of the detector.
            score_threshold: Drop boxes whose score is not above this, in [0, 1]; None takes it from the options.
            iou_threshold: Drop a box whose IoU with a better box of its class is above this, in [0, 1]; None takes it
                from the options.
            classes: Keep only these classes, by id or name; None takes them from the options.
            channels: The colour order of arrays; None takes the detector's. Files, Pillow images and
                nvImageCodec images state their own order, which is then used.

        Returns:
            A future with the result. It raises any error from running the model, or from decoding a file on the GPU.

        Raises:
            ImageError: the image cannot be read.
            InputError: it is not an image that the model takes, or an option names a class that the model does not
                have.
            SessionError: the detector is closed.
        """
        chosen, order = self._chosen(options, score_threshold, iou_threshold, classes, channels)
        return self._submitting(chosen).one(image, order)

    def opened(self, file: ImageFile, reserve: Reserve | None = None) -> object:
        """Decode an image file for `submit`, unless the GPU decodes it then; `ImageError` if it is damaged."""
        return self._pipeline.opened(file, "bgr", reserve)[0]

    def submit_opened(self, images: Sequence[tuple[object, Answer]], options: DetectOptions | None = None) -> None:
        """Queue what `opened` gave, at once; what is with each image gets its result, or whatever fails."""
        chosen, _ = self._chosen(options)
        self._submitting(chosen).all([(image, "bgr", answer) for image, answer in images])

    def stream(  # noqa: PLR0913 - all but the sources have defaults
        self,
        sources: Iterable[Source] | str | PathLike[str],
        *,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
        keep_images: bool = False,
    ) -> Iterator[Outcome[ResultT]]:
        """Find the objects of any number of images, reading ahead while the model runs.

        Only a limited number of images is in memory at once, however many there are. An image that fails gives an
        outcome with an error in its place, and the stream continues. To stop early, close the generator; a `break` that
        drops it does so too. Images already started are finished, and no new ones are started.

        Args:
            sources: Paths, bytes of image files, open files, Pillow images or arrays, anything that a call accepts, or
                frames of a source (`yoloship.sources.open_source`). An iterator is read as the results are consumed. A
                single name is opened as on the command line: a folder, a pattern, a video, a camera, an address.
            options: Which detections to keep; None takes the options of the detector.
            score_threshold: Drop boxes whose score is not above this, in [0, 1]; None takes it from the options.
            iou_threshold: Drop a box whose IoU with a better box of its class is above this, in [0, 1]; None takes it
                from the options.
            classes: Keep only these classes, by id or name; None takes them from the options.
            channels: The colour order of arrays; None takes the detector's. Files, Pillow images and
                nvImageCodec images state their own order, which is then used.
            keep_images: Whether each `Outcome` contains its image, for drawing.

        Yields:
            One `Outcome` for each source, in their order.

        Raises:
            InputError: an option names a class that the model does not have.
            SessionError: the detector is closed.
        """
        chosen, order = self._chosen(options, score_threshold, iou_threshold, classes, channels)
        read = partial(as_image, count=self._model.info.channels, channels=order)
        steps = DetectSteps(order, read, chosen, lambda: self._submitting(chosen).all)
        stream = partial(self._pipeline.stream, steps=steps, keep_images=keep_images)
        if isinstance(sources, str | PathLike):
            return of_name(sources, stream)
        return stream(several_images(sources, self.info.channels))

    def astream(
        self, sources: Iterable[Source] | str | PathLike[str], **how: Unpack[StreamArguments]
    ) -> AsyncIterator[Outcome[ResultT]]:
        """Like `stream`, for ``async for``. Another thread reads the sources; other tasks run meanwhile.

        Args:
            sources: As for `stream`.
            how: The other arguments of `stream`.

        Raises:
            InputError: an option names a class that the model does not have.
            SessionError: the detector is closed.
        """
        from yoloship.detect.async_stream import asynchronously

        return asynchronously(cast("Generator[Outcome[ResultT], None, None]", self.stream(sources, **how)))

    def lend_decoder(self, source: Videos) -> None:
        """Let a source decode its videos on this detector's GPU, if it has one. `stream` lends to what it is given."""
        self._pipeline.lend_decoder(source)

    def prepare(self, batches: Sequence[int] | None = None) -> None:
        """Prepare everything now that the first images would otherwise wait for.

        Args:
            batches: Batch sizes to prepare for, on the detector's own canvas; None takes the batch sizes of `submit`.

        Raises:
            InputError: a batch is below 1, or the network does not take it.
            SessionError: the network is refused, or the detector is closed.
            CudaError: the GPU failed or is out of memory.
        """
        chosen, _ = self._chosen()
        sizes = self._pipeline.batches if batches is None else whole_numbers(batches, "batches")
        self._pipeline.prepare(sizes, chosen)

    def pinned_frame(self, image_hw: tuple[int, int]) -> Image:
        """Allocate an image in the memory from which frames reach the network fastest.

        Fill it, run the model on it, and fill it again.

        Args:
            image_hw: (height, width) in pixels.

        Returns:
            (height, width, channels) uint8, not initialised; pinned for a GPU, ordinary memory on the CPU. The caller
            owns it; it may outlive the detector.

        Raises:
            InputError: it is not a size.
            CudaError: this amount of memory cannot be pinned.
        """
        height, width = whole_numbers(image_hw, "image_hw", count=2)
        return self._pipeline.pinned_frame((height, width))

    def profile(self, images: Sequence[Source]) -> StageTimes:
        """Like `detect_batch`, a little slower, but measure the time of each stage.

        Args:
            images: Paths, bytes of image files, open files, Pillow images or arrays, anything that a call accepts.

        Raises:
            InputError: there are none.
            YoloshipError: an image, an option or a run failed, with the class of error that a call raises.
        """
        chosen, order = self._chosen()
        placed = self._pipeline.place_all(several_images(images, self.info.channels), order)
        if not placed:
            raise InputError("no images to time", expected="at least one")
        stages_ms: dict[str, float] = {}
        total_ms = 0.0
        for rows in self._pipeline.in_runs(placed):
            _, times = self._pipeline.run_timed([placed[row] for row in rows], chosen)
            total_ms += times.pop("total")
            for stage, spent in times.items():
                stages_ms[stage] = stages_ms.get(stage, 0.0) + spent
        return StageTimes(stages_ms, total_ms)

    @contextmanager
    def network(self, images: int = 1) -> Iterator[Callable[[], None]]:
        """The network alone, to measure against.

        Args:
            images: Number of images, in as few runs as `detect_batch` needs for images of one size.

        Yields:
            A function that runs the network on arbitrary input and waits for it.
        """
        size = min(images, self.max_batch)
        with self._pipeline.network(size) as once:

            def run() -> None:
                for _ in range(-(-images // size)):
                    once()

            yield run

    def device_bytes(self) -> int | None:
        """Bytes of GPU memory in use, including other processes; None on the CPU."""
        return self._pipeline.device_bytes()

    def close(self) -> None:
        """Finish the runs in progress, refuse new ones, and release everything. It may be called twice."""
        with self._lock:
            self._closed, batcher = True, self._batcher
        if batcher is not None:
            batcher.close()
        self._pipeline.close()

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied, pickled or sent to another process: what runs the model cannot be.

        Raises:
            InputError: always.
        """
        raise InputError(
            "a detector cannot be copied or pickled", subject=self.model_name, hint="load the model in each process"
        )

    def __repr__(self) -> str:
        height, width = self.input_hw
        return f"Detector({len(self.class_names)} classes, {height}×{width} {self.shape_mode}, {self.session.name})"

    def _submitting(self, options: DetectOptions) -> Submitting:
        """The way of images to the threads of `submit`, which are started with the first."""
        from yoloship.detect.batching import Submitting

        return Submitting(self._pipeline, self._batches, options)

    def _batches(self) -> Batcher:
        """The threads of `submit`; started when first needed, unless the detector is closed."""
        self._pipeline.check_process()
        with self._lock:
            if self._closed:
                raise self._closed_error()
            if self._batcher is None:
                self._batcher = self._pipeline.batcher()
                weakref.finalize(self, self._batcher.abandon).atexit = False  # its threads keep the model otherwise
            return self._batcher

    def _closed_error(self) -> SessionError:
        return SessionError("the detector is closed", subject=self.model_name)

    def _chosen(
        self,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
    ) -> tuple[DetectOptions, ChannelOrder]:
        """The options and the colour order of a call; it raises if the detector is closed."""
        if self._closed:
            raise self._closed_error()
        order = self._channels if channels is None else checked_order(channels)
        if options is None and score_threshold is None and iou_threshold is None and classes is None:
            return self._options, order
        changes = DetectOptions.changes(
            options, score_threshold=score_threshold, iou_threshold=iou_threshold, classes=classes
        )
        return self._call_options.chosen(options, changes), order
