"""INT8 and FP8 from images: which calibrate, which measure, and what the budget is of."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from helpers.graphs import HUGE, HW, kept_layers, ours, scaled
from yoloship.detect.detector import Detector
from yoloship.detect.feeds import host_session
from yoloship.detect.options import DetectOptions
from yoloship.errors import GraphError, ImageError, InputError, SessionError
from yoloship.evaluate.coco import Truth
from yoloship.graph import graph_bytes
from yoloship.graph.body import layer_precisions
from yoloship.graph.onnx_file import opset, read_metadata, read_model_info
from yoloship.graph.passes.half import OTHER_LAYERS_KEY, convert_precision, emulate, is_half, quantized_precision
from yoloship.precision.lowering import in_precision
from yoloship.precision.quantization import MEASURE_IMAGES, QuantizeConfig, opener, quantize_with_images, split
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.graph.passes.quantize import QuantizedPrecision

RNG = np.random.default_rng(5)
IMAGES = [RNG.integers(0, 256, (*HW, 3), np.uint8) for _ in range(16)]
FAINT: dict[str, Any] = {"score_threshold": 0.001, "calibrator": "minmax"}
"""The generated network's weights are random, and its scores low."""


def truths() -> list[Truth]:
    with opener(None)(ours("heads", "image")) as detector:
        found = [detector(image, options=DetectOptions(score_threshold=0.002)) for image in IMAGES]
    return [Truth(one.boxes_xyxy[:3], one.class_ids[:3]) for one in found]


@pytest.mark.parametrize("count", [1, 3, 15, 16, 17, 64, 1000])
def test_of_enough_images_every_fourth_is_held_back_and_of_few_all_serve_both(count: int) -> None:
    calibrating, measuring = split(count)
    if count < 16:
        assert calibrating == measuring == tuple(range(count))
    else:
        assert not set(calibrating) & set(measuring)
        assert len(calibrating) == count - count // 4
        assert len(measuring) == min(count // 4, MEASURE_IMAGES)


def test_the_budget_is_measured_on_images_that_did_not_calibrate() -> None:
    steps: list[tuple[str, float, float]] = []
    config = QuantizeConfig(max_drop=1, other_layers="float32", **FAINT)
    quantize_with_images(ours("heads", "image"), IMAGES, config, on_progress=lambda *step: steps.append(step))
    assert [step for step in steps if step[0] == "calibrating"][-1] == ("calibrating", 11, 12)


def test_with_truths_the_budget_is_of_map() -> None:
    pytest.importorskip("pycocotools")
    config = QuantizeConfig(max_drop=1, other_layers="float32", **FAINT)
    found = quantize_with_images(ours("heads", "image"), IMAGES, config, truths=truths())
    result = in_precision(ours("heads", "image"), "int8", IMAGES, config=config, truths=truths())
    assert result.words == (
        "int8 in 57 of 60 convolutions, 98% of the arithmetic; "
        f"mAP is {abs(found.drop):.4f} {'below' if found.drop >= 0 else 'above'} float32's"
    )
    assert result.warnings == (
        "only 16 calibration images: ranges found on so few may not hold in use; take 50 or more images like those in "
        "use",
    )
    assert found.drop != 0


def test_truths_that_do_not_fit_are_refused_before_anything_is_calibrated() -> None:
    pytest.importorskip("pycocotools")
    nothing = [Truth(np.empty((0, 4)), np.empty(0, int))] * 16
    unnamed = [Truth(np.array([[0, 0, 9, 9]]), np.array([999]))] * 16
    cases = (
        (truths()[:3], "images and truths differ in number: got 16 and 3"),
        (nothing, "no image has an object"),
        (unnamed, "class 999: has no name"),
    )
    for wrong, words in cases:
        with pytest.raises(InputError, match=words):
            quantize_with_images(ours("heads", "image"), IMAGES, QuantizeConfig(**FAINT), truths=wrong)


def test_images_on_which_nothing_is_seen_are_refused_unless_the_budget_allows_everything() -> None:
    model, config = ours("heads", "image"), {"score_threshold": 0.99, "calibrator": "minmax", "other_layers": "float32"}
    with pytest.raises(ImageError, match="nothing is detected on any of the images"):
        quantize_with_images(model, IMAGES[:2], QuantizeConfig(**config))  # type: ignore[arg-type]
    assert quantize_with_images(model, IMAGES[:2], QuantizeConfig(**config, max_drop=1)).drop == 0  # type: ignore[arg-type]


def run_where_it_can(model: onnx.ModelProto) -> Detector:
    """Older runtimes move an FP8 pair across a Transpose, and then refuse what they have made (seen in 1.23.2)."""
    try:
        return opener(None)(model)
    except SessionError as error:
        older = tuple(map(int, version("onnxruntime").split(".")[:2])) < (1, 32)
        if older and "operator (Transpose)" in str(error) and "float8e4m3fn" in str(error):
            pytest.skip(f"onnxruntime {version('onnxruntime')} does not run FP8 behind a Transpose")
        raise


@pytest.mark.parametrize("precision", ["int8", "float8"])
def test_what_quantization_leaves_is_float16_between_float32_ends(precision: QuantizedPrecision) -> None:
    base = ours("heads", "image")
    config = QuantizeConfig(precision=precision, max_drop=1, **FAINT)
    model = quantize_with_images(base, IMAGES[:2], config).model
    onnx.checker.check_model(model, full_check=True)
    assert opset(model) == 19
    assert quantized_precision(model) == precision
    assert read_metadata(model)[OTHER_LAYERS_KEY] == "float16"
    assert kept_layers(read_metadata(model)) == ()
    info = read_model_info(read_metadata(model), "x")
    assert info is not None
    assert info.precision == precision
    computed = {layer.precision for layer in layer_precisions(model)}
    assert computed == {{"int8": "int8", "float8": "float8_e4m3fn"}[precision], "float16"}
    casts = {node.output[0] for node in model.graph.node if node.op_type == "Cast"}
    assert not any(casts.intersection(node.input) for node in model.graph.node if node.op_type == "DequantizeLinear")
    pairs = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert sum(pairs.issuperset(node.input[:2]) for node in convolutions) == len(convolutions) - 3
    with opener(None)(base) as right, run_where_it_can(model) as have, opener(None)(emulate(model)) as meant:
        specs = [(spec.name, spec.dtype, spec.shape) for spec in right.session.outputs]
        assert [(spec.name, spec.dtype, spec.shape) for spec in have.session.outputs] == specs
        assert have.session.inputs == right.session.inputs
        feed = {"images": IMAGES[0][None]}
        for a, b, c in zip(*(host_session(one).run(feed) for one in (right, have, meant)), strict=True):
            for other in (b, c):
                assert 0 < np.square(other.astype(float) - a).sum() / np.square(a.astype(float)).sum() < 0.01


def test_the_codes_are_the_same_whatever_the_other_layers_are() -> None:
    def codes(other_layers: Any) -> dict[str, bytes]:
        config = QuantizeConfig(max_drop=1, other_layers=other_layers, **FAINT)
        model = quantize_with_images(ours("heads", "image"), IMAGES[:2], config).model
        return {tensor.name: tensor.raw_data for tensor in model.graph.initializer if tensor.name.endswith(".codes")}

    assert codes("float16") == codes("float32") != {}


def test_layers_that_overflow_in_float16_stay_float32_when_the_rest_is_quantized() -> None:
    model = scaled(HUGE, ours("heads", "image"))
    found = quantize_with_images(model, IMAGES[:2], QuantizeConfig(max_drop=1, **FAINT))
    assert kept_layers(read_metadata(found.model))
    with OnnxRuntimeSession.open(graph_bytes(emulate(found.model))) as session:
        assert all(np.isfinite(output).all() for output in session.run({"images": IMAGES[0][None]}))


def test_other_layers_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="other_layers: no such choice: expected float32 or float16, got bfloat16"):
        QuantizeConfig(other_layers="bfloat16")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="other_layers: float16 does not go with the placement inputs_and_outputs"):
        QuantizeConfig(other_layers="float16", placement="inputs_and_outputs")
    assert QuantizeConfig().between == "float16"
    assert QuantizeConfig(placement="inputs_and_outputs").between == "float32"
    config = QuantizeConfig(max_drop=1, other_layers="float32", **FAINT)
    quantized = quantize_with_images(ours("heads", "image"), IMAGES[:2], config).model
    with pytest.raises(GraphError, match="is quantized, and its scales would keep 8 of their 24 digits in bfloat16"):
        convert_precision(quantized, "bfloat16")
    half = convert_precision(quantized, "float16")
    assert is_half(half)
    with pytest.raises(GraphError, match="computes in half precision already"):
        convert_precision(half, "float16")


def test_labels_of_which_float32_finds_nothing_are_refused_because_every_loss_would_be_within_the_budget() -> None:
    pytest.importorskip("pycocotools")
    elsewhere = [Truth(np.array([[0.0, 0, 2, 2]]), np.array([0]))] * 16
    config = QuantizeConfig(max_drop=0.9, other_layers="float32", **FAINT)
    with pytest.raises(InputError, match=r"labels: the float32 model finds hardly .* expected a mAP above 0\.9"):
        quantize_with_images(ours("heads", "image"), IMAGES, config, truths=elsewhere)


def test_a_budget_that_nothing_was_measured_for_is_not_reported_as_kept() -> None:
    model = ours("heads", "image")
    config = QuantizeConfig(score_threshold=0.99, calibrator="minmax", other_layers="float32", max_drop=1)
    words = in_precision(model, "int8", IMAGES[:2], config=config).words
    assert words.endswith("; nothing was detected on the images, so its loss is not known")


def test_an_interrupted_quantization_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def interrupt(what: str, done: float, total: float) -> None:
        if (what, done) == ("calibrating", 1):
            raise KeyboardInterrupt

    config = QuantizeConfig(max_drop=1, other_layers="float32", **FAINT)
    with pytest.raises(KeyboardInterrupt):
        in_precision(ours("heads", "image"), "int8", IMAGES[:2], config=config, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    in_precision(ours("heads", "image"), "int8", IMAGES[:2], config=config)
    assert list(tmp_path.iterdir()) == []


def test_without_anything_to_lose_the_loss_of_map_is_not_known() -> None:
    pytest.importorskip("pycocotools")
    elsewhere = [Truth(np.array([[0.0, 0, 1, 1]]), np.array([0]))] * 2
    config = QuantizeConfig(score_threshold=0.25, calibrator="minmax", max_drop=1, other_layers="float32")
    blind = scaled({f"model.24.m.{level}.bias": np.float32(1e4) for level in range(3)}, ours("heads", "image"))
    words = in_precision(blind, "int8", IMAGES[:2], config=config, truths=elsewhere).words
    assert words.endswith("; float32 finds nothing that is labelled, so its loss is not known")
