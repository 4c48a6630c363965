"""These tests run in a process of their own for each version of the bindings, which test_each_version.py starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.tensorrt_library.wheels import chosen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers.tensorrt_library.host import Library
    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.engine import Flavour

collect_ignore_glob = [] if chosen() else ["test_*.py"]


@pytest.fixture(scope="session")
def library() -> Library:
    from helpers.tensorrt_library import host

    return host.library()


@pytest.fixture(scope="session")
def tensorrt() -> Flavour:
    """The real bindings."""
    from yoloship.engine import open_flavour

    return open_flavour("tensorrt")


@pytest.fixture(scope="session")
def device() -> Iterator[Device]:
    from yoloship.cuda.device import Device

    with Device.open() as opened:
        yield opened


@pytest.fixture
def stream(device: Device) -> Iterator[Stream]:
    from yoloship.cuda.stream import Stream

    with Stream(device) as opened:
        yield opened
