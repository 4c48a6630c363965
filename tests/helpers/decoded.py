"""Sessions of foreign models that answer with decoded rows, and why one of them is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.models import ANCHORS, STRIDES, random_heads
from yoloship.errors import SessionError
from yoloship.model import TensorSpec
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks import info_of
from yoloship.tasks.decode import heads_to_raw

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from yoloship.model import DType

HW = (64, 96)
METADATA = {"names": "{0: 'alpha', 1: 'beta', 2: 'gamma'}", "stride": "32"}


def raw(seed: int = 0) -> npt.NDArray[np.float32]:
    return heads_to_raw(random_heads(seed, HW), STRIDES, ANCHORS)


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


def refusal(session: ScriptedSession) -> str:
    with pytest.raises(SessionError) as caught:
        info_of(session, "x.onnx")
    return str(caught.value)
