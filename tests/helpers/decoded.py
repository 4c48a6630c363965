"""Sessions of foreign models that answer with decoded rows, and why one of them is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.models import ANCHORS, STRIDES, random_heads
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import SessionError
from yoloship.model import TensorSpec
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks import info_of
from yoloship.tasks.decode import heads_to_raw

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from yoloship.model import DType, ModelInfo
    from yoloship.results.detections import Detections

HW = (64, 96)
METADATA = {"names": "{0: 'alpha', 1: 'beta', 2: 'gamma'}", "stride": "32"}


def raw(seed: int = 0) -> npt.NDArray[np.float32]:
    return heads_to_raw(random_heads(seed, HW), STRIDES, ANCHORS)


def grid_rows(
    strides: tuple[int, ...], hw: tuple[int, int], batch: int = 1, anchors: int = 3
) -> npt.NDArray[np.float32]:
    """Decoded rows of random heads, levels in the order of the strides."""
    rng = np.random.default_rng(4)
    heads = [
        rng.normal(0, 3, (batch, anchors * 8, hw[0] // stride, hw[1] // stride)).astype(np.float32)
        for stride in strides
    ]
    sizes = tuple(tuple((3.0 * stride, 2.0 * stride) for _ in range(anchors)) for stride in strides)
    return heads_to_raw(heads, strides, sizes)


def as_corners(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The same rows with corners in place of centre and size."""
    changed: npt.NDArray[np.float32] = rows.copy()
    changed[..., :2] = rows[..., :2] - rows[..., 2:4] / 2
    changed[..., 2:4] = rows[..., :2] + rows[..., 2:4] / 2
    return changed


def foreign(
    output: npt.NDArray[np.generic],
    metadata: Mapping[str, str] | None = None,
    shape: tuple[int | str, ...] = (1, 3, *HW),
    dtype: DType = "float32",
    declared: tuple[int | str, ...] | None = None,
) -> ScriptedSession:
    answer = TensorSpec("output0", "float32", output.shape if declared is None else declared)
    return ScriptedSession(
        [TensorSpec("images", dtype, shape)],
        [answer],
        lambda _: [output],
        metadata=METADATA if metadata is None else metadata,
    )


def detections(
    record: ModelInfo, output: npt.NDArray[np.float32], image_hw: tuple[int, int], **options: Any
) -> Detections:
    """What a detector finds in a black image with a model that gives this output."""
    height, width = record.input_hw
    session = ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, height or 0, width or 0))],
        [TensorSpec("output0", "float32", output.shape)],
        lambda _: [output],
    )
    with Detector(session, record, options=DetectOptions(**options)) as detector:
        found: Detections = detector(np.zeros((*image_hw, 3), np.uint8))
    return found


def refusal(session: ScriptedSession) -> str:
    with pytest.raises(SessionError) as caught:
        info_of(session, "x.onnx")
    return str(caught.value)
