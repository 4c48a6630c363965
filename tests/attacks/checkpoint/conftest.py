"""Both containers, for every attack."""

from __future__ import annotations

import pytest

from helpers import forge


@pytest.fixture(params=[forge.zip_bytes, forge.legacy_bytes], ids=["zip", "legacy"])
def container(request: pytest.FixtureRequest) -> forge.Container:
    writer: forge.Container = request.param
    return writer
