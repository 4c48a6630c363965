"""What `build` says of layers that did not take the precision, where a GPU can load the engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from helpers.engine_records import ADA, MODEL
from yoloship.conversion import engines
from yoloship.engine import Flavour
from yoloship.engine.inspect import Loaded, LoadedLayer
from yoloship.errors import EngineError

HALF: Any = SimpleNamespace(precision="float16")
BUILT: Any = SimpleNamespace(plan=b"plan")
FLAVOUR = Flavour("tensorrt", "10.13", SimpleNamespace())


def notes(monkeypatch: pytest.MonkeyPatch, layers: list[LoadedLayer] | EngineError, gpu: Any = ADA) -> list[str]:
    def load(*_: Any, **__: Any) -> Loaded:
        if isinstance(layers, EngineError):
            raise layers
        return Loaded((), tuple(layers), None)

    monkeypatch.setattr("yoloship.cuda.device.find_gpu", lambda: gpu)
    monkeypatch.setattr("yoloship.engine.inspect.load_facts", load)
    return list(engines._precision_notes(FLAVOUR, BUILT, HALF))


def layer(name: str, weights: str) -> LoadedLayer:
    return LoadedLayer(name, "conv", "FP16", weights)


def test_layers_of_another_type_are_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [layer("a", "Half"), layer("b", "Float"), *(layer(f"c{number}", "Float") for number in range(9))]
    (note,) = notes(monkeypatch, layers)
    assert note == (
        "10 of 11 layers with weights did not take float16: b (Float), c0 (Float), c1 (Float), c2 (Float), c3 (Float), "
        "c4 (Float), c5 (Float), c6 (Float) and 2 more"
    )


def test_nothing_is_said_if_all_took_it_or_if_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert notes(monkeypatch, [layer("a", "Half"), LoadedLayer("reformat", "Reformat", "FP32")]) == []
    assert notes(monkeypatch, [layer("b", "Float")], gpu=None) == []
    assert notes(monkeypatch, EngineError("was built for another GPU")) == []
    assert list(engines._precision_notes(FLAVOUR, BUILT, None)) == []
    assert list(engines._precision_notes(FLAVOUR, BUILT, MODEL)) == []  # float32
