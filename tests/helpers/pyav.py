"""Which PyAV there is."""

from __future__ import annotations

import pytest


def needs_pyav_for_gpus() -> None:
    """Skip a module without PyAV, or with one that is too old to decode on a GPU, as the newest for Python 3.10 is."""
    av = pytest.importorskip("av", reason="needs PyAV")
    if not hasattr(av.VideoFrame, "sw_format"):
        pytest.skip(f"PyAV {av.__version__} is too old to decode on a GPU", allow_module_level=True)
