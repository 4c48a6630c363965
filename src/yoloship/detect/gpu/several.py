"""One model on several GPUs of one machine, in one process: `SeveralGpus`."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections import deque
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from yoloship._util.cores import usable_cores
from yoloship.cuda.device import LOST_CODES
from yoloship.cuda.device_image import DeviceImage
from yoloship.cuda.interop import ordinal_of
from yoloship.detect.batching import Batcher, Gathering
from yoloship.detect.gpu.jpeg_engine import MAX_FILES
from yoloship.detect.gpu.jpeg_queue import QueuedJpeg
from yoloship.detect.gpu.pipeline import READERS, CudaPipeline, stream_to_device
from yoloship.detect.gpu.video_decoding import VideosInTurn
from yoloship.detect.pipeline import WAITING, Decoding, Encoded, Pipeline, PlacedImage
from yoloship.detect.preprocess import is_on_device, is_plain
from yoloship.detect.stream import in_order
from yoloship.errors import CudaError, InputError, SessionError, YoloshipError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor

    import numpy as np
    import numpy.typing as npt

    from yoloship.detect.batching import Answer, RunFuture
    from yoloship.detect.options import DetectOptions
    from yoloship.detect.pipeline import DetectSteps
    from yoloship.detect.stream import Outcome, Reserve
    from yoloship.images import ChannelOrder
    from yoloship.results import Result
    from yoloship.sources.source import Source

    Image = npt.NDArray[np.uint8]

_FAILURES: Final = 3
"""Runs that fail one after the other, until a GPU gets no more work. It would be free at once after each, and would
draw all the work to itself."""

_logger = logging.getLogger("yoloship.detect")


class _Gpu:
    """A GPU with the model on it.

    Attributes:
        pipeline: Runs the model there.
        name: ``cuda:N``.
        running: Runs in progress.
        failures: Runs that have failed since the last one that succeeded.
        is_lost: Whether its context does nothing any more.
    """

    __slots__ = ("failures", "is_lost", "name", "pipeline", "running")

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.name = pipeline.device
        self.running = self.failures = 0
        self.is_lost = False

    @property
    def in_service(self) -> bool:
        """Whether it gets work."""
        lost = self.is_lost or (isinstance(self.pipeline, CudaPipeline) and self.pipeline.is_lost)
        return not lost and self.failures < _FAILURES

    @property
    def files_waiting(self) -> int:
        """Files that wait for its decoder."""
        return self.pipeline.files_waiting if isinstance(self.pipeline, CudaPipeline) else 0


class SeveralGpus(Pipeline):
    """The same model on each of several GPUs.

    Whatever lies in the host's memory runs on the GPU with the fewest runs in progress: a GPU that is faster, or has
    less other work, does more of it. An image in the memory of a GPU runs there.

    A GPU that fails is named in the error. After it was lost, or has failed several times in a row, it gets no more
    work; if all have failed, all are tried again.

    Args:
        parts: A pipeline for each GPU, of the same model with the same tuning; closed with this one. If the constructor
            fails, the caller still owns them.
    """

    def __init__(self, parts: Sequence[Pipeline]) -> None:
        first = parts[0]
        super().__init__(
            first.model,
            first.session,
            max_batch=min(part.max_batch for part in parts),
            parallel_runs=sum(part.parallel_runs for part in parts),
        )
        self._gpus = tuple(_Gpu(part) for part in parts)
        self._by_name = {gpu.name: gpu for gpu in self._gpus}
        self._lock = threading.Lock()
        self._turns, self._files = itertools.count(), itertools.count()
        self._decoder = self._gpus[0]  # of the next files of streams
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._pid = os.getpid()

    @property
    def batches(self) -> tuple[int, ...]:
        """Images that a run of what was submitted may have, ascending from 1."""
        return min((gpu.pipeline.batches for gpu in self._gpus), key=max)

    @property
    def device(self) -> str:
        """Where the network runs: ``cuda:0,cuda:1``."""
        return ",".join(self._by_name)

    def place(self, image: object, channels: ChannelOrder) -> PlacedImage:
        """Read an image, and settle where it lies on the canvas; on the GPU where it is, if it is on one.

        Args:
            image: As `Detector.__call__` takes it.
            channels: The order of its colours if it is an array.

        Raises:
            ImageError: it cannot be read.
            InputError: it is not an image that the model takes, or lies on another GPU.
        """
        if is_plain(image):
            return self._gpus[0].pipeline.place(image, channels)
        if type(image) is not DeviceImage:
            image, channels = self.opened(image, channels)
        return (self._holder(image) or self._gpus[0]).pipeline.place(image, channels)

    def detect(self, image: object, channels: ChannelOrder, options: DetectOptions) -> Result:
        """Do what `place` and `run` do, for one image; a file runs on the GPU that decodes it."""
        if not is_plain(image):
            image, channels = self.opened(image, channels)
        gpu = self._holder(image) if isinstance(image, Encoded) else None
        if gpu is None:
            return super().detect(image, channels, options)
        with self._decoding_on(gpu):
            return super().detect(image, channels, options)

    def place_all(self, images: Iterable[object], channels: ChannelOrder) -> list[PlacedImage]:
        """Do what `place` does for each image, and decode files on all GPUs at once."""
        opened: list[tuple[object, ChannelOrder]] = []
        failure: YoloshipError | None = None
        try:
            opened.extend(self.opened(image, channels) for image in images)
        except YoloshipError as error:  # raised unless a file before it is damaged
            failure = error
        files: dict[_Gpu, list[int]] = {}
        for row, (image, _) in enumerate(opened):
            gpu = self._holder(image) if isinstance(image, Encoded) else None
            if gpu is not None:
                files.setdefault(gpu, []).append(row)
        placed: dict[int, PlacedImage] = {}

        def decode(gpu: _Gpu, rows: Sequence[int]) -> None:
            with self._decoding_on(gpu):
                decoded = gpu.pipeline.place_all([opened[row][0] for row in rows], "bgr")
            placed.update(zip(rows, decoded, strict=True))

        self._do_all([partial(decode, gpu, rows) for gpu, rows in files.items()])
        if failure is not None:
            raise failure
        return [placed.get(row) or self.place(image, order) for row, (image, order) in enumerate(opened)]

    def opened(
        self, image: object, channels: ChannelOrder, reserve: Reserve | None = None
    ) -> tuple[object, ChannelOrder]:
        """Do the part of `place` that a caller of `Detector.submit` waits for.

        A file that a GPU is to decode goes to the one where the fewest wait; in turn, if as many wait at each. Those of
        a stream go there in batches.
        """
        is_file = isinstance(image, str | bytes)  # most are, and each question takes time
        if not is_file and (is_plain(image) or isinstance(image, DeviceImage | Encoded)):
            return image, channels
        gpu = self._decoder
        if reserve is None or not gpu.in_service or next(self._files) % MAX_FILES == 0:
            serving = self._serving()
            turn = next(self._turns) % len(serving)
            gpu = min((*serving[turn:], *serving[:turn]), key=lambda one: one.files_waiting)
            if reserve is not None:
                self._decoder = gpu
        return gpu.pipeline.opened(image, channels, reserve)

    @property
    def video_decoding(self) -> str:
        """Who decodes videos on each GPU, and why."""
        return "; ".join(dict.fromkeys(gpu.pipeline.video_decoding for gpu in self._gpus))

    @property
    def files_ahead(self) -> int:
        """Files of a stream that the decoders of all GPUs may have."""
        return sum(gpu.pipeline.files_ahead for gpu in self._gpus)

    @property
    def decoding(self) -> Decoding:
        """Who decodes image files; the reason names the GPUs that do not, if others do."""
        found = {gpu.name: gpu.pipeline.decoding for gpu in self._gpus}
        chosen = set(found.values())
        if len(chosen) == 1:
            return chosen.pop()
        by_gpu: Literal["gpu", "cpu"] = "gpu" if any(one.images == "gpu" for one in chosen) else "cpu"
        return Decoding(by_gpu, "; ".join(f"{name}: {one.images}, {one.reason}" for name, one in found.items()))

    def run(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Result]:
        """Run the model once, or once on each GPU if images lie on several.

        Args:
            images: 1 to `max_batch`, on canvases of one size; from `place`.
            options: What to keep.

        Returns:
            One result for each image, in their order.

        Raises:
            CudaError: a GPU failed or is out of memory; the error names it.
            InputError: the network takes no canvas of that size, or no such batch.
            SessionError: the network failed, or the pipeline is closed.
        """
        gpus = {gpu for image in images if (gpu := self._place_of(image)) is not None}
        if len(gpus) > 1:
            return self.run_all(images, options)
        with self._run_on(next(iter(gpus), None)) as gpu:
            return gpu.pipeline.run(images, options)

    def run_waiting(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Result]:
        """Do what `run` does, in a batch that is ready on the GPU that takes it. All images lie in the same memory."""
        with self._run_on(self._place_of(images[0])) as gpu:
            return gpu.pipeline.run_waiting(images, options)

    def gathering(self) -> Gathering | None:
        """How `batcher` gathers images: as the GPUs do, and only full batches if all of them are busy."""
        found = [one for gpu in self._gpus if (one := gpu.pipeline.gathering()) is not None]
        if len(found) < len(self._gpus):
            return None
        turns = itertools.cycle(found)  # each GPU gets to know which sizes it lacks

        def count(waiting: int, input_hw: tuple[int, int], options: DetectOptions) -> int:
            return next(turns).count(waiting, input_hw, options)

        return Gathering(count, sum(one.busy or 0 for one in found))

    def _kind(self, image: PlacedImage) -> Hashable:
        """Images of one canvas size that lie in the same memory."""
        return image.letterbox.input_hw, self._place_of(image)

    def _run_size(self, kind: Hashable, images: int) -> int:
        """Images in the host's memory are shared out equally, so that every GPU works on a list of images."""
        _, place = cast("tuple[object, _Gpu | None]", kind)
        return self.max_batch if place else max(self._shares(images))

    def run_all(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Result]:
        """Do what `Pipeline.run_all` does, on all GPUs at once."""
        self.check_process()
        return super().run_all(images, options)

    def run_timed(self, images: Sequence[PlacedImage], options: DetectOptions) -> tuple[list[Result], dict[str, float]]:
        """Do what `run` does on one GPU, and return the milliseconds of each stage and of all, ``total``."""
        with self._run_on(self._place_of(images[0])) as gpu:
            return gpu.pipeline.run_timed(images, options)

    def stream(self, sources: Iterable[object], steps: DetectSteps, *, keep_images: bool) -> Iterator[Outcome]:
        """Detect on any number of images. Each is run by whichever GPU is free; the outcomes are in order.

        Args:
            sources: As `Detector.stream` takes them.
            steps: What becomes of each.
            keep_images: Whether each `Outcome` carries its image.
        """
        cuda = [gpu.pipeline for gpu in self._serving() if isinstance(gpu.pipeline, CudaPipeline)]
        if cuda:
            readers = min(READERS * len(self._gpus), usable_cores())
            return stream_to_device(self, cuda, sources, steps, keep_images=keep_images, readers=readers)

        def detect(image: Image) -> Result:
            return self.run((PlacedImage(image, self.model.placement(image.shape[:2])),), steps.options)[0]

        return in_order(sources, steps.read, detect, parallel_runs=self.parallel_runs, keep_images=keep_images)

    def lend_decoder(self, source: Source) -> None:
        """Let a source decode its videos on the GPUs in turn, each on one."""
        lent = [gpu.pipeline.videos for gpu in self._serving() if isinstance(gpu.pipeline, CudaPipeline)]
        if lent and lent[0].lend(source):
            source.decode_with(VideosInTurn(lent))

    def prepare(self, batches: Sequence[int], options: DetectOptions) -> None:
        """Make every GPU ready, all at once.

        Args:
            batches: Images of the runs to make ready for, on the model's own canvas.
            options: What they will keep.

        Raises:
            YoloshipError: as for one GPU; the error names it.
        """
        self.check_process()

        def ready(gpu: _Gpu) -> None:
            with self._run_on(gpu):
                gpu.pipeline.prepare(batches, options)

        self._do_all([partial(ready, gpu) for gpu in self._gpus])

    @contextmanager
    def network(self, batch: int) -> Iterator[Callable[[], None]]:
        """A function that runs only the network, shared among the GPUs as `run_all` shares images."""
        with ExitStack() as stack:
            ready = []
            for share in self._shares(batch):
                gpu = stack.enter_context(self._run_on(None))
                ready.append(stack.enter_context(gpu.pipeline.network(share)))
            yield ready[0] if len(ready) == 1 else lambda: self._do_all(ready)

    def batcher(self) -> Batcher:
        """Make the threads of `Detector.submit`."""
        return _SharedBatcher(self, self._place_of)

    def hand_over(self, image: PlacedImage) -> PlacedImage:
        """Make an image ready to be run by another thread, which releases it afterwards."""
        gpu = self._place_of(image)
        return image if gpu is None else gpu.pipeline.hand_over(image)

    def check_process(self) -> None:
        """Refuse to work in a forked child.

        Raises:
            SessionError: this is one.
        """
        if os.getpid() != self._pid:
            from yoloship.detect.batching import forked

            raise forked(self.model.model_name)

    def device_bytes(self) -> int:
        """Bytes of the GPUs' memory in use, other processes' included."""
        return sum(gpu.pipeline.device_bytes() or 0 for gpu in self._gpus)

    def pinned_frame(self, image_hw: tuple[int, int]) -> Image:
        """(height, width, channels) uint8, not initialised; pinned for all GPUs. It may outlive the pipeline.

        Raises:
            CudaError: that much cannot be pinned.
        """
        return self._gpus[0].pipeline.pinned_frame(image_hw)

    def of(self, gpu: str) -> Pipeline:
        """The pipeline of one GPU, by its name."""
        return self._by_name[gpu].pipeline

    def close(self) -> None:
        """Finish what is under way, refuse the rest, and give everything back. Closing twice is not an error."""
        if os.getpid() == self._pid:
            with self._lock:
                self._closed, pool, self._pool = True, self._pool, None
            if pool is not None:
                pool.shutdown()
        with ExitStack() as stack:
            for gpu in reversed(self._gpus):
                stack.callback(gpu.pipeline.close)

    def _holder(self, image: object) -> _Gpu | None:
        """The GPU whose memory an image lies in; None if it is in the host's.

        Raises:
            InputError: that GPU is none of these.
        """
        held: Any = image
        if isinstance(held, DeviceImage | QueuedJpeg):
            name = str(held.device)
        elif is_on_device(held):
            name = f"cuda:{ordinal_of(held)}"
        else:
            return None
        gpu = self._by_name.get(name)
        if gpu is None:
            raise InputError(
                "cannot be used as a frame", subject="GPU array", expected=" or ".join(self._by_name), got=name
            )
        return gpu

    def _place_of(self, image: PlacedImage) -> _Gpu | None:
        """The GPU that has to run a placed image; None if any can."""
        return self._by_name.get(getattr(image, "gpu", None) or "")

    def _free(self) -> _Gpu:
        """The GPU in service with the fewest runs in progress."""
        return min(self._serving(), key=lambda gpu: gpu.running)

    def _serving(self) -> tuple[_Gpu, ...]:
        """The GPUs that get work; all of them if none does."""
        return tuple(gpu for gpu in self._gpus if gpu.in_service) or self._gpus

    @contextmanager
    def _run_on(self, wanted: _Gpu | None) -> Iterator[_Gpu]:
        """Count a run on a GPU, the wanted or a free one, and what becomes of it. Its errors name the GPU."""
        self.check_process()
        with self._lock:
            if self._closed:
                raise self._closed_error()
            gpu = wanted or self._free()
            gpu.running += 1
        try:
            yield gpu
        except InputError:
            raise
        except YoloshipError as error:
            self._failed(gpu, error)
            raise
        else:
            gpu.failures = 0
        finally:
            with self._lock:
                gpu.running -= 1

    @contextmanager
    def _decoding_on(self, gpu: _Gpu) -> Iterator[None]:
        """Count an error of a GPU that decodes in this thread, and name the GPU in it, unless that is done already."""
        try:
            yield
        except CudaError as error:
            if gpu.name not in str(error):
                self._failed(gpu, error)
            raise

    def _failed(self, gpu: _Gpu, error: YoloshipError) -> None:
        """Name the GPU in an error, and stop giving it work if it is lost or goes on failing."""
        if self._closed or not isinstance(error, CudaError | SessionError):
            return
        if gpu.name not in str(error):
            error.subject = f"{error.subject} on {gpu.name}" if error.subject else gpu.name
        with self._lock:
            served = gpu.in_service
            gpu.failures += 1
            gpu.is_lost = gpu.is_lost or (isinstance(error, CudaError) and error.code in LOST_CODES)
            stopped = served and not gpu.in_service
        if stopped:
            _logger.warning("%s gets no more work: %s", gpu.name, str(error))  # a record would keep what failed alive

    def _closed_error(self) -> SessionError:
        return SessionError("the detector is closed", subject=self.model.model_name)

    def _shares(self, images: int) -> list[int]:
        """How many of the images each run has, one on each GPU in service, if they fit into so many runs."""
        if self.model.info.batch is not None:
            return [min(images, self.max_batch)]
        gpus = len(self._serving())
        whole, more = divmod(images, gpus)
        return [min(whole + (place < more), self.max_batch) for place in range(min(gpus, images))] or [1]

    def _do_all(self, calls: Sequence[Callable[[], None]]) -> None:
        """Make the calls, as many at a time as there are GPUs: in this thread, and in threads of the pool.

        After one has failed, no more begin, and the first error in the order of the calls is raised.
        """
        left = deque(enumerate(calls))
        errors: dict[int, BaseException] = {}

        def work() -> None:
            while not errors:
                try:
                    number, call = left.popleft()
                except IndexError:
                    return
                try:
                    call()
                except BaseException as error:  # raised below, in the caller's thread
                    errors[number] = error

        others: list[Future[None]] = []
        if len(calls) > 1:
            pool = self._threads()
            others = [pool.submit(work) for _ in range(min(len(self._gpus), len(calls)) - 1)]
        work()
        for other in others:
            if not other.cancel():
                other.result()
        if errors:
            raise errors[min(errors)]

    def _threads(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor

        with self._lock:
            if self._closed:
                raise self._closed_error()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.parallel_runs, thread_name_prefix="yoloship-gpu")
            return self._pool


class _SharedBatcher(Batcher):
    """The threads of `submit`: some for images that any GPU can run, and others for those that lie on a certain one.

    Args:
        pipeline: Runs the batches.
        place_of: The GPU that has to run an image; None if any can.
    """

    def __init__(self, pipeline: SeveralGpus, place_of: Callable[[PlacedImage], _Gpu | None]) -> None:
        runs, sizes, self._subject = pipeline.parallel_runs, pipeline.batches, pipeline.model.model_name
        waiting = WAITING * runs * sizes[-1]
        super().__init__(
            pipeline.run_waiting,
            threads=runs,
            sizes=sizes,
            waiting=waiting,
            model_name=self._subject,
            gathering=pipeline.gathering(),
        )
        self._pipeline = pipeline
        self._place_of = place_of
        self._own: dict[_Gpu, Batcher] = {}
        self._making = threading.Lock()
        self._ended = False

    @property
    def runs_in_this_thread(self) -> bool:
        """Whether the caller is one of its threads."""
        return super().runs_in_this_thread or any(one.runs_in_this_thread for one in tuple(self._own.values()))

    def submit(self, image: PlacedImage, options: DetectOptions, *more: Any) -> RunFuture:
        """Queue an image, as `Batcher.submit`."""
        gpu = self._place_of(image)
        batcher = None if gpu is None else self._batcher_of(gpu)
        return super().submit(image, options, *more) if batcher is None else batcher.submit(image, options, *more)

    def submit_all(self, images: Sequence[PlacedImage], options: DetectOptions, answers: Sequence[Answer]) -> None:
        """Queue images that came together, as `Batcher.submit_all`."""
        shares: dict[_Gpu | None, list[tuple[PlacedImage, Answer]]] = {}
        for image, answer in zip(images, answers, strict=True):
            shares.setdefault(self._place_of(image), []).append((image, answer))
        for gpu, share in shares.items():
            batcher = None if gpu is None else self._batcher_of(gpu)
            submit_all = super().submit_all if batcher is None else batcher.submit_all
            submit_all([image for image, _ in share], options, [answer for _, answer in share])

    def abandon(self) -> None:
        """Run what waits, and then end the threads, without waiting for them."""
        super().abandon()
        for batcher in tuple(self._own.values()):
            batcher.abandon()

    def close(self) -> None:
        """Finish the runs that have begun, fail the requests that wait, and end the threads. It may be called twice."""
        with self._making:
            self._ended = True
        super().close()
        for batcher in self._own.values():
            batcher.close()

    def _batcher_of(self, gpu: _Gpu) -> Batcher | None:
        """The threads for images that lie on a GPU; None after closing."""
        found = self._own.get(gpu)
        if found is None:
            with self._making:
                if self._ended:
                    return None
                found = self._own.get(gpu)
                if found is None:
                    found = self._own[gpu] = _of_one_gpu(self._pipeline, gpu)
        return found


def _of_one_gpu(pipeline: SeveralGpus, gpu: _Gpu) -> Batcher:
    runs, sizes = gpu.pipeline.parallel_runs, pipeline.batches
    return Batcher(
        pipeline.run_waiting, threads=runs, sizes=sizes, waiting=WAITING * runs * sizes[-1],
        model_name=pipeline.model.model_name, gathering=gpu.pipeline.gathering(),
    )  # fmt: skip
