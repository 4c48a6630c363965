"""For all tests: the shared test data, TensorRT-RTX, which tests coverage counts, and what saves them time."""

from __future__ import annotations

import gc
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import shared
from helpers.networks import require_rtx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.engine import Flavour

COUNTED = ("unit", "contract")
"""Folders whose tests count for coverage. The others would cost much time and hardly reach another line."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pytest-cov pause in tests that do not count."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] not in COUNTED:
            item.add_marker("no_cover")


def pytest_configure() -> None:
    """Hear Ctrl-C, which tests send: a shell that runs this in the background (``… &``) has every process ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Spare the collected tests from garbage collection: each full one would look at all of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _waiting_threads_sleep() -> Iterator[None]:
    """Let idle threads of ONNX Runtime sleep: by default they spin, on the core that another worker needs."""
    import onnxruntime

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            super().__init__()
            self.add_session_config_entry("session.intra_op.allow_spinning", "0")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "SessionOptions", Options)
        yield


@pytest.fixture(scope="session")
def shared_root() -> Path:
    """The folder of third-party test data beside the repository."""
    return shared.require(shared.SHARED)


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    """`../shared/checkpoints`."""
    return shared.require(shared.CHECKPOINTS)


@pytest.fixture(scope="session")
def photos() -> Path:
    """`../shared/photos`."""
    return shared.require(shared.PHOTOS)


@pytest.fixture(scope="session")
def rtx() -> Flavour:
    """TensorRT-RTX, which builds on machines without a GPU."""
    from yoloship.engine import open_flavour

    require_rtx()
    return open_flavour("rtx")
