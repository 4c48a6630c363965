from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from helpers.modules import activation, changed, module, sequential, with_children
from helpers.resnets import WIDTH, classifier, resnet, resnet_arrays, resnet_module
from yoloship.checkpoint import Checkpoint, Module
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.graph.families.resnet import ResNet

HW = (64, 96)


def run(network: Checkpoint, *, hw: tuple[int, int] = HW, channels: int = 3) -> npt.NDArray[np.float32]:
    image = np.random.default_rng(7).random((1, channels, *hw), np.float32)
    session = ort.InferenceSession(graph_bytes(build_graph(network, GraphConfig(hw, transform="none"))))
    scores: npt.NDArray[np.float32] = session.run(None, {"images": image})[0]
    return scores


def at(root: Module, place: str, changing: Any) -> Module:
    """The same tree with the module at that place changed."""
    name, _, rest = place.partition(".")
    child = root.children[name]
    assert child is not None
    return with_children(root, **{name: at(child, rest, changing) if rest else changing(child)})


@pytest.mark.parametrize(
    ("path", "owned"),
    [
        ("torchvision.models.resnet.ResNet", True),
        ("timm.models.resnet.ResNet", True),
        ("timm.models.resnetv2.ResNetV2", False),
        ("torchvision.models.quantization.resnet.QuantizableResNet", False),
        ("my.torchvision.models.resnet.ResNet", False),
        ("models.resnet.ResNet", False),
    ],
)
def test_a_network_belongs_to_it_by_its_whole_class_path(path: str, owned: bool) -> None:
    assert ResNet().owns(module(path)) == owned


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_its_first_convolution_says_how_many_channels_an_image_has(channels: int, deep: bool) -> None:
    network = resnet(channels=channels, deep=deep)
    assert model_info(network, GraphConfig(HW, transform="none")).channels == channels
    assert run(network, channels=channels).shape == (1, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"counts": (2, 1, 3, 1)},
        {"bottleneck": True, "groups": 2},
        {"bottleneck": True, "deep": True, "pooled_shortcut": True},
        {"deep": True, "squeezed": True},
    ],
)
@pytest.mark.parametrize("hw", [HW, (65, 97), (33, 40)])
def test_every_kind_takes_any_size(options: dict[str, Any], hw: tuple[int, int]) -> None:
    assert np.isfinite(run(resnet(**options), hw=hw)).all()


def test_a_gate_that_is_open_or_closed_changes_what_it_should() -> None:
    def gated(bias: float) -> npt.NDArray[np.float32]:
        arrays = resnet_arrays(squeezed=True)
        for name in arrays:
            if ".se.fc2." in name:
                arrays[name] = np.full_like(arrays[name], bias if name.endswith("bias") else 0)
        return run(classifier(resnet_module(arrays)))

    arrays = {name: array for name, array in resnet_arrays(squeezed=True).items() if ".se." not in name}
    np.testing.assert_allclose(gated(50.0), run(classifier(resnet_module(arrays))), rtol=1e-5)
    silent = {**arrays}
    for name, array in arrays.items():
        if name.endswith(("bn2.weight", "bn2.bias")):
            silent[name] = np.zeros_like(array)
    np.testing.assert_allclose(gated(-200.0), run(classifier(resnet_module(silent))), rtol=1e-5)


def test_timms_own_sigmoid_is_a_gate() -> None:
    network = resnet(squeezed=True)
    root = network.module
    for layer in range(1, 5):
        root = at(
            root, f"layer{layer}.0.se", lambda se: with_children(se, gate=module("timm.layers.activations.Sigmoid"))
        )
    np.testing.assert_array_equal(run(replace(network, module=root)), run(network))


@pytest.mark.parametrize("bottleneck", [False, True])
def test_pooling_against_aliasing_follows_the_strided_convolution_once(bottleneck: bool) -> None:
    """A pooling of one pixel with a step of two after a convolution of step one is a convolution of step two."""
    network = resnet(bottleneck=bottleneck, deep=True)
    attributes = {"kernel_size": 1, "stride": 2, "padding": 0, "ceil_mode": False, "count_include_pad": True}
    pool = module("torch.nn.modules.pooling.AvgPool2d", {**attributes, "divisor_override": None})

    def pooled(block: Module) -> Module:
        name = "conv2" if bottleneck else "conv1"
        conv = block.children[name]
        assert conv is not None
        return with_children(block, aa=pool, **{name: changed(conv, stride=(1, 1))})

    root = network.module
    for layer in range(2, 5):
        root = at(root, f"layer{layer}.0", pooled)
    np.testing.assert_allclose(run(replace(network, module=root)), run(network), rtol=1e-5, atol=1e-6)


def test_timms_names_give_what_torchvisions_give() -> None:
    """The same weights in a whole module of timm: activations of their own, and children that do nothing."""
    plain = resnet()
    nothing = module("torch.nn.modules.linear.Identity")

    def block(part: Module) -> Module:
        acts = {f"act{number}": activation("ReLU", inplace=True) for number in (1, 2)}
        dropped = module("timm.layers.drop.DropPath", {"drop_prob": 0.1, "scale_by_keep": True})
        kept = with_children(part, relu=None, **acts, aa=nothing, drop_block=nothing, drop_path=dropped)
        return changed(replace(kept, class_path="timm.models.resnet.BasicBlock"), se=None)

    root = replace(plain.module, class_path="timm.models.resnet.ResNet")
    pool = module(
        "timm.layers.adaptive_avgmax_pool.SelectAdaptivePool2d",
        {"pool_type": "avg"},
        pool=module("torch.nn.modules.pooling.AdaptiveAvgPool2d", {"output_size": 1}),
        flatten=module("torch.nn.modules.flatten.Flatten", {"start_dim": 1, "end_dim": -1}),
    )
    root = with_children(root, relu=None, act1=activation("ReLU"), avgpool=None, global_pool=pool)
    for layer in range(1, 5):
        root = at(root, f"layer{layer}.0", block)
    np.testing.assert_array_equal(run(replace(plain, module=root)), run(plain))


def test_a_replaced_pooling_and_stem_are_written_as_they_are() -> None:
    plain = resnet()
    root = with_children(plain.module, maxpool=module("torch.nn.modules.linear.Identity"))
    root = at(root, "conv1", lambda conv: changed(conv, stride=(1, 1)))
    assert run(replace(plain, module=root)).shape == (1, 3)
    assert not np.allclose(run(replace(plain, module=root)), run(plain))


REFUSED: dict[str, tuple[str, Any, str]] = {
    "another block": (
        "layer1.0",
        lambda part: replace(part, class_path="torchvision.models.resnet.Custom"),
        r"layer1\.0 \(torchvision\.models\.resnet\.Custom\): is not a block that this version can write",
    ),
    "a block of another package": (
        "layer1.0",
        lambda part: replace(part, class_path="acme.models.resnet.BasicBlock"),
        "is not a block that this version can write",
    ),
    "an attention after a convolution": (
        "layer1.0",
        lambda part: with_children(part, attn=module("torch.nn.modules.conv.Conv2d")),
        "child 'attn' .* is not part of an official BasicBlock",
    ),
    "a shortcut of another shape": (
        "layer2.0",
        lambda part: changed(with_children(part, downsample=None), downsample=None),
        "adds values of two shapes",
    ),
    "a blur that is not known": (
        "layer1.0",
        lambda part: with_children(part, aa=module("timm.layers.blur_pool.BlurPool2d")),
        "BlurPool2d.*is not a block that this version can write",
    ),
    "a stem of another layer": (
        "conv1",
        lambda part: replace(part, class_path="torch.nn.modules.conv.Conv3d"),
        "is not a block that this version can write",
    ),
    "a hook": (
        "layer1",
        lambda part: changed(part, _forward_hooks={1: "f"}),
        "has a hook",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_resnet_of_the_libraries_is_refused_by_its_place(name: str) -> None:
    place, changing, words = REFUSED[name]
    network = resnet()
    with pytest.raises(GraphError, match=words):
        run(replace(network, module=at(network.module, place, changing)))


def test_a_layer_more_in_the_network_is_refused() -> None:
    network = resnet()
    more = with_children(network.module, layer5=sequential())
    with pytest.raises(GraphError, match=r"child 'layer5' .* is not part of an official ResNet"):
        run(replace(network, module=more))


def test_a_pooling_of_maxima_is_refused() -> None:
    pool = module("timm.layers.adaptive_avgmax_pool.SelectAdaptivePool2d", {"pool_type": "max"})
    network = resnet(deep=True)
    with pytest.raises(GraphError, match="pool_type is not supported with this value"):
        run(replace(network, module=with_children(network.module, global_pool=pool)))


def test_the_smallest_images_pass() -> None:
    assert run(resnet(), hw=(1, 1)).shape == (1, 3)
    assert WIDTH == 4
