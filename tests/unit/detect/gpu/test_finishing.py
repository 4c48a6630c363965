"""What ends the chain refuses; that results are right is tested in tests/gpu/test_tasks.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from helpers.models import info
from yoloship.detect.gpu.finishing import HostFinish
from yoloship.errors import SessionError
from yoloship.runtime.session import DeviceTensor


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_an_output_that_numpy_cannot_hold_is_refused_by_name(dtype: Any) -> None:
    stream: Any = SimpleNamespace(device=None)
    with pytest.raises(SessionError, match=f"boxes: NumPy has no such element type: got {dtype}"):
        HostFinish([DeviceTensor("boxes", dtype, (1, 100, 4), 256)], info("compact"), stream)
