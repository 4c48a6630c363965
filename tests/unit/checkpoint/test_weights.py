from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.resnets import resnet_arrays, tensors
from yoloship.checkpoint.weights import network_of, weights_of
from yoloship.checkpoint.wrappers import choose
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAIN: dict[Any, Any] = {**tensors(resnet_arrays())}


def prefixed(prefix: str) -> dict[Any, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in PLAIN.items()}


WRAPPED: dict[str, tuple[Mapping[object, object], str]] = {
    "alone": ({**PLAIN}, ""),
    "DataParallel": ({**prefixed("module.")}, ""),
    "compiled in DataParallel": ({**prefixed("module._orig_mod.")}, ""),
    "the example of ImageNet": (
        {"epoch": 3, "state_dict": prefixed("module."), "best_acc1": tensors({"x": np.array(0.5, "f4")})["x"]},
        "state_dict",
    ),
    "Lightning": ({"state_dict": prefixed("model."), "hyper_parameters": {}}, "state_dict"),
    "a tutorial": ({"model_state_dict": {**PLAIN}, "optimizer_state_dict": {}}, "model_state_dict"),
    "torchvision's references": ({"model": {**PLAIN}, "args": None}, "model"),
    "averaged weights first": (
        {"model": {"a.b": PLAIN["fc.bias"]}, "model_ema": {"n_averaged": PLAIN["fc.bias"], **prefixed("module.")}},
        "model_ema",
    ),
    "timm's training": ({"state_dict": {"a.b": PLAIN["fc.bias"]}, "state_dict_ema": {**PLAIN}}, "state_dict_ema"),
    "a backbone": ({"net": prefixed("backbone.")}, "net"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_tensors_are_found_as_people_save_them(name: str) -> None:
    content, key = WRAPPED[name]
    found = weights_of(content)
    assert found is not None
    assert found.key == key
    assert found.tensors == PLAIN
    assert network_of(found, "x.pt").class_path == "torchvision.models.resnet.ResNet"


def test_a_file_without_tensors_has_no_weights() -> None:
    assert weights_of({"epoch": 1, "state_dict": {"a": 2}, 3: 4}) is None


def test_a_prefix_of_some_tensors_is_no_wrapper() -> None:
    with pytest.raises(CheckpointError, match="which look like another network"):
        choose({**prefixed("module."), "head.weight": PLAIN["fc.weight"]}, "x.pt")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["model.0.conv.weight", "model.1.cv1.conv.weight"], "a YOLO network"),
        (["cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"], "a vision transformer"),
        (["encoder.layers.encoder_layer_0.ln_1.weight", "a.b"], "a vision transformer"),
        (["features.0.weight", "features.3.weight", "classifier.0.weight"], "a VGG or AlexNet"),
        (["features.denseblock1.denselayer1.conv1.weight", "a.b"], "a DenseNet"),
        (["features.0.0.weight", "features.1.block.0.0.weight"], "a MobileNet, EfficientNet or ConvNeXt"),
        (["backbone.body.conv1.weight", "rpn.head.conv.weight"], "a detector of torchvision"),
        (["conv_stem.weight", "blocks.0.0.conv_pw.weight"], "an EfficientNet or MobileNet of timm"),
        (["stem.0.weight", "stages.0.blocks.0.weight"], "a network of timm with stages"),
        (["bert.embeddings.word_embeddings.weight", "a.b"], "a transformer"),
        (["foo.weight", "bar.weight"], r"another network \(foo.weight, bar.weight, …\)"),
    ],
)
def test_another_network_is_named_by_what_it_looks_like(names: list[str], kind: str) -> None:
    content = dict.fromkeys(names, PLAIN["fc.weight"])
    words = rf"x\.pt: holds weights without an architecture \(a state_dict of \d tensors\), which look like {kind}"
    with pytest.raises(CheckpointError, match=words):
        choose({**content}, "x.pt")


def test_what_is_nearly_a_resnet_is_told_what_differs() -> None:
    content = {**PLAIN, "layer1.0.attn.weight": PLAIN["fc.weight"]}
    with pytest.raises(
        CheckpointError,
        match=r"which look like a ResNet: expected a ResNet, .* got a ResNet of 1-1-1-1 BasicBlocks with "
        r"layer1\.0\.attn\.weight besides; give the \.pt",
    ):
        choose(content, "x.pt")


@pytest.mark.parametrize(
    ("beside", "names"),
    [
        ({"class_names": ["a", "b", "c"]}, (["a", "b", "c"],)),
        ({"classes": ("a", "b", "c")}, (("a", "b", "c"),)),
        ({"classes": 3}, ()),
        ({"class_to_idx": {"10": 1, "2": 2, "1": 0}}, ({0: "1", 1: "10", 2: "2"},)),
        ({"class_to_idx": {"a": "0"}}, ()),
        ({"idx_to_class": {0: "a"}, "names": ["x"]}, (["x"], {0: "a"})),
        ({}, ()),
    ],
)
def test_class_names_beside_the_weights_are_found(beside: dict[object, object], names: tuple[object, ...]) -> None:
    assert choose({"state_dict": {**PLAIN}, **beside}, "x.pt").names == names
