"""The pipeline that does everything except the network on the CPU: `CpuPipeline`."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.detect.pipeline import ModelInput, Pipeline, PlacedImage
from yoloship.detect.preprocess import as_image, letterbox_batch, model_feeds
from yoloship.detect.stream import in_order
from yoloship.errors import InputError, SessionError
from yoloship.tasks.decode import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from yoloship.detect.options import DetectOptions
    from yoloship.detect.pipeline import DetectSteps
    from yoloship.detect.stream import Outcome
    from yoloship.images import ChannelOrder
    from yoloship.results import Result
    from yoloship.runtime import Session

    Image = npt.NDArray[np.uint8]

MAX_BATCH: Final = 16
"""Largest batch if the graph's batch is dynamic. It limits the memory; larger batches are not faster on a CPU."""
_PADDING: Final = 114


class CpuPipeline(Pipeline):
    """Letterbox or crop, decoding and NMS in NumPy and OpenCV, around any `Session`.

    Args:
        session: The session that runs the network; closed with the pipeline.
        model: The model and the size of its input.
        parallel_runs: Runs of the session at the same time; None takes as many as the session recommends.
        max_batch: Images of the largest run, if the graph's batch is dynamic.
        device: Where the network runs.

    Raises:
        InputError: `parallel_runs` is below 1.
    """

    session: Session

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
        super().__init__(model, session, max_batch=fixed or max_batch, parallel_runs=parallel_runs)
        self._device = device
        first, *others = session.inputs
        self._takes_canvases = first.dtype == "uint8" and model.info.pixels is None and not others
        self._places = self.form.places(session.outputs, model.info)
        self._spare: deque[Image] = deque(maxlen=4)
        self._lock = threading.Lock()
        self._runs = 0
        self._closed = threading.Event()
        self._pid = os.getpid()

    @property
    def device(self) -> str:
        """Where the network runs: ``cpu`` or ``cuda:N``."""
        return self._device

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes of submitted images: on a CPU only 1, unless the graph's batch is fixed to more."""
        from yoloship.detect.batching import run_sizes

        fixed = self.model.info.batch
        return run_sizes(fixed, fixed or (1 if self._device == "cpu" else self.max_batch))

    def place(self, image: object, channels: ChannelOrder) -> PlacedImage:
        """Read an image, and compute its place on the canvas.

        Args:
            image: As `Detector.__call__` takes it.
            channels: The order of its colours if it is an array.

        Raises:
            ImageError: it cannot be read.
            InputError: it is not an image that the model takes.
        """
        pixels = as_image(image, count=self.model.info.channels, channels=channels)
        return PlacedImage(pixels, self.model.placement(pixels.shape[:2]))

    def run(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Result]:
        """Run the model once.

        Args:
            images: 1 to `max_batch`, on canvases of one size.
            options: What to keep.

        Returns:
            One result for each image, in their order.

        Raises:
            SessionError: the runtime failed, or the output does not have the form that the model's description says.
        """
        return self.run_timed(images, options)[0]

    def run_timed(self, images: Sequence[PlacedImage], options: DetectOptions) -> tuple[list[Result], dict[str, float]]:
        """Do what `run` does, and return the milliseconds of each stage and of the whole, ``total``."""
        info, input_hw = self.model.info, images[0].letterbox.input_hw
        batch = info.batch or len(images)
        shape = (batch, *input_hw, info.channels)
        started = time.perf_counter()
        with self._under_way():
            try:  # reuse the memory of a finished run of the same size
                canvases = self._spare.pop()
            except IndexError:
                canvases = np.empty(shape, np.uint8)
            if canvases.shape != shape:
                canvases = np.empty(shape, np.uint8)
            letterbox_batch([image.pixels for image in images], [image.letterbox for image in images], canvases)
            inputs = self.session.inputs
            feeds = {inputs[0].name: canvases} if self._takes_canvases else model_feeds(inputs, info, canvases)
            letterboxed = time.perf_counter()
            outputs = self.session.run_as_computed(feeds)
            self._spare.append(canvases)
        answered = time.perf_counter()
        expect(outputs, len(self.session.outputs))
        read = [outputs[place] for place in self._places]
        candidates = self.form.decode(read, info, input_hw, options.score_threshold)
        if len(candidates) != batch:
            raise SessionError(
                "the model's output has another batch size", expected=str(batch), got=str(len(candidates))
            )
        decoded = time.perf_counter()
        wanted = None if options.classes is None else options.class_ids(info.class_names)
        results = [
            self.task.to_result(self.task.suppress(found, options, wanted), image.letterbox, info.class_names)
            for found, image in zip(candidates, images, strict=False)  # a fixed batch is padded
        ]
        ended = time.perf_counter()
        before, after, last = self.task.stages
        return results, {
            before: (letterboxed - started) * 1e3,
            "network": (answered - letterboxed) * 1e3,
            after: (decoded - answered) * 1e3,
            last: (ended - decoded) * 1e3,
            "total": (ended - started) * 1e3,
        }

    def stream(self, sources: Iterable[object], steps: DetectSteps, *, keep_images: bool) -> Iterator[Outcome]:
        """Detect on any number of images. Each image is a separate run, in the thread that read it.

        Args:
            sources: As `Detector.stream` takes them.
            steps: What becomes of each.
            keep_images: Whether each `Outcome` carries its image.
        """

        def detect(image: Image) -> Result:
            placed = PlacedImage(image, self.model.placement(image.shape[:2]))
            return self.run_timed((placed,), steps.options)[0][0]

        # A worker that reads leaves the other threads of its run without work, so there are more workers than runs.
        idle = self.parallel_runs * ((self.session.run_threads or 1) - 1) if self.parallel_runs > 1 else 0
        runs = self.parallel_runs
        return in_order(sources, steps.read, detect, parallel_runs=runs, keep_images=keep_images, readers=idle // 2)

    def prepare(self, batches: Sequence[int], options: DetectOptions) -> None:
        """Run grey images, because the first run allocates memory; as many as can run at the same time.

        Args:
            batches: Batch sizes to prepare for, on the model's own canvas.
            options: The options of those runs.
        """
        from concurrent.futures import ThreadPoolExecutor

        pixels = np.full((*self.model.input_hw, self.model.info.channels), _PADDING, np.uint8)
        image = PlacedImage(pixels, self.model.placement(self.model.input_hw))
        with ThreadPoolExecutor(self.parallel_runs) as pool:
            for batch in sorted({min(batch, self.max_batch) for batch in batches}):
                for done in [pool.submit(self.run, [image] * batch, options) for _ in range(self.parallel_runs)]:
                    done.result()

    @contextmanager
    def network(self, batch: int) -> Iterator[Callable[[], None]]:
        """A function that runs only the network, on this number of grey images of the model's own canvas size."""
        info = self.model.info
        canvases = np.full((info.batch or batch, *self.model.input_hw, info.channels), _PADDING, np.uint8)
        feeds = model_feeds(self.session.inputs, info, canvases)

        def run() -> None:
            with self._under_way():
                self.session.run_as_computed(feeds)

        yield run

    def close(self) -> None:
        """Refuse new runs, and close the session once no run is under way. Closing twice is not an error.

        In a forked child it leaves the session alone: without the threads behind it, that may wait for ever.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed.set()
            if self._runs == 0:
                self.session.close()
                self._spare.clear()

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """Count a run; if the pipeline was closed meanwhile, the last one to end closes the session."""
        if os.getpid() != self._pid:
            from yoloship.detect.batching import forked

            raise forked(self.model.model_name)
        with self._lock:
            if self._closed.is_set():
                raise SessionError("the detector is closed", subject=self.model.model_name)
            self._runs += 1
        try:
            yield
        finally:
            with self._lock:
                self._runs -= 1
            if self._closed.is_set():
                self.close()
