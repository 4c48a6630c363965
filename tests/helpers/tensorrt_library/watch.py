"""A pytest plugin for a process with the bindings: nothing may be destroyed out of order, or live at the end."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from helpers.tensorrt_library.host import library

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _in_order() -> Iterator[None]:
    yield
    faults = library().faults
    library().forgive()
    assert not faults, f"TensorRT's objects: {'; '.join(faults)}"


@pytest.fixture(autouse=True, scope="session")
def _nothing_left() -> Iterator[None]:
    yield
    gc.collect()
    assert library().alive == {}, "objects of TensorRT that nothing destroyed"
