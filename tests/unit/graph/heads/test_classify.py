from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from helpers.modules import NAMES, Maker, activation, changed, module, sequential, tensor, with_children
from helpers.resnets import classifier, resnet, saved_square, with_transforms
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.checkpoint import Checkpoint, Module

HW = (64, 96)


def yolov5_classifier() -> Checkpoint:
    """Two convolutions and YOLOv5's Classify module."""
    make = Maker(4)
    head = module(
        "models.common.Classify",
        {"i": 2, "f": -1},
        conv=make.conv(16, 24),
        pool=module("torch.nn.modules.pooling.AdaptiveAvgPool2d", {"output_size": 1}),
        drop=module("torch.nn.modules.dropout.Dropout", {"p": 0.0}),
        linear=linear(24, len(NAMES)),
    )
    layers = [changed(make.conv(3, 8, 3, 2), i=0, f=-1), changed(make.conv(8, 16, 3, 2), i=1, f=-1), head]
    return classifier(module("models.yolo.ClassificationModel", model=sequential(*layers)))


def ultralytics_classifier() -> Checkpoint:
    """The same network as Ultralytics' package has it."""

    def renamed(part: Module) -> Module:
        name = part.class_name
        path = f"ultralytics.nn.modules.{'head' if name == 'Classify' else 'conv'}.{name}"
        children = {key: child if child is None else renamed(child) for key, child in part.children.items()}
        return with_children(
            replace(part, class_path=path if part.class_path.startswith("models.common.") else part.class_path),
            **children,
        )

    root = replace(renamed(yolov5_classifier().module), class_path="ultralytics.nn.tasks.ClassificationModel")
    return with_transforms(classifier(root), saved_square())


def linear(inputs: int, outputs: int, seed: int = 1) -> Module:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((outputs, inputs)).astype("f4")
    return module("torch.nn.modules.linear.Linear", {}, {"weight": weight, "bias": rng.standard_normal(outputs)})


def sample_resnet() -> Checkpoint:
    return with_transforms(resnet(), saved_square())


SAMPLES = MappingProxyType(
    {
        ("yolov5", "classify"): yolov5_classifier,
        ("ultralytics", "classify"): ultralytics_classifier,
        ("resnet", "classify"): sample_resnet,
    }
)
"""By family and task, for the suites in tests/contract."""


def run(network: Checkpoint, image: npt.NDArray[Any], **config: Any) -> npt.NDArray[np.float32]:
    config = {"input_hw": HW, "transform": "none", **config}
    session = ort.InferenceSession(graph_bytes(build_graph(network, GraphConfig(**config))))
    scores: npt.NDArray[np.float32] = session.run(None, {"images": image})[0]
    return scores


def with_fc(network: Checkpoint, fc: Module, **others: Module) -> Checkpoint:
    return replace(network, module=with_children(network.module, fc=fc, **others))


def noise(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).random(shape, np.float32)


def test_its_output_is_one_score_for_each_class() -> None:
    (output,) = build_graph(resnet(classes=7), GraphConfig(HW, batch=None, transform="none")).graph.output
    assert output.name == "output0"
    assert [axis.dim_param or axis.dim_value for axis in output.type.tensor_type.shape.dim] == ["batch", 7]


@pytest.mark.parametrize(("last", "gives"), [(None, "logits"), ("Softmax", "probabilities"), ("LogSoftmax", "logits")])
def test_the_record_says_what_the_scores_are(last: str | None, gives: str) -> None:
    network = resnet()
    ending = [] if last is None else [activation(last, dim=1)]
    scores = run(with_fc(network, sequential(linear(32, 3), *ending)), noise(1, 3, *HW))
    info = model_info(with_fc(network, sequential(linear(32, 3), *ending)), GraphConfig(HW, transform="none"))
    assert info.class_scores == gives
    if last == "Softmax":
        assert scores.sum() == pytest.approx(1, abs=1e-6)
    elif last == "LogSoftmax":
        assert np.exp(scores).sum() == pytest.approx(1, abs=1e-6)


def test_ultralytics_gives_the_probabilities_of_the_same_layers_logits() -> None:
    image = noise(2, 3, *HW)
    logits = run(yolov5_classifier(), image, batch=2)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found = run(ultralytics_classifier(), image, batch=2)
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)
    info = model_info(ultralytics_classifier(), GraphConfig(HW))
    assert (info.class_scores, info.family) == ("probabilities", "ultralytics")


def test_a_classifier_of_several_layers_is_computed_as_torch_would() -> None:
    rng = np.random.default_rng(2)
    statistics = {"running_mean": rng.standard_normal(6), "running_var": rng.uniform(0.5, 2, 6)}
    scale = {"weight": rng.uniform(0.5, 2, 6), "bias": rng.standard_normal(6)}
    norm = module("torch.nn.modules.batchnorm.BatchNorm1d", {"eps": 1e-5}, scale, statistics)
    first, second = linear(32, 6, 1), linear(6, 3, 2)
    drop = module("torch.nn.modules.dropout.Dropout", {"p": 0.5})
    network = resnet()
    image = noise(2, 3, *HW)
    wide = replace(network, class_names=tuple(map(str, range(32))))
    features = run(with_fc(wide, identity_layer()), image, batch=2)
    hidden = features @ weight(first).T + bias(first)
    hidden = (hidden - statistics["running_mean"]) / np.sqrt(statistics["running_var"] + 1e-5)
    hidden = np.maximum(hidden * scale["weight"] + scale["bias"], 0)
    want = hidden @ weight(second).T + bias(second)
    fc = sequential(drop, first, norm, activation("ReLU", inplace=True), drop, second)
    np.testing.assert_allclose(run(with_fc(network, fc), image, batch=2), want, rtol=2e-4, atol=2e-5)


def identity_layer() -> Module:
    return module("torch.nn.modules.linear.Linear", {}, {"weight": np.eye(32), "bias": None})


def weight(layer: Module) -> npt.NDArray[np.float64]:
    held = layer.parameters["weight"]
    assert held is not None
    return held.float64()


def bias(layer: Module) -> npt.NDArray[np.float64]:
    held = layer.parameters["bias"]
    assert held is not None
    return held.float64()


REFUSED: dict[str, tuple[Module, str]] = {
    "features": (module("torch.nn.modules.linear.Identity"), "does not end in a linear layer .* a network of features"),
    "several classes at once": (
        sequential(linear(32, 3), activation("Sigmoid")),
        "does not end in a linear layer .* several classes at once",
    ),
    "a softmax over images": (sequential(linear(32, 3), activation("Softmax", dim=0)), "dim is not supported"),
    "a linear layer of another size": (linear(31, 3), "'weight' has the wrong shape: expected .*32"),
    "a linear layer of no class": (
        module("torch.nn.modules.linear.Linear", {}, {"weight": np.zeros((0, 32)), "bias": None}),
        r"bad 'weight': expected \(1 to 100000, any\)",
    ),
    "an unknown layer": (sequential(module("acme.Head"), linear(32, 3)), "is not an activation that this version"),
    "a weight of NaN": (
        module("torch.nn.modules.linear.Linear", {}, {"weight": np.full((3, 32), np.nan), "bias": None}),
        "holds values that are not finite",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_classifier_that_gives_no_score_for_each_class_is_refused(name: str) -> None:
    fc, words = REFUSED[name]
    with pytest.raises(GraphError, match=words):
        run(with_fc(resnet(), fc), noise(1, 3, *HW))


def test_more_in_the_head_than_the_official_one_is_refused() -> None:
    network = yolov5_classifier()
    layers = network.module.children["model"]
    assert layers is not None
    head = layers.children["2"]
    assert head is not None
    wider = with_children(layers, **{"2": with_children(head, extra=linear(3, 3))})
    with pytest.raises(GraphError, match=re.escape("child 'extra' (torch.nn.modules.linear.Linear) is not part of")):
        run(replace(network, module=with_children(network.module, model=wider)), noise(1, 3, *HW))


def test_a_pooling_that_leaves_more_than_one_pixel_is_refused() -> None:
    pool = module("torch.nn.modules.pooling.AdaptiveAvgPool2d", {"output_size": (2, 2)})
    network = resnet()
    with pytest.raises(GraphError, match="output_size is not supported with this value"):
        run(replace(network, module=with_children(network.module, avgpool=pool)), noise(1, 3, *HW))


def test_a_pooling_of_a_fixed_window_is_written_if_it_leaves_one_pixel() -> None:
    def pool(k: int) -> Module:
        attributes = {"kernel_size": k, "stride": k, "padding": 0, "ceil_mode": False}
        more = {"count_include_pad": True, "divisor_override": None}
        return module("torch.nn.modules.pooling.AvgPool2d", {**attributes, **more})

    network, image = resnet(), noise(1, 3, 64, 64)

    def pooled(by: Module) -> Checkpoint:
        return replace(network, module=with_children(network.module, avgpool=by))

    want = run(network, image, input_hw=(64, 64))
    np.testing.assert_allclose(run(pooled(pool(2)), image, input_hw=(64, 64)), want, rtol=1e-5, atol=1e-6)
    for other, hw in ((pool(1), (64, 64)), (module("torch.nn.modules.linear.Identity"), (64, 64)), (pool(2), None)):
        with pytest.raises(GraphError, match=r"its pooling leaves more than one pixel: expected \(1, 1\), got"):
            run(pooled(other), image, input_hw=hw)


def test_a_graph_of_any_size_gives_what_the_graph_of_that_size_gives() -> None:
    network, image = resnet(bottleneck=True), noise(2, 3, 65, 97)
    want = run(network, image, input_hw=(65, 97), batch=2)
    np.testing.assert_allclose(run(network, image, input_hw=None, batch=None), want, rtol=1e-5, atol=1e-6)


def test_an_unused_tensor_of_the_classifier_is_refused() -> None:
    fc = linear(32, 3)
    more = replace(fc, buffers=MappingProxyType({"scale": tensor(np.ones(3))}))
    with pytest.raises(GraphError, match=r"buffer 'scale' .* is not part of an official Linear"):
        run(with_fc(resnet(), more), noise(1, 3, *HW))
