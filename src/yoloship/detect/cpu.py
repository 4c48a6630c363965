"""The pipeline whose every step around the network is done by the CPU: `CpuPipeline`."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.detect.pipeline import ModelInput, Pipeline, PlacedImage
from yoloship.detect.preprocess import as_image, letterbox_batch, to_input
from yoloship.detect.stream import in_order
from yoloship.errors import InputError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from yoloship.detect.options import DetectOptions
    from yoloship.detect.pipeline import DetectSteps
    from yoloship.detect.stream import Outcome
    from yoloship.images import ChannelOrder
    from yoloship.results.detections import Detections
    from yoloship.runtime import Session

    Image = npt.NDArray[np.uint8]

MAX_BATCH: Final = 16
"""Images of a run if the graph's batch is dynamic: bounds the memory, and on a CPU larger batches are not faster."""
_PADDING: Final = 114


class CpuPipeline(Pipeline):
    """Letterbox, decoding and suppression in NumPy and OpenCV, around any `Session`.

    Args:
        session: What runs the network; closed with the pipeline.
        model: How images meet it.
        parallel_runs: Runs of the session that are kept under way at once; None takes as many as the session wants.
        max_batch: Images of the largest run, if the graph's batch is dynamic.
        device: Where the network runs.

    Raises:
        InputError: `parallel_runs` is below 1.
    """

    def __init__(
        self,
        session: Session,
        model: ModelInput,
        *,
        parallel_runs: int | None = None,
        max_batch: int = MAX_BATCH,
        device: str = "cpu",
    ) -> None:
        parallel_runs = session.concurrent_runs if parallel_runs is None else parallel_runs
        if parallel_runs < 1:
            raise InputError("too few runs", subject="parallel_runs", expected="1 or more", got=str(parallel_runs))
        fixed = model.info.batch
        super().__init__(model, max_batch=fixed or max_batch, parallel_runs=parallel_runs)
        self._session = session
        self._device = device
        self._spare: deque[Image] = deque(maxlen=4)
        self._lock = threading.Lock()
        self._runs = 0
        self._closed = False

    @property
    def session(self) -> Session:
        """What runs the network."""
        return self._session

    @property
    def device(self) -> str:
        """Where the network runs: ``cpu`` or ``cuda:N``."""
        return self._device

    @property
    def batches(self) -> tuple[int, ...]:
        """Images that a run of what was submitted may have: on a CPU one, unless the graph wants more."""
        from yoloship.detect.batching import run_sizes

        fixed = self.model.info.batch
        return run_sizes(fixed, fixed or (1 if self._device == "cpu" else self.max_batch))

    def place(self, image: object, channels: ChannelOrder) -> PlacedImage:
        """Read an image, and settle where it lies on the canvas.

        Args:
            image: As `Detector.__call__` takes it.
            channels: The order of its colours if it is an array.

        Raises:
            ImageError: it cannot be read.
            InputError: it is not an image that the model takes.
        """
        pixels = as_image(image, count=self.model.info.channels, channels=channels)
        return PlacedImage(pixels, self.model.letterbox(pixels.shape[:2]))

    def run(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Detections]:
        """Run the model once.

        Args:
            images: 1 to `max_batch`, on canvases of one size.
            options: What to keep.

        Returns:
            One result for each image, in their order.

        Raises:
            SessionError: the runtime failed, or answers in another form than the model's record says.
        """
        with self._under_way(), self._fed(images) as feeds:
            outputs = self._session.run(feeds)
        return self._finished(self._decoded(outputs, images, options), images, options)

    def run_timed(
        self, images: Sequence[PlacedImage], options: DetectOptions
    ) -> tuple[list[Detections], dict[str, float]]:
        """Do what `run` does, and give the milliseconds of each stage, and of all of it, ``total``."""
        marks = [time.perf_counter()]
        with self._under_way(), self._fed(images) as feeds:
            marks.append(time.perf_counter())
            outputs = self._session.run(feeds)
            marks.append(time.perf_counter())
        candidates = self._decoded(outputs, images, options)
        marks.append(time.perf_counter())
        found = self._finished(candidates, images, options)
        marks.append(time.perf_counter())
        stages = ("letterbox", "network", "decode", "suppress")
        times = {stage: (end - start) * 1e3 for stage, start, end in zip(stages, marks, marks[1:], strict=False)}
        return found, {**times, "total": (marks[-1] - marks[0]) * 1e3}

    def stream(self, sources: Iterable[object], steps: DetectSteps, *, keep_images: bool) -> Iterator[Outcome]:
        """Detect on any number of images, each in a run of its own, by the threads that read them.

        Args:
            sources: As `Detector.stream` takes them.
            steps: What becomes of each.
            keep_images: Whether each `Outcome` carries its image.
        """
        return in_order(sources, steps.read, steps.detect, parallel_runs=self.parallel_runs, keep_images=keep_images)

    def prepare(self, batches: Sequence[int], options: DetectOptions) -> None:
        """Run grey images as often as runs may be under way at once: the first run lays memory out.

        Args:
            batches: Images of the runs to make ready for, on the model's own canvas.
            options: What they will keep.
        """
        from concurrent.futures import ThreadPoolExecutor

        pixels = np.full((*self.model.input_hw, self.model.info.channels), _PADDING, np.uint8)
        image = PlacedImage(pixels, self.model.letterbox(self.model.input_hw))
        with ThreadPoolExecutor(self.parallel_runs) as pool:
            for batch in sorted({min(batch, self.max_batch) for batch in batches}):
                for done in [pool.submit(self.run, [image] * batch, options) for _ in range(self.parallel_runs)]:
                    done.result()

    @contextmanager
    def network(self, batch: int) -> Iterator[Callable[[], None]]:
        """A function that runs only the network, for so many grey images of the model's own canvas."""
        info, spec = self.model.info, self._session.inputs[0]
        canvases = np.full((info.batch or batch, *self.model.input_hw, info.channels), _PADDING, np.uint8)
        feeds = {spec.name: to_input(canvases, spec.dtype)}

        def run() -> None:
            with self._under_way():
                self._session.run(feeds)

        yield run

    def close(self) -> None:
        """Refuse new runs, and close the session once no run is under way. Closing twice is not an error."""
        self._closed = True
        self._change_runs(0)

    def _change_runs(self, by: int) -> None:
        """Count runs; the last one to end after `close` closes the session, and so does `close` if there is none."""
        with self._lock:
            self._runs += by
            if self._closed and self._runs == 0:
                self._session.close()
                self._spare.clear()

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """Count a run."""
        self._change_runs(1)
        try:
            if self._closed:
                raise SessionError("the detector is closed", subject=self.model.model_name)
            yield
        finally:
            self._change_runs(-1)

    @contextmanager
    def _fed(self, images: Sequence[PlacedImage]) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
        """The network's input; its memory serves a later run of the same size."""
        info, spec = self.model.info, self._session.inputs[0]
        shape = (info.batch or len(images), *images[0].letterbox.input_hw, info.channels)
        try:
            canvases = self._spare.pop()
        except IndexError:
            canvases = np.empty(shape, np.uint8)
        if canvases.shape != shape:
            canvases = np.empty(shape, np.uint8)
        letterbox_batch([image.pixels for image in images], [image.letterbox for image in images], canvases)
        yield {spec.name: to_input(canvases, spec.dtype)}
        self._spare.append(canvases)

    def _decoded(
        self, outputs: tuple[npt.NDArray[np.generic], ...], images: Sequence[PlacedImage], options: DetectOptions
    ) -> list[Any]:
        info = self.model.info
        arrays = self.form.select(outputs, self._session.outputs, info)
        found = self.form.decode(arrays, info, images[0].letterbox.input_hw, options.score_threshold)
        batch = info.batch or len(images)
        if len(found) != batch:
            raise SessionError("the model answers for another batch", expected=str(batch), got=str(len(found)))
        return found

    def _finished(
        self, candidates: Sequence[Any], images: Sequence[PlacedImage], options: DetectOptions
    ) -> list[Detections]:
        names = self.model.info.class_names
        wanted = options.class_ids(names)
        return [
            self.task.finish(found, image.letterbox, options, wanted, names)
            for found, image in zip(candidates, images, strict=False)  # a fixed batch is filled up
        ]
