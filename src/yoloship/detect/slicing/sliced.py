"""Finds the objects of large images in overlapping tiles: `SlicedDetector`."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

from yoloship.detect.preprocess import as_image, several_images
from yoloship.detect.slicing.merge import Part, merged
from yoloship.detect.slicing.tiles import Slicing, Tile, tiles_of
from yoloship.detect.stream import Outcome, opened
from yoloship.errors import InputError, YoloshipError
from yoloship.images.normalise import checked_order
from yoloship.results.detections import Detections
from yoloship.sources.source import Frame, Source
from yoloship.tasks import task_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self, Unpack

    from yoloship.detect.async_stream import StreamArguments
    from yoloship.detect.detector import Detector
    from yoloship.detect.detector import Source as AnyImage
    from yoloship.detect.options import DetectOptions
    from yoloship.images import ChannelOrder
    from yoloship.model import ModelInfo
    from yoloship.sources import SourceOptions

    Image = npt.NDArray[np.uint8]


@dataclass(slots=True)
class _Pending:
    """An image whose tiles are under way, or one that could not be read."""

    index: int
    source: object
    image: Image | None
    tiles: tuple[Tile, ...] = ()
    parts: list[Part] = field(default_factory=list)
    seen: int = 0
    error: YoloshipError | None = None

    @property
    def is_done(self) -> bool:
        return self.seen == len(self.tiles)

    def take(self, outcome: Outcome[Any]) -> None:
        """Take the outcome of the next tile. The first error is that of the image."""
        if outcome.error is not None:
            self.error = self.error or outcome.error
        elif isinstance(outcome.result, Detections):
            self.parts.append(Part(self.tiles[self.seen], outcome.result))
        else:
            self.error = InputError(
                "gives no boxes that can be merged", subject="slicing", got=type(outcome.result).__name__
            )
        self.seen += 1


class _Tiles(Source):
    """The tiles of all images. They come as those of a source, so that a stream waits for no frame of a camera.

    Args:
        sliced: Says which tiles an image has.
        images: What the caller gave.
        channels: The order of the colours of arrays.
        under_way: Gets each image before its first tile.
    """

    help = "Tiles of images."

    def __init__(
        self,
        sliced: SlicedDetector,
        images: Iterable[AnyImage],
        channels: ChannelOrder,
        under_way: deque[_Pending],
    ) -> None:
        self._sliced, self._images, self._channels, self._under_way = sliced, images, channels, under_way
        self.is_live = isinstance(images, Source) and images.is_live
        self._is_inside = False

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions | None = None) -> Self:
        """It has no name."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether there are tiles left, or the next image is there."""
        return self._is_inside or not isinstance(self._images, Source) or self._images.is_ready()

    def __iter__(self) -> Iterator[Frame]:
        """Each tile, a part of its image in memory; an image that cannot be read has none."""
        count = self._sliced.info.channels
        for index, source in enumerate(self._images):
            try:
                image = as_image(source, count=count, channels=self._channels)
                tiles = self._sliced.tiles((image.shape[0], image.shape[1]))
            except YoloshipError as error:
                self._under_way.append(_Pending(index, source, None, error=error))
                continue
            self._under_way.append(_Pending(index, source, image, tiles))
            for number, tile in enumerate(tiles):
                self._is_inside = number + 1 < len(tiles)
                yield Frame(number, "tile", image[tile.top : tile.bottom, tile.left : tile.right])
            del image


class SlicedDetector:
    """A detector that runs on overlapping tiles of an image, to find small objects in large images.

    The tiles of all images go through one stream of the detector, which runs them at the same time or in batches. They
    are views of the image in memory, and only a few are copied at once.

    Args:
        detector: Runs the model; the caller closes it. `DetectOptions.max_detections` is the limit of one tile.
        slicing: How images are cut into tiles and their objects merged; None takes the defaults.

    Raises:
        InputError: the model classifies whole images, or the boxes of its task cannot be merged in this way.
    """

    def __init__(self, detector: Detector[Detections], slicing: Slicing | None = None) -> None:
        self._detector = detector
        self._slicing = Slicing() if slicing is None else slicing
        task = task_of(detector.info, detector.model_name)
        if not task.has_boxes:
            raise InputError(
                f"is a {task.title}, which gives one result for the whole image and cannot be sliced (--slice)",
                subject=detector.model_name, hint="leave it out",
            )  # fmt: skip
        if task.name == "obb" and self._slicing.merge != "iou":
            raise InputError(
                f"cannot be {self._slicing.merge!r} for oriented boxes, which are compared by their probabilistic IoU",
                subject="slicing: merge (--slice-merge)", expected="iou", got=self._slicing.merge, hint="leave it out",
            )  # fmt: skip

    @property
    def detector(self) -> Detector[Detections]:
        """The detector that runs the tiles."""
        return self._detector

    @property
    def info(self) -> ModelInfo:
        """The model's description."""
        return self._detector.info

    @property
    def slicing(self) -> Slicing:
        """How images are cut into tiles, and their objects merged."""
        return self._slicing

    def tiles(self, image_hw: tuple[int, int]) -> tuple[Tile, ...]:
        """The parts of an image that the model sees: the tiles row by row, then the whole image if it is included.

        Args:
            image_hw: (height, width) of the image in pixels. If it is no larger than a tile, it is the only part.

        Raises:
            InputError: there are too many.
        """
        tiles = tiles_of(image_hw, self._slicing.tile_hw or self._detector.input_hw, self._slicing.overlap)
        return (*tiles, Tile.whole(image_hw)) if self._slicing.whole and len(tiles) > 1 else tiles

    def __call__(
        self,
        image: AnyImage,
        *,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
    ) -> Detections:
        """Find the objects of one image.

        Args:
            image: As `Detector.__call__` takes it, in the memory of the host. Read only.
            options: What to keep of the objects of each tile; None takes the options of the detector.
            score_threshold: As `Detector.__call__` takes it.
            iou_threshold: As `Detector.__call__` takes it, within a tile.
            classes: As `Detector.__call__` takes it.
            channels: As `Detector.__call__` takes it.

        Returns:
            Boxes in source pixels, clipped to the image, best first.

        Raises:
            YoloshipError: the image, an option or a run failed, with the class of error that a detector raises.
        """
        outcomes = self.stream(
            [image], options=options, score_threshold=score_threshold, iou_threshold=iou_threshold, classes=classes,
            channels=channels,
        )  # fmt: skip
        return next(iter(list(outcomes))).unwrap()

    def stream(  # noqa: PLR0913 - all but the sources have defaults
        self,
        sources: Iterable[AnyImage] | str | PathLike[str],
        *,
        options: DetectOptions | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Sequence[int | str] | None = None,
        channels: ChannelOrder | None = None,
        keep_images: bool = False,
    ) -> Iterator[Outcome[Detections]]:
        """Find the objects of any number of images; the next one is read while the tiles of the previous one run.

        Args:
            sources: As `Detector.stream` takes them, in the memory of the host.
            options: What to keep of the objects of each tile; None takes the options of the detector.
            score_threshold: As `Detector.__call__` takes it.
            iou_threshold: As `Detector.__call__` takes it, within a tile.
            classes: As `Detector.__call__` takes it.
            channels: As `Detector.__call__` takes it.
            keep_images: Whether each `Outcome` contains its image, for drawing.

        Yields:
            One `Outcome` for each source, in their order.

        Raises:
            InputError: an option names a class that the model does not have.
            SessionError: the detector is closed.
        """
        if isinstance(sources, str | PathLike):
            sources = opened(sources)
        several_images(sources, self.info.channels)
        order = self._detector.channels if channels is None else checked_order(channels)
        under_way: deque[_Pending] = deque()
        tiles = self._detector.stream(
            _Tiles(self, sources, order, under_way), options=options, score_threshold=score_threshold,
            iou_threshold=iou_threshold, classes=classes, channels="bgr",
        )  # fmt: skip
        return self._put_together(tiles, under_way, keep_images=keep_images)

    def astream(
        self, sources: Iterable[AnyImage] | str | PathLike[str], **how: Unpack[StreamArguments]
    ) -> AsyncIterator[Outcome[Detections]]:
        """Like `stream`, for ``async for``. Another thread reads the sources; other tasks run meanwhile.

        Args:
            sources: As for `stream`.
            how: The other arguments of `stream`.

        Raises:
            InputError: an option names a class that the model does not have.
            SessionError: the detector is closed.
        """
        from yoloship.detect.async_stream import asynchronously

        return asynchronously(cast("Generator[Outcome[Detections], None, None]", self.stream(sources, **how)))

    def _put_together(
        self, tiles: Iterator[Outcome[Detections]], under_way: deque[_Pending], *, keep_images: bool
    ) -> Iterator[Outcome[Detections]]:
        """The outcome of each image, once it has those of all its tiles."""
        with closing(cast("Generator[Outcome[Detections]]", tiles)):
            for outcome in tiles:
                yield from self._finished(under_way, keep_images=keep_images)  # those that could not be read
                under_way[0].take(outcome)
                yield from self._finished(under_way, keep_images=keep_images)
        yield from self._finished(under_way, keep_images=keep_images)

    def _finished(self, under_way: deque[_Pending], *, keep_images: bool) -> Iterator[Outcome[Detections]]:
        while under_way and under_way[0].is_done:
            yield self._outcome(under_way.popleft(), keep_images=keep_images)

    def _outcome(self, picture: _Pending, *, keep_images: bool) -> Outcome[Detections]:
        error, result = picture.error, None
        if error is None and picture.image is not None:
            alone = len(picture.tiles) == 1
            image_hw = (picture.image.shape[0], picture.image.shape[1])
            result = picture.parts[0].found if alone else merged(picture.parts, image_hw, self._slicing)
        return Outcome(picture.index, picture.source, result, error, picture.image if keep_images else None)
