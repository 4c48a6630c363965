"""A model that takes images and gives detections: `Detector`."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from yoloship._util.closing import Closing
from yoloship.detect.options import DetectOptions
from yoloship.detect.preprocess import letterbox_batch, refuse_files, to_input
from yoloship.detect.stream import Outcome, in_order
from yoloship.errors import InputError, SessionError
from yoloship.letterbox import Letterbox
from yoloship.models.recognise import decoded_spec, recognise
from yoloship.results.detections import Detections, class_ids_of
from yoloship.tasks.detect import decode
from yoloship.tasks.nms import nms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.detect.stream import Reserve
    from yoloship.model import ModelInfo
    from yoloship.runtime import Session
    from yoloship.tasks.detect import Candidates

    Image = npt.NDArray[np.uint8]
    Source = str | Path | bytes | Image | object


class DetectorFace(Closing):
    """Base of detectors.

    Args:
        info: What the model is.
        options: What is kept unless a call says otherwise.
        shape_mode: How a picture meets the canvas.
        limit_hw: (height, width) of the canvas in model pixels; in `rect` mode its limit.
        subject: The model's name, for messages.
    """

    def __init__(
        self, info: ModelInfo, options: DetectOptions, shape_mode: ShapeMode, limit_hw: tuple[int, int], subject: str
    ) -> None:
        self._info = info
        self._options = options
        self._shape_mode: ShapeMode = shape_mode
        self._limit_hw = limit_hw
        self._subject = subject

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._info

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by class id."""
        return self._info.class_names

    @property
    def options(self) -> DetectOptions:
        """What is kept unless a call says otherwise."""
        return self._options

    @property
    def shape_mode(self) -> ShapeMode:
        """How a picture meets the canvas."""
        return self._shape_mode

    @property
    def input_hw(self) -> tuple[int, int]:
        """(height, width) of the canvas in model pixels; in `rect` mode its limit."""
        return self._limit_hw

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """Where a picture of this size lies on the model's canvas."""
        if self._shape_mode == "rect":
            return Letterbox.rect(image_hw, self._limit_hw, self._info.size_multiple)
        return Letterbox.fixed(image_hw, self._limit_hw)


ShapeMode: TypeAlias = Literal["square", "rect"]
"""``square``: every picture lies on one canvas of a fixed size. ``rect``: the canvas ends at the next multiple of the
stride, which is faster and gives slightly other numbers; only where the graph's height and width are dynamic."""

DEFAULT_SIDE = 640
MAX_CANDIDATES = 30_000
"""Of a picture's candidates only this many, the best, meet in suppression; a limit that the field's tools share. At
640×640 a YOLOv5 has 25,200 in all, so it bites only on large canvases at thresholds near 0."""
MAX_BATCH = 16
"""Pictures a run where the graph's batch is dynamic: bounds the memory, and on a CPU larger batches are not faster."""


class Detector(DetectorFace):
    """Finds objects in pictures. It owns its session: use it as a context manager, or close it.

    Many threads may call it at once.

    Args:
        session: The model; closed with the detector.
        info: What the model is; None reads it from the session.
        options: What to keep, unless a call says otherwise.
        imgsz: (height, width) of the canvas, in `rect` mode its limit; None takes the graph's own size, else 640×640.
        shape_mode: How a picture meets the canvas.
        parallel_runs: How many runs of the session `stream` keeps under way at once; 1 where a run uses all cores.
        subject: The model's name, for messages.

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
        parallel_runs: int = 1,
        subject: str = "model",
    ) -> None:
        found = recognise(session, subject, canvas_hw=imgsz) if info is None else info
        limit_hw = canvas_for(found, imgsz, shape_mode, subject)
        chosen = DetectOptions.checked(options) or DetectOptions.of(found.nms)
        super().__init__(found, chosen, shape_mode, limit_hw, subject)
        self._session = session
        self._closed = False
        if parallel_runs < 1:
            raise InputError("too few runs", subject="parallel_runs", expected="1 or more", got=str(parallel_runs))
        self._parallel_runs = parallel_runs
        self._spare: deque[Image] = deque(maxlen=4)
        self._wanted(self._options)

    @property
    def session(self) -> Session:
        """What runs the model."""
        return self._session

    def __call__(self, image: Source, *, options: DetectOptions | None = None) -> Detections:
        """Find the objects of one picture.

        Args:
            image: A file's name, its bytes, a file that is open for reading bytes, a PIL image, or an array: (height,
                width, 3) uint8 BGR, or another form that `yoloship.images.as_bgr` takes. Read only.
            options: In place of the detector's own.

        Returns:
            Boxes in source pixels, clipped to the picture, best first.

        Raises:
            ImageError: the picture cannot be read.
            InputError: it is no picture, or an option names a class that the model does not have.
            SessionError: the runtime failed, or the detector is closed.
        """
        return self.detect_batch((image,), options=options)[0]

    def detect_batch(self, images: Iterable[Source], *, options: DetectOptions | None = None) -> list[Detections]:
        """Find the objects of several pictures of any sizes; see `__call__`.

        They go through the model together where its batch allows. All of them are held in memory at once: for more
        than a few use `stream`.

        Returns:
            One result for each picture, in their order.
        """
        options = self._chosen_options(options)
        wanted = self._wanted(options)
        pictures = [as_picture(image, channels=self._info.channels) for image in images]
        letterboxes = [self.letterbox(picture.shape[:2]) for picture in pictures]
        results: list[Detections | None] = [None] * len(pictures)
        for rows in self._runs(letterboxes):
            placed = [letterboxes[row] for row in rows]
            found = self._run([pictures[row] for row in rows], placed, options)
            for row, letterbox, candidates in zip(rows, placed, found, strict=False):
                results[row] = finish(candidates, letterbox, options, wanted, self.names)
        return [result for result in results if result is not None]

    def stream(
        self, sources: Iterable[Source], *, options: DetectOptions | None = None, keep_images: bool = False
    ) -> Iterator[Outcome]:
        """Find the objects of any number of pictures, reading ahead while the model runs.

        At most a few pictures are held at once, however many there are. A picture that fails takes its place in the
        order as an error and does not stop the rest. Leave early by closing the generator (a `break` and dropping it
        does): what is under way ends, nothing new begins.

        Args:
            sources: As `__call__` takes them; a lazy iterable is drawn from as the results are consumed.
            options: In place of the detector's own.
            keep_images: Whether each `Outcome` carries its picture, for drawing.

        Yields:
            One `Outcome` for each source, in their order.

        Raises:
            InputError: an option names a class that the model does not have.
        """
        options = self._chosen_options(options)
        self._wanted(options)

        def detect(image: Image) -> Detections:
            return self(image, options=options)

        def read(source: object, reserve: Reserve) -> Image:
            return as_picture(source, reserve, channels=self._info.channels)

        return in_order(sources, read, detect, parallel_runs=self._parallel_runs, keep_images=keep_images)

    def close(self) -> None:
        """Close the session. Closing twice is no error."""
        self._closed = True
        self._session.close()
        self._spare.clear()

    def __repr__(self) -> str:
        height, width = self._limit_hw
        return f"Detector({len(self.names)} classes, {height}×{width} {self._shape_mode}, {self._session.name})"

    def _chosen_options(self, options: DetectOptions | None) -> DetectOptions:
        """What a call keeps; refused once the detector is closed."""
        if self._closed:
            raise SessionError("the detector is closed", subject=self._subject)
        return DetectOptions.checked(options) or self._options

    def _wanted(self, options: DetectOptions) -> npt.NDArray[np.int32] | None:
        """The class ids to keep; None keeps all. Options that the model cannot serve are refused here."""
        if self._info.nms is not None:
            options.check_against(self._info.nms, self._subject)
        return None if options.classes is None else np.array(class_ids_of(options.classes, self.names), np.int32)

    def _runs(self, letterboxes: Sequence[Letterbox]) -> Iterator[list[int]]:
        """Which pictures go through the model together: those of one canvas size, as many as a run takes."""
        groups: dict[tuple[int, int], list[int]] = {}
        for row, letterbox in enumerate(letterboxes):
            groups.setdefault(letterbox.input_hw, []).append(row)
        size = self._info.batch or MAX_BATCH
        for rows in groups.values():
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def _run(
        self, pictures: Sequence[Image], letterboxes: Sequence[Letterbox], options: DetectOptions
    ) -> list[Candidates]:
        input_hw = letterboxes[0].input_hw
        batch = self._info.batch or len(pictures)
        with self._canvases((batch, *input_hw, self._info.channels)) as canvases:
            spec = self._session.inputs[0]
            feed = to_input(letterbox_batch(pictures, letterboxes, canvases), spec.dtype)
            outputs = self._session.run({spec.name: feed})
        found = decode(self.decodable(outputs), self._info, input_hw, options.score_threshold)
        if len(found) != batch:
            raise SessionError("the model answers for another batch", expected=str(batch), got=str(len(found)))
        return found

    def decodable(self, outputs: tuple[npt.NDArray[np.generic], ...]) -> Sequence[npt.NDArray[np.generic]]:
        """The outputs of a run that `yoloship.tasks.detect` takes.

        Of the form ``raw`` only the decoded one counts: many exports give the undecoded maps beside it.

        Args:
            outputs: All that the session gave.
        """
        if self._info.output_form != "raw":
            return outputs
        place = self._session.outputs.index(decoded_spec(self._session.outputs, self._info))
        return outputs[place : place + 1]

    @contextmanager
    def _canvases(self, shape: tuple[int, ...]) -> Iterator[Image]:
        """A canvas for one run, used again by a later one of the same size."""
        try:
            canvases = self._spare.pop()
        except IndexError:
            canvases = np.empty(shape, np.uint8)
        if canvases.shape != shape:
            canvases = np.empty(shape, np.uint8)
        yield canvases
        self._spare.append(canvases)


def as_picture(source: Source, reserve: Reserve | None = None, *, channels: int = 3) -> Image:
    """Read whatever a caller may hand over as an image; see `Detector.__call__`.

    Args:
        source: A file's name, its bytes, an open file, a PIL image, or an array or what can become one.
        reserve: Called before a file is decoded, with the bytes that this takes. It may wait, or raise.
        channels: What the model takes. For 1, colour images stay in colour here, so that they can be drawn on.

    Raises:
        InputError: it is not an image, or not one of so many channels.
    """
    from pathlib import Path

    from yoloship import images

    if isinstance(source, bytearray | memoryview):
        source = bytes(source)
    elif hasattr(source, "read") and not hasattr(source, "__array__"):
        source = images.bytes_of_file(source)
    if not isinstance(source, str | Path | bytes):
        return images.as_channels(source, channels)
    refuse_files(channels, "image bytes" if isinstance(source, bytes) else str(source))
    return images.read_image(source, reserve=reserve)


def canvas_for(info: ModelInfo, imgsz: tuple[int, int] | None, shape_mode: ShapeMode, subject: str) -> tuple[int, int]:
    """The canvas size, checked against the graph."""
    if shape_mode not in get_args(ShapeMode):
        raise InputError(
            "no such mode", subject="shape_mode", expected=" or ".join(get_args(ShapeMode)), got=repr(shape_mode)
        )
    height, width = info.input_hw
    if shape_mode == "rect" and (height is not None or width is not None):
        raise InputError(
            "rectangular input needs a graph of dynamic height and width",
            subject=subject,
            got=f"{height or 'dynamic'}×{width or 'dynamic'}",
            hint="export it with '--imgsz dynamic', load the .pt itself, or use the square mode",
        )
    wanted = imgsz or (height or DEFAULT_SIDE, width or DEFAULT_SIDE)
    for have, want in zip(info.input_hw, wanted, strict=True):
        if have is not None and have != want:
            raise InputError(
                "the graph has a fixed size",
                subject=subject,
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
    return wanted


def finish(
    candidates: Candidates,
    letterbox: Letterbox,
    options: DetectOptions,
    wanted: npt.NDArray[np.int32] | None,
    names: tuple[str, ...],
) -> Detections:
    """Suppress, go back to the picture, clip.

    Where the graph has suppressed already this changes nothing, but where its iterations did not suffice: what it gives
    then is a superset, and suppressing it once more gives the exact result.
    """
    if wanted is not None:
        candidates = candidates.take(np.isin(candidates.class_ids, wanted))
    if len(candidates) > MAX_CANDIDATES:
        best = np.sort(np.argsort(-candidates.scores, kind="stable")[:MAX_CANDIDATES])
        candidates = candidates.take(best)
    groups = np.zeros_like(candidates.class_ids) if options.class_agnostic else candidates.class_ids
    kept = candidates.take(
        nms(
            candidates.boxes_xyxy,
            candidates.scores,
            groups,
            iou_threshold=options.iou_threshold,
            max_detections=options.max_detections,
        )
    )
    height, width = letterbox.image_hw
    boxes = letterbox.to_image(kept.boxes_xyxy.astype(np.float64))  # float32 could overflow before it is clipped
    clipped = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    return Detections(clipped, kept.scores, kept.class_ids, names, letterbox.image_hw, kept.complete)


def feed_of(detector: Detector, source: Source) -> dict[str, npt.NDArray[np.generic]]:
    """Prepare a picture exactly as `detector(source)` would.

    Args:
        detector: Whose geometry and input form count.
        source: As `Detector.__call__` takes it.

    Returns:
        The array for the model's input by its name; where the graph wants more pictures a run, the same one again.

    Raises:
        ImageError: the picture cannot be read.
    """
    picture = as_picture(source, channels=detector.info.channels)
    letterbox = detector.letterbox(picture.shape[:2])
    batch = detector.info.batch or 1
    canvases = np.empty((batch, *letterbox.input_hw, detector.info.channels), np.uint8)
    letterbox_batch([picture] * batch, [letterbox] * batch, canvases)
    spec = detector.session.inputs[0]
    return {spec.name: to_input(canvases, spec.dtype)}
