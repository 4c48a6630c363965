"""What tests of detectors on a device have in common."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from yoloship.cuda.device import Device
    from yoloship.detect.detector import Detector


def some_heads(canvas_hw: tuple[int, int], mean: float = -1.5) -> list[npt.NDArray[np.float32]]:
    """The raw heads of a YOLOv5 of three classes for one image, the same for each canvas of that size."""
    rng = np.random.default_rng(canvas_hw[0])
    grids = [(canvas_hw[0] // stride, canvas_hw[1] // stride) for stride in (8, 16, 32)]
    return [rng.normal(mean, 2.0, (3 * 8, *grid)).astype(np.float32) for grid in grids]


@contextmanager
def closed_without_a_trace(*devices: Device) -> Iterator[list[Detector[Any]]]:
    """A list for what a test opens: it is closed in the end, and the devices must hold what they held before."""
    gc.collect()  # what an earlier test left must not count
    before = [device.usage() for device in devices]
    opened: list[Detector[Any]] = []
    yield opened
    for one in opened:
        one.close()
    opened.clear()
    gc.collect()  # an error's traceback and the frames in it hold each other, and these hold pinned memory
    after = [device.usage() for device in devices]
    assert after == before, (after, before)


def fed(detector: Any) -> npt.NDArray[Any]:
    """What the network saw in the last run: its whole input."""
    canvas: npt.NDArray[Any] = detector.session.contexts[-1].fed()
    return canvas
