"""A detector whose every step between a frame in memory and its boxes is done by the GPU: `CudaDetector`.

The steps themselves are in `lane`, `device_plan`, `staging`, `transfer` and `batching`.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.cores import usable_cores
from yoloship.cuda.buffers import PinnedBuffer
from yoloship.cuda.device import OUT_OF_MEMORY
from yoloship.cuda.interop import HandedFrame
from yoloship.cuda.stream import Stream
from yoloship.cuda.stream_calls import PinnedMemory
from yoloship.detect.detector import DetectorFace, as_picture, canvas_for
from yoloship.detect.gpu.batch_plan import DeviceModel
from yoloship.detect.gpu.batching import Batcher, Steps, batch_range, in_batches, run_sizes
from yoloship.detect.gpu.slots import Lane, LanePool, LaneSetup
from yoloship.detect.gpu.staging import Frame
from yoloship.detect.gpu.transfer import CudaTuning
from yoloship.detect.options import DetectOptions
from yoloship.detect.preprocess import device_hw, is_on_device, is_plain
from yoloship.errors import CudaError, InputError, SessionError
from yoloship.results.detections import class_ids_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable
    from yoloship.detect.detector import Image, ShapeMode, Source
    from yoloship.detect.gpu.slots import StageTimes
    from yoloship.detect.gpu.transfer import Route
    from yoloship.detect.stream import Outcome, Reserve
    from yoloship.letterbox import Letterbox
    from yoloship.model import ModelInfo
    from yoloship.results.detections import Detections
    from yoloship.runtime.base import DeviceSession


_WAITING: Final = 4
"""Batches that may wait in `submit` for each lane."""
_ROUTES: Final = 512
_READERS: Final = 16


class CudaDetector(DetectorFace):
    """Finds objects in pictures on an NVIDIA GPU. It owns its session and its kernels: close it when done.

    Has the face of `Detector`, and takes frames that lie on the GPU or in pinned memory without a copy. Many threads
    may call it at once; a call from one thread has a stream to itself.

    Args:
        session: The network; closed with the detector.
        kernels: Loaded on the session's device, and open longer than the detector unless `owned` closes them.
        info: What the model is.
        options: What to keep, unless a call says otherwise.
        imgsz: (height, width) of the canvas, in `rect` mode its limit; None takes the graph's own size, else 640×640.
        shape_mode: How a picture meets the canvas.
        tuning: How the device is shared out.
        subject: The model's name, for messages.
        owned: Closed with the detector, after its session; not where the constructor fails.

    Raises:
        InputError: the size or the mode contradicts the graph, or an option the classes.
        SessionError: the model's output form cannot be decoded on the GPU.
    """

    def __init__(  # noqa: PLR0913 - all but the first three have defaults
        self,
        session: DeviceSession,
        kernels: Mapping[str, Launchable],
        info: ModelInfo,
        *,
        options: DetectOptions | None = None,
        imgsz: tuple[int, int] | None = None,
        shape_mode: ShapeMode = "square",
        tuning: CudaTuning | None = None,
        subject: str = "model",
        owned: ExitStack | None = None,
    ) -> None:
        self._session = session
        self._owned = owned or ExitStack()
        self._tuning = tuning or CudaTuning()
        limit_hw = canvas_for(info, imgsz, shape_mode, subject)
        super().__init__(info, DetectOptions.checked(options) or DetectOptions(), shape_mode, limit_hw, subject)
        if info.output_form not in {"heads", "raw"}:
            raise SessionError(
                "a model of this output form cannot be decoded on the GPU",
                subject=subject,
                expected="heads or raw",
                got=info.output_form,
                hint="export it with '--output heads'",
            )
        self._known: set[DetectOptions] = set()
        self._check(self._options)
        self._smallest, self._largest = batch_range(session, info.batch, self._tuning.max_batch)
        self._sizes = run_sizes(info.batch, self._largest)
        self._pinned_memory = PinnedMemory()
        self._routes: dict[tuple[int, int], Route] = {}
        setup = LaneSetup(DeviceModel(session, info, kernels), self._largest, threading.Lock(), self._tuning.plans)
        self._pool = LanePool(lambda: Lane(setup), self._tuning.lanes, subject)
        self._batcher: Batcher | None = None
        self._closed = False
        self._intake = Stream(session.device)
        self._lock = threading.Lock()
        self._preparing = threading.Lock()

    @property
    def session(self) -> DeviceSession:
        """What runs the network."""
        return self._session

    @property
    def max_batch(self) -> int:
        """Pictures of the largest run."""
        return self._largest

    @property
    def tuning(self) -> CudaTuning:
        """How the device is shared out."""
        return self._tuning

    def __call__(self, image: Source, *, options: DetectOptions | None = None) -> Detections:
        """Find the objects of one picture.

        Args:
            image: As `Detector.__call__` takes it, or a (height, width, 3) uint8 BGR array on the detector's device
                with `__dlpack__` or `__cuda_array_interface__`, such as a torch tensor. Read only.
            options: In place of the detector's own.

        Returns:
            Boxes in source pixels, clipped to the picture, best first.

        Raises:
            ImageError: the picture cannot be read.
            InputError: it is no picture, an option names a class that the model does not have, or the network takes no
                canvas of that size.
            CudaError: the device failed or is out of memory, or the process was forked.
            SessionError: the network failed, or the detector is closed.
        """
        return self._run((self._frame(image),), self._checked(options))[0]

    def detect_batch(self, images: Iterable[Source], *, options: DetectOptions | None = None) -> list[Detections]:
        """Find the objects of several pictures of any sizes, in as few runs as the network takes; see `__call__`.

        Returns:
            One result for each picture, in their order.
        """
        chosen = self._checked(options)
        frames = [self._frame(image) for image in images]
        rows_of: dict[tuple[int, int], list[int]] = {}
        for row, frame in enumerate(frames):
            rows_of.setdefault(frame.letterbox.input_hw, []).append(row)
        results: list[Detections | None] = [None] * len(frames)
        for rows in rows_of.values():
            for start in range(0, len(rows), self._largest):
                some = rows[start : start + self._largest]
                for row, found in zip(some, self._run([frames[row] for row in some], chosen), strict=True):
                    results[row] = found
        return [result for result in results if result is not None]

    def submit(self, image: Source, *, options: DetectOptions | None = None) -> Future[Detections]:
        """Hand a picture over and go on; what waits together runs together.

        It blocks where a few batches wait already.

        Args:
            image: As `__call__` takes it; an array must not change until the result is there.
            options: In place of the detector's own.

        Returns:
            A future of what `__call__` returns, or raises for reasons of the device.

        Raises:
            ImageError: the picture cannot be read.
            InputError: it is no picture, or an option names a class that the model does not have.
            SessionError: the detector is closed.
        """
        chosen = self._checked(options)
        return self._hand_over(image, chosen)

    def stream(
        self, sources: Iterable[Source], *, options: DetectOptions | None = None, keep_images: bool = False
    ) -> Iterator[Outcome]:
        """Find the objects of any number of pictures; reading, copying and the network overlap. See `Detector.stream`.

        Yields:
            One `Outcome` for each source, in their order.
        """
        chosen = self._checked(options)
        self._batches()

        def is_read(source: object) -> bool:
            return isinstance(source, np.ndarray) or is_on_device(source)

        def read(source: object, reserve: Reserve) -> Any:
            return source if is_on_device(source) else as_picture(source, reserve)

        def submit(image: Image) -> Future[Detections]:
            return self._hand_over(image, chosen)

        return in_batches(
            sources,
            Steps(is_read, read, submit),
            in_flight=self._tuning.lanes * self._largest,
            readers=max(2, min(_READERS, usable_cores())),
            keep_images=keep_images,
        )

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """Where a picture of this size lies on the model's canvas."""
        return self._route(image_hw).letterbox

    def pinned_frame(self, image_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Memory for a picture that goes to the device fastest: fill it, detect on it, fill it again.

        Args:
            image_hw: (height, width) in pixels.

        Returns:
            (height, width, 3) uint8, not initialised. The caller owns it; it may outlive the detector.

        Raises:
            CudaError: that much cannot be pinned.
        """
        height, width = image_hw
        with PinnedBuffer(self._session.device, 3 * height * width) as buffer:
            return buffer.array(np.uint8, (height, width, 3))

    def prepare(self, batches: Sequence[int] | None = None) -> None:
        """Make every lane ready now, which else the first pictures wait for.

        Args:
            batches: Pictures of the runs to make ready for, on the detector's own canvas; None takes those that
                `submit` and `stream` make.

        Raises:
            CudaError: out of memory, or the device failed.
            InputError: the network takes no such batch.
            SessionError: the network is refused, or the detector is closed.
        """
        wanted = self._sizes if batches is None else tuple(batches)
        with self._preparing, ExitStack() as stack:
            lanes = [stack.enter_context(self._lane()) for _ in range(self._tuning.lanes)]
            for lane in lanes:
                for batch in sorted({self._batch(size) for size in wanted}):
                    lane.prepare(batch, self._limit_hw, self._options)

    def detect_timed(self, images: Sequence[Source]) -> tuple[list[Detections], StageTimes]:
        """Find the objects of pictures that fit one run, and say where the time went; a little slower than plain.

        Raises:
            InputError: they do not fit one run.
            YoloshipError: as `__call__`.
        """
        frames = [self._frame(image) for image in images]
        if not 1 <= len(frames) <= self._largest or len({frame.letterbox.input_hw for frame in frames}) != 1:
            raise InputError(
                "images that do not fit one run", expected=f"1 to {self._largest} on one canvas", got=str(len(frames))
            )
        with self._lane() as lane:
            return lane.run_timed(frames, self._batch(len(frames)), self._options)

    @contextmanager
    def network(self, batch: int = 1) -> Iterator[Callable[[], None]]:
        """The network alone on a lane of its own, to measure against.

        Args:
            batch: Pictures of a run.

        Yields:
            A function that runs it on whatever lies on its input, and waits for it.
        """
        with self._lane() as lane:
            yield lane.network(self._batch(batch), self._limit_hw)

    def close(self) -> None:
        """Finish what is under way, refuse the rest, and give everything back. Closing twice is no error."""
        with self._lock:
            self._closed, batcher = True, self._batcher
        if batcher is not None and self._pool.in_this_process:
            batcher.close()
        self._pool.close()
        self._intake.close()
        self._session.close()
        self._owned.close()

    def __repr__(self) -> str:
        height, width = self._limit_hw
        return f"CudaDetector({len(self.names)} classes, {height}×{width} {self._shape_mode}, {self._session.name})"

    def _run(self, frames: Sequence[Frame], options: DetectOptions) -> list[Detections]:
        """Run what fits one run."""
        pool = self._pool
        lane = pool.take()
        try:
            found = lane.run(frames, self._batch(len(frames)), options)
        except BaseException as error:
            pool.give_after(lane, error)
            full = isinstance(error, CudaError) and error.code == OUT_OF_MEMORY
            if full and self._tuning.on_full_memory == "halve" and len(frames) > 1 and self._info.batch is None:
                middle = len(frames) // 2
                return self._run(frames[:middle], options) + self._run(frames[middle:], options)
            raise
        pool.give(lane)
        return found

    @contextmanager
    def _lane(self) -> Iterator[Lane]:
        lane = self._pool.take()
        try:
            yield lane
        except BaseException as error:
            self._pool.give_after(lane, error)
            raise
        self._pool.give(lane)

    def _frame(self, image: Source) -> Frame:
        """The picture, where it lies on the canvas, and the way that it takes."""
        picture: Any = image
        if not is_plain(picture):
            if is_on_device(picture):
                hw = device_hw(picture)
                return Frame(picture, self.letterbox(hw), "resident")
            picture = as_picture(image)
        route = self._route(picture.shape[:2])
        pinned = self._pinned_memory.addresses(picture)
        if pinned is None:
            return Frame(picture, route.letterbox, route.pageable, 0, route.pick)
        return Frame(picture, route.letterbox, route.pinned, pinned[route.pinned == "mapped"])

    def _hand_over(self, image: Source, options: DetectOptions) -> Future[Detections]:
        """Let another thread run it; what this one has queued for it on the device is waited for there."""
        frame, batcher = self._frame(image), self._batches()
        if frame.way != "resident":
            return batcher.submit(frame, options)
        handed = HandedFrame(frame.pixels, self._intake)
        try:
            future = batcher.submit(replace(frame, pixels=handed), options)
        except BaseException:
            handed.close()
            raise
        future.add_done_callback(lambda _: handed.close())
        return future

    def _route(self, image_hw: tuple[int, int]) -> Route:
        """What is decided once for pictures of this size."""
        found = self._routes.get(image_hw)
        if found is None:
            if len(self._routes) >= _ROUTES:
                self._routes.clear()
            found = self._routes[image_hw] = self._tuning.transfer.route(super().letterbox(image_hw))
        return found

    def _batch(self, pictures: int) -> int:
        """The batch of the run for so many pictures."""
        return self._info.batch or max(pictures, self._smallest)

    def _checked(self, options: DetectOptions | None) -> DetectOptions:
        if options is None:
            return self._options
        if DetectOptions.checked(options) not in self._known:
            self._check(options)
        return options

    def _check(self, options: DetectOptions) -> None:
        """Refuse classes that the model does not have; remember a few options that passed."""
        if options.classes is not None:
            class_ids_of(options.classes, self.names)
        if len(self._known) > 64:
            self._known.clear()
        self._known.add(options)

    def _batches(self) -> Batcher:
        """The threads behind `submit`, started when first needed, and not once it is closed."""
        if not self._pool.in_this_process:
            self._pool.take()  # raises
        with self._lock:
            if self._closed:
                raise SessionError("the detector is closed", subject=self._subject)
            if self._batcher is None:
                self._batcher = Batcher(
                    self._run,
                    threads=self._tuning.lanes,
                    sizes=self._sizes,
                    waiting=_WAITING * self._tuning.lanes * self._largest,
                    subject=self._subject,
                )
            return self._batcher
