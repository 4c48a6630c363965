"""Several models side by side."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from helpers.validated import BOX, dataset, found, sample
from yoloship.validate.choices import ValOptions
from yoloship.validate.comparison import compared
from yoloship.validate.objects import judge_objects

SAMPLES = [sample("a.jpg", [BOX], [0])]
SEEN = {"input": "640×640", "preprocessing": "letterbox", "runtime": "onnxruntime", "precision": "float32"}
ONE = replace(
    judge_objects(SAMPLES, [found([BOX], [0.9], [0])], dataset(SAMPLES), ValOptions()),
    model="best.pt", settings=MappingProxyType(SEEN), speed_ms=MappingProxyType({"network": 20.0}),
)  # fmt: skip


def test_differences_are_those_from_the_first_model() -> None:
    assert ONE.map50_95 is not None
    other = replace(ONE, model="best.onnx", map50_95=ONE.map50_95 - 0.25, speed_ms=MappingProxyType({"network": 10.0}))
    table = compared([ONE, other])
    assert table.headings[:6] == ("model", "runtime", "precision of layers", "input", "mAP 50–95", "Δ")
    first, second = table.rows
    assert first[:6] == ("best.pt", "onnxruntime", "float32", "640×640", "1.0000", "")
    assert second[4:6] == ("0.7500", "-0.2500")
    assert second[-2:] == ("10.0", "2.00")
    assert table.notes == (
        "All models see the same input: 640×640, letterbox. Differences are the models' own.",
    )  # fmt: skip


def test_models_that_see_other_inputs_are_not_called_comparable() -> None:
    other = replace(ONE, settings=MappingProxyType({**SEEN, "input": "320×320"}))
    first, second = compared([ONE, other]).notes
    assert first.startswith("The models do not see the same input")
    assert second == "Inputs: 640×640; 320×320. Preprocessing: letterbox."
