from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.detect.gpu.steps import VARIABLE, Steps

if TYPE_CHECKING:
    import pytest


def test_steps_are_off_until_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Steps.chosen() == Steps()
    monkeypatch.setenv(VARIABLE, "abreast=2,ordered")
    assert Steps.chosen() == Steps(abreast=2, ordered=True)
