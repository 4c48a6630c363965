"""What a detector's network is fed, and the session that runs it: for tools that measure the network on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from yoloship.detect.preprocess import as_image, letterbox_batch, model_feeds
from yoloship.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.detect.detector import Detector, Source
    from yoloship.runtime import Session


def feed_of(detector: Detector, source: Source) -> dict[str, npt.NDArray[np.generic]]:
    """Prepare an image exactly as `detector(source)` would.

    Args:
        detector: The detector, whose geometry and input form are used.
        source: As `Detector.__call__` takes it; the colours of an array are BGR.

    Returns:
        The arrays for the model's inputs, by name. If the graph's batch is larger than 1, the image is repeated.

    Raises:
        ImageError: the image cannot be read.
    """
    image = as_image(source, count=detector.info.channels)
    letterbox = detector.placement(image.shape[:2])
    batch = detector.info.batch or 1
    canvases = np.empty((batch, *letterbox.input_hw, detector.info.channels), np.uint8)
    letterbox_batch([image] * batch, [letterbox] * batch, canvases)
    return model_feeds(detector.session.inputs, detector.info, canvases)


def host_session(detector: Detector) -> Session:
    """The session that runs a detector's network, if it takes arrays in the host's memory.

    Raises:
        InputError: all steps from an image to its boxes run on a GPU.
    """
    session = detector.session
    if not hasattr(session, "run"):
        raise InputError(
            "the outputs of its network stay on the GPU",
            subject=detector.model_name,
            hint="open it with yoloship.evaluate.artefact.open_artefact",
        )
    return cast("Session", session)
