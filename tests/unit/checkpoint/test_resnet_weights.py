from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.resnets import resnet_arrays, resnet_module, tensors
from yoloship.checkpoint.resnet_weights import NotAResNetError, resnet_draft

if TYPE_CHECKING:
    from yoloship.checkpoint import Module


def at(module: Module, place: str) -> Module:
    for name in place.split("."):
        child = module.children[name]
        assert child is not None
        module = child
    return module


def test_the_steps_are_where_torchvision_has_them() -> None:
    basic, bottleneck = (resnet_module(resnet_arrays(bottleneck=kind)) for kind in (False, True))
    assert at(basic, "layer2.0.conv1").attributes["stride"] == (2, 2)
    assert at(basic, "layer2.0.conv2").attributes["stride"] == (1, 1)
    assert at(bottleneck, "layer2.0.conv1").attributes["stride"] == (1, 1)
    assert at(bottleneck, "layer2.0.conv2").attributes["stride"] == (2, 2)
    assert at(bottleneck, "layer1.0.conv2").attributes["stride"] == (1, 1)
    assert at(bottleneck, "layer4.0.downsample.0").attributes["stride"] == (2, 2)
    assert at(basic, "layer1.0").attributes["downsample"] is None
    assert at(basic, "conv1").attributes["padding"] == (3, 3)


def test_groups_follow_from_the_shapes() -> None:
    module = resnet_module(resnet_arrays(bottleneck=True, groups=4))
    assert at(module, "layer3.0.conv2").attributes["groups"] == 4
    assert at(module, "layer3.0.conv1").attributes["groups"] == 1


def test_timms_stem_shortcut_and_squeeze_are_recognised() -> None:
    module = resnet_module(resnet_arrays(bottleneck=True, deep=True, pooled_shortcut=True, squeezed=True))
    assert module.class_path == "timm.models.resnet.ResNet"
    assert at(module, "conv1.0").attributes["stride"] == (2, 2)
    assert at(module, "conv1.6").attributes["stride"] == (1, 1)
    assert at(module, "layer1.0.downsample.0").class_name == "Identity"
    assert at(module, "layer2.0.downsample.0").attributes["ceil_mode"] is True
    assert at(module, "layer2.0.se.gate").class_name == "Sigmoid"


def test_a_plain_one_is_read_as_torchvisions() -> None:
    assert resnet_module(resnet_arrays()).class_path == "torchvision.models.resnet.ResNet"


def test_counters_of_batch_norm_and_a_bias_of_the_classifier_may_be_missing() -> None:
    arrays = resnet_arrays()
    old = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    del old["fc.bias"]
    assert at(resnet_module(old), "fc").parameters["bias"] is None


def test_a_linear_layer_beside_a_dropout_is_the_classifier() -> None:
    arrays = {name.replace("fc.", "fc.1."): array for name, array in resnet_arrays().items()}
    assert at(resnet_module(arrays), "fc").parameters["weight"] is not None


def without(*names: str) -> dict[str, Any]:
    arrays = resnet_arrays(counts=(2, 2, 2, 2))
    for name in names:
        del arrays[name]
    return arrays


def having(**more: Any) -> dict[str, Any]:
    return {**resnet_arrays(counts=(2, 2, 2, 2)), **{name.replace("__", "."): array for name, array in more.items()}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no classifier": (without("fc.weight", "fc.bias"), "a ResNet without fc.weight"),
    "a missing norm": (
        without("layer3.1.bn2.running_mean", "layer3.1.bn2.running_var"),
        "a ResNet without layer3.1.bn2.running_mean, layer3.1.bn2.running_var",
    ),
    "a missing shortcut": (
        without(*(f"layer2.0.downsample.{name}" for name in (
            "0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"
        ))),
        "a ResNet without layer2.0.downsample.0.weight",
    ),
    "an attention": (
        having(layer1__0__attn__fc=np.ones(3, "f4")), "a ResNet-18 with layer1.0.attn.fc besides",
    ),
    "many more": (
        having(**{f"head__{i}": np.ones(1, "f4") for i in range(9)}),
        "a ResNet-18 with head.0, head.1, head.2, head.3 and 5 more besides",
    ),
    "a gap among the blocks": (
        {name.replace("layer1.1.", "layer1.7."): array for name, array in resnet_arrays(counts=(2, 1, 1, 1)).items()},
        "a ResNet whose layer1 has no blocks 0 to n",
    ),
    "a stem of small images": (
        having(conv1__weight=np.ones((4, 3, 3, 3), "f4")),
        "a ResNet-18 whose first convolution is 3x3; its stride, and whether pooling follows, are unknown",
    ),
    "a classifier of several layers": (
        having(fc__0__weight=np.ones((8, 32), "f4"), fc__3__weight=np.ones((3, 8), "f4")),
        "a ResNet-18 whose fc has 3 linear layers (fc, fc.0, fc.3)",
    ),
    "another network": ({"features.0.weight": np.ones((4, 3, 3, 3), "f4")}, "no conv1.weight, no bn1.weight"),
    "nothing": ({}, "no conv1.weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_differs_from_a_resnet_is_named(name: str) -> None:
    arrays, words = REFUSED[name]
    with pytest.raises(NotAResNetError) as caught:
        resnet_draft(tensors(arrays))
    assert words in str(caught.value)
