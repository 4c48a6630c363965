"""Frames from pinned host memory to the device by a kernel instead of a copy engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.cuda.catalogue import Launchable
    from yoloship.cuda.stream import Stream

_BLOCKS: Final = 128
_THREADS: Final = 256


def launch_fetch(kernels: Mapping[str, Launchable], stream: Stream, frame_table: int, batch: int) -> None:
    """Queue copying the pixels of those frames whose descriptor has a source to where the letterbox reads them.

    Args:
        kernels: A `KernelSet`.
        stream: Its place among other work.
        frame_table: Device address of what `frames.pack_frames` made.
        batch: Frames in it.

    Raises:
        CudaError: the launch failed.
    """
    kernels["fetch_frames"].launch(stream, (_BLOCKS, batch, 1), (_THREADS, 1, 1), frame_table)
