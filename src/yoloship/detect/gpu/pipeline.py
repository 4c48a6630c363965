"""The pipeline whose every step between a frame in memory and its boxes is done by an NVIDIA GPU: `CudaPipeline`.

The steps themselves are in `slots`, `batch_plan`, `staging` and `transfer`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sized
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.cores import usable_cores
from yoloship.cuda.buffers import PinnedBuffer, PinnedMemory
from yoloship.cuda.device import OUT_OF_MEMORY
from yoloship.cuda.device_image import DeviceImage
from yoloship.cuda.interop import HandedFrame
from yoloship.cuda.stream import Stream
from yoloship.detect.batch_stream import Steps, in_batches
from yoloship.detect.batching import Gathering, batch_range, run_sizes
from yoloship.detect.gpu.batch_plan import DeviceModel
from yoloship.detect.gpu.decoding import JpegDecoding
from yoloship.detect.gpu.filling import Copiers
from yoloship.detect.gpu.jpeg_queue import QueuedJpeg
from yoloship.detect.gpu.readiness import Readiness
from yoloship.detect.gpu.slots import Slot, SlotPool, SlotSetup
from yoloship.detect.gpu.staging import Frame
from yoloship.detect.gpu.transfer import CudaTuning
from yoloship.detect.gpu.turns import Turns
from yoloship.detect.gpu.video_decoding import VideoDecoding
from yoloship.detect.pipeline import Pipeline
from yoloship.detect.preprocess import as_image, device_hw, is_on_device, is_plain, unframed
from yoloship.errors import CudaError, YoloshipError
from yoloship.images import ImageFile, open_image, read_image, stated_order
from yoloship.sources.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable
    from yoloship.detect.batching import Answer
    from yoloship.detect.gpu.transfer import TransferPlan
    from yoloship.detect.options import DetectOptions
    from yoloship.detect.pipeline import Decoding, DetectSteps, ModelInput, PlacedImage
    from yoloship.detect.stream import Outcome, Reserve
    from yoloship.images import ChannelOrder, DecodeChoice
    from yoloship.results import Result
    from yoloship.runtime.session import DeviceSession


_logger = logging.getLogger("yoloship.detect")


_TRANSFERS: Final = 512
_ABREAST: Final = 2
"""Batches that compute at once. Measured on an H200 with four streams: with no limit, batches of 32 reached 0.94 of the
network's throughput from pinned frames; with one at once 0.93, two 0.95 to 0.96, three 0.91."""
_BUSY: Final = 2
"""Runs that keep the GPU busy: one computes while another goes up or comes down."""
_BETWEEN: Final = (8, 32, 128)
"""Images of runs for live streams, besides those of `batches`. With a network of 0.85 ms and 0.28 ms for each image, on
a stand-in, 80 streams of 30 frames a second had a p99 of 16 and 29 ms without runs of 8, and of 17 and 17 with them."""
READERS: Final = 16
"""Files that are read at once for one GPU."""


class CudaPipeline(Pipeline):
    """Every step on the GPU, except what is left to do after a graph that selects or suppresses boxes itself.

    Frames that lie on the GPU or in pinned memory are taken without a copy on the host.

    Args:
        session: The network; closed with the pipeline.
        kernels: Loaded on the session's device, and open longer than the pipeline unless `owned` closes them.
        model: How images meet the network.
        tuning: How the device is shared out.
        decode: Who decodes JPEG files and videos; or what decodes the files on that device, which is closed with the
            pipeline.
        owned: Closed with the pipeline, after its session; not if the constructor fails.
    """

    session: DeviceSession

    def __init__(
        self,
        session: DeviceSession,
        kernels: Mapping[str, Launchable],
        model: ModelInput,
        *,
        tuning: CudaTuning | None = None,
        decode: DecodeChoice | JpegDecoding = "auto",
        owned: ExitStack | None = None,
    ) -> None:
        info = model.info
        self._owned = owned or ExitStack()
        self._name = str(session.device)
        self._tuning = tuning or CudaTuning()
        self._smallest, largest = batch_range(session, info.batch, self._tuning.max_batch)
        super().__init__(model, session, max_batch=largest, parallel_runs=self._tuning.slots)
        self._batches = run_sizes(info.batch, largest)
        self._pinned_memory = PinnedMemory()
        self._transfers: dict[tuple[int, int], TransferPlan] = {}
        running = DeviceModel(session, info, kernels)
        with ExitStack() as stack:
            runs = stack.enter_context(Turns(session.device, _ABREAST))
            self._turns = stack.pop_all()
        self._copiers = Copiers(max(1, min(self._tuning.copy_threads, usable_cores())))
        setup = SlotSetup(running, largest, threading.Lock(), self._copiers, self._tuning.plans, runs)
        self._pool = SlotPool(lambda: Slot(setup), self._tuning.slots, model.model_name)
        between = [] if info.batch else [size for size in _BETWEEN if size < largest]
        fits = len({*self._batches, *between}) <= self._tuning.plans
        self._readiness = Readiness(self._pool, self._batches, self._batch, between if fits else ())
        if not isinstance(decode, JpegDecoding):
            decode = JpegDecoding(session.device, kernels, decode, model.model_name)
        self._jpegs = decode
        self._videos = VideoDecoding(session.device, kernels, decode.choice, model.model_name)
        self._intake = Stream(session.device)
        self._preparing = threading.Lock()

    @property
    def batches(self) -> tuple[int, ...]:
        """Images that a run of what was submitted may have, ascending from 1."""
        return self._batches

    @property
    def device(self) -> str:
        """Where the network runs: ``cuda:N``."""
        return self._name

    def place(self, image: object, channels: ChannelOrder) -> Frame:
        """Read an image, and settle where it lies on the canvas and how it gets to the GPU.

        Args:
            image: As `Detector.__call__` takes it, or a `DeviceImage`.
            channels: The order of its colours if it is an array.

        Raises:
            ImageError: it cannot be read.
            InputError: it is not an image that the model takes.
        """
        pixels: Any = image
        if not is_plain(pixels):
            if isinstance(pixels, DeviceImage):
                return Frame(pixels, self._transfer(pixels.pixels.upright_hw).letterbox, "resident", gpu=self._name)
            if is_on_device(pixels):
                hw = device_hw(pixels)
                order = stated_order(pixels) or channels
                return Frame(pixels, self._transfer(hw).letterbox, "resident", channels=order, gpu=self._name)
            pixels, channels = self.opened(image, channels)
            if isinstance(pixels, QueuedJpeg):
                return self._decoded([pixels])[0]
            if not isinstance(pixels, np.ndarray):
                return self.place(pixels, channels)
        plan = self._transfer(pixels.shape[:2])
        pinned = self._pinned_memory.addresses(pixels)
        if pinned is None:
            return Frame(pixels, plan.letterbox, plan.pageable, 0, plan.pick, channels)
        return Frame(pixels, plan.letterbox, plan.pinned, pinned[plan.pinned == "mapped"], None, channels)

    def place_all(self, images: Iterable[object], channels: ChannelOrder) -> list[PlacedImage]:
        """Do what `place` does for each image, and decode JPEGs together. The first that fails raises."""
        opened: list[tuple[object, ChannelOrder]] = []
        failure: Exception | None = None
        try:
            opened.extend(self.opened(image, channels) for image in images)
        except YoloshipError as error:  # raised unless an image before it fails
            failure = error
        files = [image for image, _ in opened if isinstance(image, QueuedJpeg)]
        decoded = iter(self._decoded(files))
        placed: list[PlacedImage] = [
            next(decoded) if isinstance(image, QueuedJpeg) else self.place(image, order) for image, order in opened
        ]
        if failure is not None:
            raise failure
        return placed

    def opened(
        self, image: object, channels: ChannelOrder, reserve: Reserve | None = None
    ) -> tuple[object, ChannelOrder]:
        """Read an image that is not an array yet; a JPEG that the GPU is to decode stays a `QueuedJpeg`.

        Args:
            image: As for `place`, or an image file from `yoloship.images.open_image`.
            channels: As for `place`.
            reserve: As for `in_order`.

        Returns:
            The image for `place`, and the order of its colours.

        Raises:
            ImageError: it cannot be read.
            InputError: it is not an image that the model takes.
        """
        found: Any = image
        if isinstance(image, str | bytes):  # most are, and each question takes time
            found = open_image(image, reserve=reserve)
        elif _is_resident(unframed(image)):
            return unframed(image), channels
        elif isinstance(image, QueuedJpeg) or is_plain(image):
            return image, channels
        elif not isinstance(image, ImageFile):
            found = as_image(image, reserve, channels=channels, read=open_image)
        if isinstance(found, ImageFile):
            self.check_process()
            return self._jpegs.taken(found, of_stream=reserve is not None) or read_image(found, reserve=reserve), "bgr"
        return found, "bgr"

    @property
    def decoding(self) -> Decoding:
        """Who decodes image files. The GPU's decoder is opened if nothing has needed it yet."""
        return self._jpegs.chosen

    @property
    def video_decoding(self) -> str:
        """Who decodes videos, and why. A video that the GPU does not decode after all is named when it comes."""
        return self._videos.chosen

    @property
    def files_ahead(self) -> int:
        """Files of a stream that the GPU's decoder may have; 0 if the CPU decodes."""
        return self._jpegs.files_ahead

    @property
    def files_waiting(self) -> int:
        """Files that wait for the GPU's decoder."""
        return self._jpegs.waiting

    @property
    def is_lost(self) -> bool:
        """Whether the GPU's context was lost while it decoded files."""
        return self._jpegs.is_lost

    def run(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Result]:
        """Run the model once.

        Args:
            images: 1 to `max_batch`, on canvases of one size; from `place`.
            options: What to keep.

        Returns:
            One result for each image, in their order.

        Raises:
            CudaError: the device failed or is out of memory, or the process was forked.
            InputError: the network takes no canvas of that size, or no such batch.
            SessionError: the network failed, or the pipeline is closed.
        """
        return self._run(self._pool.take(), _frames(images), self._batch(len(images)), options)

    def run_waiting(self, images: Sequence[PlacedImage], options: DetectOptions) -> list[Result]:
        """Do what `run` does, in a batch that is ready if there is one; see `Readiness`."""
        frames = _frames(images)
        input_hw = frames[0].letterbox.input_hw
        are_resident = frames[0].mode == "resident"
        slot, batch = self._readiness.take(len(frames), input_hw, options, are_resident=are_resident)
        return self._run(slot, frames, batch, options)

    def gathering(self) -> Gathering:
        """How `batcher` gathers images: for batches that are ready, and only full ones if the GPU is busy."""
        return Gathering(self._readiness.count, _BUSY)

    def _run(self, slot: Slot, frames: Sequence[Frame], batch: int, options: DetectOptions) -> list[Result]:
        pool = self._pool
        try:
            found = slot.run(frames, batch, options)
        except BaseException as error:
            pool.give_after(slot, error)
            full = isinstance(error, CudaError) and error.code == OUT_OF_MEMORY
            if full and self._tuning.on_full_memory == "halve" and len(frames) > 1 and self.model.info.batch is None:
                _logger.warning("a batch of %d does not fit into the GPU's memory, and runs in halves", len(frames))
                middle = len(frames) // 2
                return self.run(frames[:middle], options) + self.run(frames[middle:], options)
            raise
        pool.give(slot)
        return found

    def run_timed(self, images: Sequence[PlacedImage], options: DetectOptions) -> tuple[list[Result], dict[str, float]]:
        """Do what `run` does, and give the milliseconds of each stage, and of all of it, ``total``."""
        with self._slot() as slot:
            return slot.run_timed(_frames(images), self._batch(len(images)), options)

    def stream(self, sources: Iterable[object], steps: DetectSteps, *, keep_images: bool) -> Iterator[Outcome]:
        """Detect on any number of images; reading, copying and the network overlap, and what waits runs together.

        Args:
            sources: As `Detector.stream` takes them.
            steps: What becomes of each.
            keep_images: Whether each `Outcome` carries its image.
        """
        readers = max(2, min(READERS, usable_cores()))
        return stream_to_device(self, [self], sources, steps, keep_images=keep_images, readers=readers)

    @property
    def videos(self) -> VideoDecoding:
        """Decodes videos on this GPU."""
        return self._videos

    def lend_decoder(self, source: Source) -> None:
        """Let a source decode its videos on the GPU, so that its frames need no copy."""
        self._videos.lend(source)

    def prepare(self, batches: Sequence[int], options: DetectOptions) -> None:
        """Make every slot ready, and the decoder of JPEG files.

        Args:
            batches: Images of the runs to make ready for, on the model's own canvas.
            options: What they will keep.

        Raises:
            CudaError: out of memory, or the device failed.
            InputError: the network takes no such batch.
            SessionError: the network is refused, or the pipeline is closed.
        """
        self._jpegs.queue()
        self._make_ready(self._tuning.slots, batches, options)

    @contextmanager
    def network(self, batch: int) -> Iterator[Callable[[], None]]:
        """A function that runs only the network, on whatever lies on its input, on a slot of its own."""
        with self._slot() as slot:
            yield slot.network(self._batch(batch), self.model.input_hw)

    def hand_over(self, image: PlacedImage) -> PlacedImage:
        """Let another thread read what this one has queued for it on the device; a `DeviceImage` becomes its own."""
        if not isinstance(image, Frame) or image.mode != "resident":
            return image
        if isinstance(image.pixels, DeviceImage):
            return image
        return replace(image, pixels=HandedFrame(image.pixels, self._intake))

    def check_process(self) -> None:
        """Refuse to work in a forked child.

        Raises:
            SessionError: this is one.
        """
        self._pool.check_process()

    def device_bytes(self) -> int:
        """Bytes of the GPU's memory in use, other processes' included."""
        free, total = self.session.device.memory()
        return total - free

    def pinned_frame(self, image_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """(height, width, 3) uint8 pinned memory, not initialised. It may outlive the pipeline.

        Raises:
            CudaError: that much cannot be pinned.
        """
        height, width = image_hw
        with PinnedBuffer(self.session.device, 3 * height * width) as buffer:
            return buffer.array(np.uint8, (height, width, 3))

    def close(self) -> None:
        """Finish what is under way, refuse the rest, and give everything back. Closing twice is not an error."""
        self._jpegs.close()
        self._videos.close()
        self._pool.close()
        self._copiers.close()
        self._turns.close()
        self._intake.close()
        self.session.close()
        self._owned.close()

    def expect(self, sources: Iterable[object], options: DetectOptions) -> None:
        """Make ready what a stream is about to need, if that can be known: while reading begins, or before a camera's.

        What a live stream sends while its frames wait for that is lost.
        """
        if isinstance(sources, Source) and sources.is_live:
            if self.model.shape_mode == "square":
                self._expect_streams(sources.live_streams or self.max_batch, options)
            return
        known = sources.count if isinstance(sources, Source) else len(sources) if isinstance(sources, Sized) else None
        images = self.max_batch if known is None else known
        if images and self.model.shape_mode == "square":
            self._readiness.begin(images, self.model.input_hw, options)

    def _expect_streams(self, streams: int, options: DetectOptions) -> None:
        """Make ready what frames of so many live streams need, which come one by one.

        A second frame of a stream may come while the first waits. Beside the runs that keep the GPU busy, only those of
        the largest size begin.
        """
        sizes = self._readiness.sizes_of(2 * streams)
        slots = self._tuning.slots if sizes[-1] == self._batches[-1] else min(_BUSY, self._tuning.slots)
        _logger.info("making runs of %s images ready for live streams", ", ".join(map(str, sizes)))
        try:
            self._make_ready(slots, sizes, options)
        except YoloshipError as error:  # a run that needs it gets the error; a record would keep what failed alive
            _logger.info("not everything is ready: %s", str(error))

    def _make_ready(self, slots: int, batches: Iterable[int], options: DetectOptions) -> None:
        """Make so many slots ready for runs of so many images each."""
        with self._preparing, ExitStack() as stack:
            for slot in [stack.enter_context(self._slot()) for _ in range(slots)]:
                for batch in sorted({self._batch(size) for size in batches}):
                    slot.prepare(batch, self.model.input_hw, options)

    def _decoded(self, files: Sequence[QueuedJpeg]) -> list[Frame]:
        """Decode files in this thread. The first that is damaged raises."""
        frames = []
        for found in files[0].queue.decode([file.jpeg for file in files]) if files else ():
            if isinstance(found, BaseException):
                raise found
            frames.append(self.place(found, "bgr"))
        return frames

    @contextmanager
    def _slot(self) -> Iterator[Slot]:
        slot = self._pool.take()
        try:
            yield slot
        except BaseException as error:
            self._pool.give_after(slot, error)
            raise
        self._pool.give(slot)

    def _transfer(self, image_hw: tuple[int, int]) -> TransferPlan:
        """What is decided once for images of this size."""
        found = self._transfers.get(image_hw)
        if found is None:
            if len(self._transfers) >= _TRANSFERS:
                self._transfers.clear()
            found = self._transfers[image_hw] = self._tuning.transfer.plan(
                self.model.letterbox(image_hw), integrated=self.session.device.info.integrated
            )
        return found

    def _batch(self, images: int) -> int:
        """The batch of the run for so many images."""
        return self.model.info.batch or max(images, self._smallest)


def stream_to_device(
    pipeline: Pipeline,
    gpus: Sequence[CudaPipeline],
    sources: Iterable[object],
    steps: DetectSteps,
    *,
    keep_images: bool,
    readers: int,
) -> Iterator[Outcome]:
    """Detect on any number of images; see `CudaPipeline.stream`.

    Args:
        pipeline: Runs them.
        gpus: What that runs them on.
        sources: As `Detector.stream` takes them.
        steps: What becomes of each.
        keep_images: Whether each `Outcome` carries its image.
        readers: Files that are read at once.
    """
    pipeline.check_process()
    is_live = isinstance(sources, Source) and sources.is_live
    if not is_live:
        for gpu in gpus:
            gpu.expect(sources, steps.options)
    if isinstance(sources, Source):
        pipeline.lend_decoder(sources)
    mixed = sources.side_by_side() if isinstance(sources, Source) and not keep_images else None

    def is_read(source: object) -> bool:
        if isinstance(source, str):  # most are, and each question takes time
            return False
        source = unframed(source)
        if keep_images and isinstance(source, DeviceImage):
            return False  # a reader brings it to the host first
        return _is_resident(source) or (isinstance(source, np.ndarray) and steps.channels == "bgr")

    def read(source: object, reserve: Reserve) -> Any:
        if isinstance(source, np.ndarray):
            return steps.read(source, reserve)
        image, _ = pipeline.opened(source, steps.channels, reserve)
        return image.decode_soon() if keep_images and isinstance(image, QueuedJpeg) else image

    queue = steps.queue()

    def submit(images: Sequence[tuple[object, Answer]]) -> None:
        taken: list[tuple[object, ChannelOrder, Answer]] = []
        for image, answer in images:
            if type(image) is QueuedJpeg:  # as above
                taken.append((image, "bgr", answer))
            else:
                plain = unframed(image)
                taken.append((plain, steps.channels if _is_resident(plain) else "bgr", answer))
        queue(taken)

    outcomes = in_batches(
        sources if mixed is None else mixed,
        Steps(is_read, read, submit, len(gpus)),
        in_flight=pipeline.parallel_runs * pipeline.max_batch + pipeline.files_ahead,
        readers=readers,
        keep_images=keep_images,
    )
    if mixed is not None:
        return mixed.in_turn(outcomes, lambda one, place: replace(one, index=place))
    if not is_live:
        return outcomes

    def prepared() -> Iterator[Outcome]:
        for gpu in gpus:  # in the thread of who wants the first outcome, and no sooner
            gpu.expect(sources, steps.options)
        yield from outcomes

    return prepared()


def _is_resident(image: object) -> bool:
    """Whether an image lies in device memory."""
    return isinstance(image, DeviceImage) or is_on_device(image)


def _frames(images: Sequence[PlacedImage]) -> Sequence[Frame]:
    """The same, with a type: all of them come from `CudaPipeline.place`."""
    frames: Any = images
    return frames  # type: ignore[no-any-return]  # a check of each would cost time in every run
