"""A model that takes images and gives detections: `Detector`."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, NoReturn

from yoloship._util.closing import Closing
from yoloship.detect.cpu import CpuPipeline
from yoloship.detect.options import DetectOptions
from yoloship.detect.pipeline import DetectSteps, ModelInput
from yoloship.detect.preprocess import as_image, several_images
from yoloship.errors import InputError, SessionError
from yoloship.images.normalise import checked_order
from yoloship.tasks.recognise import recognise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.detect.batching import Batcher
    from yoloship.detect.pipeline import Pipeline, PlacedImage, ShapeMode
    from yoloship.detect.stream import Outcome
    from yoloship.images import ChannelOrder
    from yoloship.letterbox import Letterbox
    from yoloship.model import ModelInfo
    from yoloship.results.detections import Detections
    from yoloship.runtime import Session
    from yoloship.runtime.session import DeviceSession

    Image = npt.NDArray[np.uint8]
    Source = str | Path | bytes | Image | object


_WAITING = 4
"""Batches that may wait in `submit` for each run that may be under way."""
_KNOWN_OPTIONS = 64


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Where the time went, on the way from images in memory to detections.

    Attributes:
        stages_ms: Milliseconds of each stage, in order. On the CPU: letterbox, network, decode, suppress. On a GPU:
            stage (describing frames and copying them to pinned memory, on the host), upload (until the last byte has
            arrived; it overlaps with stage), letterbox, network, postprocess, read (making `Detections`, on the host).
        total_ms: Milliseconds of the whole, by the host's clock.
    """

    stages_ms: dict[str, float]
    total_ms: float


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a detector does unless a call says otherwise.

    Attributes:
        options: What to keep; None takes what fits the model.
        changes: Single options in place of those.
        channels: The order of the colours of arrays.

    Raises:
        InputError: the order is neither ``bgr`` nor ``rgb``.
    """

    options: DetectOptions | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    channels: ChannelOrder = "bgr"

    def __post_init__(self) -> None:
        DetectOptions.checked(self.options)
        checked_order(self.channels)


class Detector(Closing):
    """Finds objects in images. It owns what runs its model: use it as a context manager, or close it.

    It is the same class on a CPU and on an NVIDIA GPU; `yoloship.load` makes either. Many threads may call it at once.

    Args:
        session: Runs the network; closed with the detector. The CPU does everything else.
        info: What the model is; None reads it from the session.
        options: What to keep, unless a call says otherwise.
        imgsz: (height, width) of the canvas, in `rect` mode its limit; None takes the graph's own size, else 640×640.
        shape_mode: How an image meets the canvas.
        channels: The order of the colours of arrays, unless a call says otherwise.
        parallel_runs: How many runs of the session are kept under way at once; None takes as many as it wants.
        model_name: For messages.

    Raises:
        InputError: the size or the mode contradicts the graph, or an option the classes.
        SessionError: the model is of no form known here.
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
        found = recognise(session, model_name, canvas_hw=imgsz) if info is None else info
        model = ModelInput.checked(found, imgsz, shape_mode, model_name)
        self._begin(CpuPipeline(session, model, parallel_runs=parallel_runs), Defaults(options, channels=channels))

    @classmethod
    def over(cls, pipeline: Pipeline, defaults: Defaults | None = None) -> Self:
        """Make a detector of a pipeline, which it owns from then on.

        Args:
            pipeline: Runs the model. If this raises, it is still the caller's.
            defaults: What to do unless a call says otherwise.

        Raises:
            InputError: an option contradicts the model.
        """
        made = cls.__new__(cls)
        made._begin(pipeline, defaults or Defaults())
        return made

    def _begin(self, pipeline: Pipeline, defaults: Defaults) -> None:
        self._pipeline = pipeline
        self._model = pipeline.model
        self._known: dict[DetectOptions, DetectOptions] = {}
        options = defaults.options or DetectOptions.of(pipeline.model.info.nms)
        self._options = self._accepted(replace(options, **defaults.changes))
        self._channels = defaults.channels
        self._batcher: Batcher | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._model.info

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by class id."""
        return self._model.info.class_names

    @property
    def model_name(self) -> str:
        """What the model is called in messages: its file's name."""
        return self._model.model_name

    @property
    def device(self) -> str:
        """Where the network runs: ``cpu`` or ``cuda:N``."""
        return self._pipeline.device

    @property
    def options(self) -> DetectOptions:
        """What is kept unless a call says otherwise."""
        return self._options

    @property
    def shape_mode(self) -> ShapeMode:
        """How an image meets the canvas."""
        return self._model.shape_mode

    @property
    def input_hw(self) -> tuple[int, int]:
        """(height, width) of the canvas in model pixels; in `rect` mode its limit."""
        return self._model.input_hw

    @property
    def max_batch(self) -> int:
        """Images of the largest run."""
        return self._pipeline.max_batch

    @property
    def session(self) -> Session | DeviceSession:
        """What runs the network."""
        return self._pipeline.session

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """Where an image of this size lies on the model's canvas."""
        return self._model.letterbox(image_hw)

    def __call__(
        self,
        image: Source,
        *,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
    ) -> Detections:
        """Find the objects of one image.

        Args:
            image: A file's name, its bytes (also a bytearray or memoryview), a file that is open for reading bytes, a
                PIL image, or an array, a CPU tensor of torch, or whatever else has `__array__`: (height, width, 3)
                uint8 BGR, or another form that `yoloship.images.as_bgr` takes. On a GPU also an array on the detector's
                device with `__dlpack__` or `__cuda_array_interface__`, such as a torch tensor. Read only.
            options: In place of the detector's own.
            score_threshold: In place of that option alone; in [0, 1].
            iou_threshold: In place of that option alone; in [0, 1].
            classes: In place of that option alone: class ids or names to keep. None keeps those of the detector.
            channels: The order of an array's colours; None takes the detector's. Files, PIL's and nvImageCodec's images
                state their own, which counts.

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
        return self._pipeline.run((self._pipeline.place(image, order),), chosen)[0]

    def detect_batch(
        self,
        images: Iterable[Source],
        *,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
    ) -> list[Detections]:
        """Find the objects of several images of any sizes, in as few runs as the network takes.

        All of them are held in memory at once: for more than a few use `stream`.

        Args:
            images: As `__call__` takes them.
            options: In place of the detector's own.
            score_threshold: In place of that option alone; in [0, 1].
            iou_threshold: In place of that option alone; in [0, 1].
            classes: In place of that option alone: class ids or names to keep. None keeps those of the detector.
            channels: The order of an array's colours; None takes the detector's. Files, PIL's and nvImageCodec's images
                state their own, which counts.

        Returns:
            One result for each image, in their order.

        Raises:
            YoloshipError: as `__call__`.
        """
        chosen, order = self._chosen(options, score_threshold, iou_threshold, classes, channels)
        placed = [self._pipeline.place(image, order) for image in several_images(images, self.info.channels)]
        results: dict[int, Detections] = {}
        for rows in self._runs(placed):
            found = self._pipeline.run([placed[row] for row in rows], chosen)
            results.update(zip(rows, found, strict=True))
        return [results[row] for row in range(len(placed))]

    def submit(
        self,
        image: Source,
        *,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
    ) -> Future[Detections]:
        """Hand an image over and go on; what waits together may run together.

        It blocks while many images wait already.

        Args:
            image: As `__call__` takes it; an array must not change until the result is there.
            options: In place of the detector's own.
            score_threshold: In place of that option alone; in [0, 1].
            iou_threshold: In place of that option alone; in [0, 1].
            classes: In place of that option alone: class ids or names to keep. None keeps those of the detector.
            channels: The order of an array's colours; None takes the detector's. Files, PIL's and nvImageCodec's images
                state their own, which counts.

        Returns:
            A future of what `__call__` returns, or raises when the model runs.

        Raises:
            ImageError: the image cannot be read.
            InputError: it is not an image that the model takes, or an option names a class that the model does not
                have.
            SessionError: the detector is closed.
        """
        chosen, order = self._chosen(options, score_threshold, iou_threshold, classes, channels)
        return self._submit(image, order, options=chosen)

    def stream(  # noqa: PLR0913 - all but the sources have defaults
        self,
        sources: Iterable[Source],
        *,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
        keep_images: bool = False,
    ) -> Iterator[Outcome]:
        """Find the objects of any number of images, reading ahead while the model runs.

        A bounded number of images is held at once, however many there are. An image that fails takes its place in the
        order as an error and does not stop the rest. Leave early by closing the generator (a `break` and dropping it
        does): what is under way ends, nothing new begins.

        Args:
            sources: As `__call__` takes them; a lazy iterable is drawn from as the results are consumed.
            options: In place of the detector's own.
            score_threshold: In place of that option alone; in [0, 1].
            iou_threshold: In place of that option alone; in [0, 1].
            classes: In place of that option alone: class ids or names to keep. None keeps those of the detector.
            channels: The order of an array's colours; None takes the detector's. Files, PIL's and nvImageCodec's images
                state their own, which counts.
            keep_images: Whether each `Outcome` carries its image, for drawing.

        Yields:
            One `Outcome` for each source, in their order.

        Raises:
            InputError: an option names a class that the model does not have.
            SessionError: the detector is closed.
        """
        chosen, order = self._chosen(options, score_threshold, iou_threshold, classes, channels)
        read = partial(as_image, count=self._model.info.channels, channels=order)
        steps = DetectSteps(order, read, chosen, partial(self._submit, options=chosen))
        several_images(sources, self.info.channels)
        self._pipeline.check_process()
        return self._pipeline.stream(sources, steps, keep_images=keep_images)

    def prepare(self, batches: Sequence[int] | None = None) -> None:
        """Make everything ready now that the first images would wait for.

        Args:
            batches: Images of the runs to make ready for, on the detector's own canvas; None takes those that `submit`
                makes.

        Raises:
            InputError: a batch is below 1, or the network does not take it.
            SessionError: the network is refused, or the detector is closed.
            CudaError: the GPU failed or is out of memory.
        """
        chosen, _ = self._chosen()
        sizes = self._pipeline.batches if batches is None else _whole_numbers(batches, "batches")
        self._pipeline.prepare(sizes, chosen)

    def pinned_frame(self, image_hw: tuple[int, int]) -> Image:
        """Memory from which an image gets to the network fastest: fill it, detect on it, fill it again.

        Args:
            image_hw: (height, width) in pixels.

        Returns:
            (height, width, channels) uint8, not initialised; pinned for a GPU, ordinary memory on the CPU. The caller
            owns it; it may outlive the detector.

        Raises:
            InputError: it is not a size.
            CudaError: that much cannot be pinned.
        """
        height, width = _whole_numbers(image_hw, "image_hw", count=2)
        return self._pipeline.pinned_frame((height, width))

    def profile(self, images: Sequence[Source]) -> StageTimes:
        """Do what `detect_batch` does, a little slower, and say where the time went.

        Args:
            images: As `__call__` takes them.

        Raises:
            InputError: there are none.
            YoloshipError: as `__call__`.
        """
        chosen, order = self._chosen()
        placed = [self._pipeline.place(image, order) for image in several_images(images, self.info.channels)]
        if not placed:
            raise InputError("no images to time", expected="at least one")
        stages_ms: dict[str, float] = {}
        total_ms = 0.0
        for rows in self._runs(placed):
            _, times = self._pipeline.run_timed([placed[row] for row in rows], chosen)
            total_ms += times.pop("total")
            for stage, spent in times.items():
                stages_ms[stage] = stages_ms.get(stage, 0.0) + spent
        return StageTimes(stages_ms, total_ms)

    @contextmanager
    def network(self, images: int = 1) -> Iterator[Callable[[], None]]:
        """The network alone, to measure against.

        Args:
            images: How many go through it, in as few runs as `detect_batch` needs for images of one size.

        Yields:
            A function that runs it on anything, and waits for it.
        """
        size = min(images, self.max_batch)
        with self._pipeline.network(size) as once:

            def run() -> None:
                for _ in range(-(-images // size)):
                    once()

            yield run

    def device_bytes(self) -> int | None:
        """Bytes of the GPU's memory in use, other processes' included; None on the CPU."""
        return self._pipeline.device_bytes()

    def close(self) -> None:
        """Finish what is under way, refuse the rest, and give everything back. Closing twice is not an error."""
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

    def _runs(self, placed: Sequence[PlacedImage]) -> Iterator[list[int]]:
        """Which images go through the network together: those of one canvas size, as many as a run takes."""
        groups: dict[tuple[int, int], list[int]] = {}
        for row, image in enumerate(placed):
            groups.setdefault(image.letterbox.input_hw, []).append(row)
        size = self.max_batch
        for rows in groups.values():
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def _submit(self, image: object, channels: ChannelOrder, *, options: DetectOptions) -> Future[Detections]:
        """Let another thread run it."""
        placed, batcher = self._pipeline.place(image, channels), self._batches()
        handed = self._pipeline.hand_over(placed)
        try:
            future = batcher.submit(handed, options)
        except BaseException:
            handed.release()
            raise
        if handed is not placed:  # a callback stays with its future, and so does all that it knows
            future.add_done_callback(lambda _: handed.release())
        return future

    def _batches(self) -> Batcher:
        """The threads behind `submit`: started when first needed, and not once the detector is closed."""
        self._pipeline.check_process()
        with self._lock:
            if self._closed:
                raise self._closed_error()
            if self._batcher is None:
                from yoloship.detect.batching import Batcher

                pipeline, sizes = self._pipeline, self._pipeline.batches
                self._batcher = Batcher(
                    pipeline.run,
                    threads=pipeline.parallel_runs,
                    sizes=sizes,
                    waiting=_WAITING * pipeline.parallel_runs * sizes[-1],
                    model_name=self.model_name,
                )
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
        """What a call keeps, and the order of its arrays' colours; refused once the detector is closed."""
        if self._closed:
            raise self._closed_error()
        order = self._channels if channels is None else checked_order(channels)
        if score_threshold is None and iou_threshold is None and classes is None:
            return self._options if options is None else self._accepted(options), order
        changes = DetectOptions.changes(
            options, score_threshold=score_threshold, iou_threshold=iou_threshold, classes=classes
        )
        return self._accepted(replace(self._options, **changes)), order

    def _accepted(self, options: Any) -> DetectOptions:
        """Options that the model can serve; a few that passed are remembered."""
        chosen = DetectOptions.checked(options)
        assert chosen is not None
        known = self._known.get(chosen)
        if known is not None:
            return known
        info = self._model.info
        if info.nms is not None:
            chosen.check_against(info.nms, self.model_name)
        chosen.class_ids(info.class_names)  # refuses a class that the model does not have
        if len(self._known) >= _KNOWN_OPTIONS:
            self._known.clear()
        self._known[chosen] = chosen
        return chosen


def _whole_numbers(values: Any, subject: str, count: int | None = None) -> tuple[int, ...]:
    """Numbers of 1 or more, as many as `count` says.

    Raises:
        InputError: they are something else.
    """
    numbers: tuple[Any, ...] = tuple(values) if isinstance(values, Iterable) else ()
    are_right = all(not isinstance(one, bool) and isinstance(one, Integral) and int(one) >= 1 for one in numbers)
    if not are_right or not numbers or (count is not None and len(numbers) != count):
        expected = f"{'' if count is None else f'{count} '}whole numbers of 1 or more"
        raise InputError("out of range", subject=subject, expected=expected, got=repr(values)[:60])
    return tuple(int(one) for one in numbers)
