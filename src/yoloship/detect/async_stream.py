"""The outcomes of a stream for ``async for``, without blocking the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Sequence

    from yoloship.detect.options import DetectOptions
    from yoloship.detect.stream import Outcome
    from yoloship.images import ChannelOrder
    from yoloship.results import ResultT


class StreamArguments(TypedDict, total=False):
    """The arguments of `Detector.stream` besides the sources."""

    options: DetectOptions | None
    score_threshold: float | None
    iou_threshold: float | None
    classes: Sequence[int | str] | None
    channels: ChannelOrder | None
    keep_images: bool


async def asynchronously(outcomes: Generator[Outcome[ResultT], None, None]) -> AsyncIterator[Outcome[ResultT]]:
    """Yield the outcomes of a stream while other tasks run.

    The stream runs in a thread of its own, which also reads its sources. It goes on only when the next outcome is
    asked for, so it reads no further ahead than without this. However the iteration ends, the stream is closed: images
    that have begun are finished, and no new ones begin.

    Args:
        outcomes: What `Detector.stream` returned.

    Yields:
        The same outcomes.
    """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1, thread_name_prefix="yoloship-astream")
    try:
        while (outcome := await loop.run_in_executor(pool, next, outcomes, None)) is not None:
            yield outcome
    finally:  # after a cancellation, the thread may still wait for an outcome; closing comes after that
        closed = loop.run_in_executor(pool, outcomes.close)
        pool.shutdown(wait=False)
        await asyncio.shield(closed)
