from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from helpers.engine_records import MODEL, plan_bytes, record_of
from yoloship.engine import BuildConfig, EngineRecord, InputProfile, Range, Recipe
from yoloship.errors import EngineError

PLAN = plan_bytes()


def test_a_record_comes_back_as_it_was_written() -> None:
    config = BuildConfig(
        batch=Range(1, 2, 4),
        height=Range(320, 640, 640),
        width=Range(320, 640, 1280),
        input_profiles=(InputProfile("mask", (1,), (2,), (3,)),),
        workspace_bytes=1 << 30,
        targets=("sm86", "sm89"),
        optimization_level=3,
    )
    record = record_of(PLAN, config=config, compute_capability="sm89")
    assert EngineRecord.from_json(record.to_json(), subject="best.engine.json") == record


def test_how_the_graph_came_about_comes_back_too() -> None:
    recipe = Recipe(True, "int8", ("photos",), "labels", "minmax", 0.25, "float16", True, ("x.C3=models.common.C3",))
    record = record_of(PLAN, recipe=recipe)
    assert EngineRecord.from_json(record.to_json(), subject="s") == record


def test_the_earlier_name_of_the_other_layers_is_still_read() -> None:
    record = record_of(PLAN, recipe=Recipe(True, "int8", ("photos",), other_layers="float16"))
    data = json.loads(record.to_json())
    del data["content_sha256"]  # those had none
    data["recipe"]["remainder"] = data["recipe"].pop("other_layers")
    assert EngineRecord.from_json(json.dumps(data), subject="s") == record


@pytest.mark.parametrize(
    ("refined", "source", "recipe"),
    [
        (True, "best.pt", Recipe(from_checkpoint=True, precision="float32")),
        (False, "best.onnx", Recipe()),
    ],
)
def test_a_sidecar_of_an_earlier_release_is_still_read(refined: bool, source: str, recipe: Recipe) -> None:
    data = json.loads(record_of(PLAN, source_name=source).to_json())
    del data["recipe"], data["content_sha256"]
    read = EngineRecord.from_json(json.dumps({**data, "refined": refined}), subject="s")
    assert read.recipe == recipe


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "int4"},
        {"max_drop": float("nan")},
        {"max_drop": 10**400},
        {"max_drop": True},
        {"calibrate": "photos"},
        {"calibrate": ["a\x1b[2J"]},
        {"calibrate": ["a"] * 1001},
        {"labels": ["x"]},
        {"renamed": None},
        {"extra": 1},
    ],
)
def test_a_bad_recipe_is_refused(change: dict[str, Any]) -> None:
    data = json.loads(record_of(PLAN).to_json())
    with pytest.raises(EngineError, match="sidecar: "):
        EngineRecord.from_json(json.dumps({**data, "recipe": {**data["recipe"], **change}}), subject="s")


def test_a_record_without_a_model_comes_back_too() -> None:
    record = record_of(PLAN, model=None)
    assert EngineRecord.from_json(record.to_json(), subject="s") == record


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(record_of(PLAN).to_json()), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s: sidecar is not JSON: got Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "s: sidecar is not a JSON object"),
        ("[" * 200_000, "s: sidecar is not JSON: got maximum recursion depth exceeded"),
        (changed(schema=2), "s: sidecar of another schema: expected 1, got 2; update yoloship if a newer"),
        (changed(extra=1), "s: sidecar has unknown fields: got 'extra'; update yoloship if a"),
        (changed(plan_sha256="AB"), "s: sidecar: bad 'plan_sha256': expected 64 lower-case hex digits, got 'AB'"),
        (changed(plan_bytes=True), "s: sidecar: bad 'plan_bytes': expected an integer from 1 to 281474976710656"),
        (changed(source_name="../up.onnx"), "s: sidecar: bad 'source_name': expected a file name, got '../up.onnx'"),
        (
            changed(source_name="\x1b[2Jbest.onnx"),
            "s: sidecar: bad 'source_name': expected a file name, got '\\x1b[2Jbest.onnx'",
        ),
        (changed(version="1.7; rm"), "s: sidecar: bad 'version': expected a version, got '1.7; rm'"),
        (changed(flavour=["rtx"]), "s: sidecar: bad 'flavour': expected one of tensorrt, rtx, lean, got ['rtx']"),
        (changed(inputs=[{}]), "s: sidecar: bad 'inputs': expected tensors with name, dtype and shape, got [{}]"),
        (changed(config={}), "s: sidecar: bad 'config': expected an object with batch, "),
        (changed(model={"schema": 1}), "s: sidecar: model record: bad 'task': expected a word of small letters"),
    ],
)  # fmt: skip
def test_a_bad_record_is_refused_by_the_field(text: str, message: str) -> None:
    with pytest.raises(EngineError) as caught:
        EngineRecord.from_json(text, subject="s")
    assert str(caught.value).startswith(message)


def test_a_profile_that_lies_about_its_order_is_refused() -> None:
    profile = {"name": "images", "minimum": [8], "optimum": [4], "maximum": [1]}
    with pytest.raises(EngineError, match="s: sidecar: bad 'profiles': bad profile: expected three shapes of one rank"):
        EngineRecord.from_json(changed(profiles=[profile]), subject="s")


def test_a_configuration_out_of_range_is_refused() -> None:
    config = json.loads(record_of(PLAN).to_json())["config"] | {"workspace_bytes": 3}
    with pytest.raises(
        EngineError, match="s: sidecar: bad 'config': bad build option: expected 1048576 to 1099511627776, got 3"
    ):
        EngineRecord.from_json(changed(config=config), subject="s")


def test_a_sidecar_of_many_megabytes_is_refused() -> None:
    with pytest.raises(EngineError, match="s: sidecar too long"):
        EngineRecord.from_json(" " * 9_000_000, subject="s")


def test_a_sidecar_that_says_something_else_than_was_written_is_refused() -> None:
    """Another anchor would move every box in silence."""
    anchors = (((10.0, 13.0), (16.0, 30.0)),) * 3
    text = record_of(PLAN, model=replace(MODEL, output_form="heads", anchors=anchors)).to_json()
    assert EngineRecord.from_json(text, subject="s").model is not None
    for damaged in (text.replace("13.0", "93.0", 1), text.replace("hard hat", "hard cat"), text.replace("16,", "17,")):
        with pytest.raises(EngineError) as caught:
            EngineRecord.from_json(damaged, subject="s")
        assert str(caught.value) == (
            "s: sidecar: was damaged or changed after it was written; copy it again, or build the engine again; "
            "if you changed it on purpose, remove 'content_sha256'"
        )
    edited = json.loads(text.replace("hard hat", "hard cat"))
    del edited["content_sha256"]
    assert EngineRecord.from_json(json.dumps(edited), subject="s").model.class_names[0] == "hard cat"  # type: ignore[union-attr]


def test_a_sidecar_with_one_flipped_bit_is_never_read_as_another() -> None:
    record = record_of(PLAN)
    text, chance = record.to_json().encode(), random.Random(5)
    for _ in range(300):
        damaged = bytearray(text)
        damaged[chance.randrange(len(text))] ^= 1 << chance.randrange(7)
        try:
            assert EngineRecord.from_json(damaged.decode(), subject="s") == record  # a space became another
        except EngineError:
            continue
