"""What a detector feeds its model for a picture, without running it: for calibration and for comparing models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.pipeline.detector import as_picture
from yoloship.pipeline.preprocess import letterbox_batch, to_input

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.pipeline.detector import Detector, Source


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
