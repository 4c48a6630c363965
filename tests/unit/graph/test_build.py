"""The graph as a whole: names, metadata, sizes, routing, images."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from helpers.modules import (
    Anchorless,
    Maker,
    activation,
    anchorless_checkpoint,
    around,
    changed,
    checkpoint,
    module,
    sequential,
    tensor,
    with_children,
)
from yoloship.graph import (
    GraphConfig,
    build_graph,
    checkpoint_flops,
    graph_bytes,
    model_info,
    network_facts,
)
from yoloship.model import ModelInfo

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint
    from yoloship.model import OutputForm

HW = (64, 96)


def run(model: onnx.ModelProto, values: Any) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return list(ort.InferenceSession(graph_bytes(model), options).run(None, {"images": values}))


def two_levels() -> Checkpoint:
    """A stem, a C3, a downsampling, a head of two levels."""
    make = Maker(1)
    c3 = module(
        "models.common.C3",
        cv1=make.conv(8, 4),
        cv2=make.conv(8, 4),
        cv3=make.conv(8, 8),
        m=sequential(module("models.common.Bottleneck", {"add": True}, cv1=make.conv(4, 4), cv2=make.conv(4, 4, 3))),
    )
    layers: list[tuple[Any, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (c3, -1),
        (make.conv(8, 12, 3, 2), -1),
        (make.detect([8, 12], [8, 16]), [1, 2]),
    ]
    return checkpoint(layers, strides=(8, 16))


def image(batch: int = 1, hw: tuple[int, int] = HW) -> Any:
    return np.random.default_rng(0).integers(0, 256, (batch, *hw, 3), dtype=np.uint8)


def rgb(images: Any) -> Any:
    return np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2)).astype(np.float32) / 255


def test_nodes_and_weights_are_named_by_their_place() -> None:
    graph = build_graph(two_levels(), GraphConfig(HW)).graph
    names = [node.name for node in graph.node]
    assert {"model.0.conv", "model.0.act", "model.1.m.0.cv2.conv", "model.1.m.0.add", "model.3.m.0"} <= set(names)
    assert {"model.0.conv.weight", "model.0.conv.bias", "model.3.m.1.bias"} <= {t.name for t in graph.initializer}
    assert len(set(names)) == len(names)


def test_a_module_used_twice_keeps_its_names_apart() -> None:
    shared = activation("LeakyReLU", negative_slope=0.1)
    twice = sequential(shared, shared)
    graph = build_graph(around(sequential(twice, twice), 8, 8), GraphConfig(HW)).graph
    assert len({node.name for node in graph.node}) == len(graph.node)


def test_inputs_and_outputs_have_the_agreed_names_and_shapes() -> None:
    def edges(**choices: Any) -> list[str]:
        graph = build_graph(two_levels(), GraphConfig(**choices)).graph
        return [
            f"{v.name} {onnx.TensorProto.DataType.Name(v.type.tensor_type.elem_type)} "
            + "x".join(str(d.dim_value or d.dim_param) for d in v.type.tensor_type.shape.dim)
            for v in (*graph.input, *graph.output)
        ]

    assert edges(input_hw=HW) == ["images FLOAT 1x3x64x96", "output0 FLOAT 1x360x8"]
    assert edges(input_hw=HW, output_form="heads") == [
        "images FLOAT 1x3x64x96", "head0 FLOAT 1x24x8x12", "head1 FLOAT 1x24x4x6",
    ]  # fmt: skip
    assert edges(input_hw=None, batch=None, input_form="image", output_form="compact") == [
        "images UINT8 batchxheightxwidthx3", "boxes_xyxy FLOAT batchxboxesx4", "scores FLOAT batchxboxes",
        "class_ids INT32 batchxboxes",
    ]  # fmt: skip
    assert edges(input_hw=None, output_form="heads")[1:] == [
        "head0 FLOAT 1x24xheight/8xwidth/8", "head1 FLOAT 1x24xheight/16xwidth/16",
    ]  # fmt: skip


def test_metadata_holds_our_record_and_the_keys_that_other_tools_read() -> None:
    config = GraphConfig(HW, 4, "image", "heads")
    model = build_graph(two_levels(), config)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    info = ModelInfo.from_json(entries["yoloship.model"])
    assert info == model_info(two_levels(), config)
    assert (info.strides, info.class_names, info.input_hw, info.batch) == ((8, 16), ("alpha", "beta", "gamma"), HW, 4)
    assert json.loads(entries["yoloship.model"])["family"] == "yolov5"
    assert entries["names"] == "{0: 'alpha', 1: 'beta', 2: 'gamma'}"
    assert {k: entries[k] for k in ("stride", "task", "imgsz", "batch")} == {
        "stride": "16", "task": "detect", "imgsz": "[64, 96]", "batch": "4",
    }  # fmt: skip


def test_the_file_says_opset_17_and_a_format_that_old_readers_know() -> None:
    model = build_graph(two_levels(), GraphConfig(HW))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert model.producer_name == "yoloship"


def test_the_same_checkpoint_gives_the_same_bytes() -> None:
    assert len({graph_bytes(build_graph(two_levels(), GraphConfig(HW))) for _ in range(2)}) == 1


@pytest.mark.parametrize("output_form", ["raw", "heads", "compact"])
def test_a_dynamic_graph_computes_at_every_size_what_the_fixed_one_does(output_form: OutputForm) -> None:
    loose = build_graph(two_levels(), GraphConfig(None, None, "image", output_form))
    for batch, hw in ((1, HW), (3, (96, 64)), (2, (32, 160))):
        fixed = build_graph(two_levels(), GraphConfig(hw, batch, "image", output_form))
        for found, want in zip(run(loose, image(batch, hw)), run(fixed, image(batch, hw)), strict=True):
            np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


def test_no_size_is_baked_into_a_dynamic_graph() -> None:
    make = Maker(2)
    upsample = module("torch.nn.modules.upsampling.Upsample", UPSAMPLE)
    layers: list[tuple[Any, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1), (make.conv(8, 8, 3, 2), -1), (upsample, -1),
        (module("models.common.Concat", {"d": 1}), [-1, 0]), (make.detect([16], [8]), [-1]),
    ]  # fmt: skip
    graph = build_graph(checkpoint(layers), GraphConfig(None, None)).graph
    (resize,) = (node for node in graph.node if node.op_type == "Resize")
    assert len(resize.input) == 3
    scales = next(t for t in graph.initializer if t.name == resize.input[2])
    assert onnx.numpy_helper.to_array(scales).tolist() == [1, 1, 2, 2]
    assert not {"NonZero", "Loop", "If"} & {node.op_type for node in graph.node}
    assert not graph.value_info


def test_padding_is_not_the_zero_that_a_runtime_would_fold_into_a_pool() -> None:
    pad = module("torch.nn.modules.padding.ZeroPad2d", {"padding": (0, 1, 0, 1), "value": 0.0})
    hand = around(sequential(pad, module("torch.nn.modules.pooling.MaxPool2d", POOL)), 8, 8)
    model = build_graph(hand, GraphConfig(HW))
    (node,) = (node for node in model.graph.node if node.op_type == "Pad")
    value = next(t for t in model.graph.initializer if t.name == node.input[2])
    assert 0 < onnx.numpy_helper.to_array(value) < 1e-37


POOL = {"kernel_size": 2, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
UPSAMPLE = {"scale_factor": 2.0, "mode": "nearest", "size": None, "align_corners": None}


def test_a_cast_is_the_first_node_on_a_uint8_image() -> None:
    graph = build_graph(two_levels(), GraphConfig(HW, input_form="image")).graph
    assert [node.op_type for node in graph.node if "images" in node.input] == ["Cast"]
    assert [node.op_type for node in graph.node[:3]] == ["Cast", "Transpose", "Conv"]


def test_the_first_convolution_takes_in_channel_order_and_scale() -> None:
    images = image()
    (want,) = run(build_graph(two_levels(), GraphConfig(HW)), rgb(images))
    (found,) = run(build_graph(two_levels(), GraphConfig(HW, input_form="image")), images)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["pool", "groups", "two readers", "focus"])
def test_images_are_normalised_by_nodes_where_no_convolution_can(name: str) -> None:
    make = Maker(4)
    pool = {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
    stem: list[tuple[Any, int | list[int]]]
    if name == "pool":
        stem = [(module("torch.nn.modules.pooling.MaxPool2d", pool), -1), (make.conv(3, 8, 4, 4, padding=(0, 0)), -1)]
    elif name == "groups":
        stem = [(make.conv(3, 6, 8, 8, groups=3, padding=(0, 0)), -1), (make.conv(6, 8), -1)]
    elif name == "two readers":
        concat = module("models.common.Concat", {"d": 1})
        stem = [
            (module("torch.nn.modules.linear.Identity"), -1),
            (concat, [-1, 0]),
            (make.conv(6, 8, 8, 8, padding=(0, 0)), -1),
        ]
    else:
        stem = [
            (module("models.common.Focus", conv=make.conv(12, 8, 3)), -1),
            (make.conv(8, 8, 4, 4, padding=(0, 0)), -1),
        ]
    hand = checkpoint([*stem, (make.detect([8], [8]), [-1])])
    images = image()
    model = build_graph(hand, GraphConfig(HW, input_form="image"))
    (want,) = run(build_graph(hand, GraphConfig(HW)), rgb(images))
    np.testing.assert_allclose(run(model, images)[0], want, rtol=1e-5, atol=1e-4)
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("Gather") == (0 if name == "focus" else 1)


def test_focus_is_one_convolution_equal_to_slicing_and_stacking() -> None:
    make = Maker(5)
    inner = make.conv(12, 8, 3)
    focus = checkpoint(
        [
            (module("models.common.Focus", conv=inner), -1),
            (make.conv(8, 8, 4, 4, padding=(0, 0)), -1),
            (make.detect([8], [8]), [-1]),
        ]
    )
    model = build_graph(focus, GraphConfig(HW, output_form="heads"))
    assert model.graph.node[0].op_type == "Conv"
    x = rgb(image())
    quarters = np.concatenate([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
    weight = next(t for t in model.graph.initializer if t.name == "model.0.conv.conv.weight")
    assert onnx.numpy_helper.to_array(weight).shape == (8, 3, 6, 6)
    found = first_map(model, x)
    want = plain_conv(inner, quarters)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def first_map(model: onnx.ModelProto, x: Any) -> Any:
    """What the first convolution gives."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    name = model.graph.node[0].output[0]
    cut.graph.output.append(next(v for v in model.graph.value_info if v.name == name))
    return run(cut, x)[-1]


def plain_conv(conv: Any, x: Any) -> Any:
    """Convolution and batch-norm one after the other, stride 1, in float64."""
    weight = conv.children["conv"].parameters["weight"].float64()
    norm = conv.children["bn"]
    pad = weight.shape[2] // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (2, 3))
    y = np.einsum("bchwij,ocij->bohw", windows, weight)
    mean, var = (norm.buffers[k].float64()[:, None, None] for k in ("running_mean", "running_var"))
    gamma, beta = (norm.parameters[k].float64()[:, None, None] for k in ("weight", "bias"))
    return (y - mean) / np.sqrt(var + norm.attributes["eps"]) * gamma + beta


def test_batch_norm_is_folded_and_gone() -> None:
    hand = two_levels()
    model = build_graph(hand, GraphConfig(HW, output_form="heads"))
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_layers_take_from_where_f_says() -> None:
    make = Maker(6)
    layers: list[tuple[Any, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (make.conv(8, 8), 0),
        (make.conv(8, 8), -2),
        (module("models.common.Concat", {"d": 1}), [-1, 1, 0]),
        (make.detect([24], [8]), 3),
    ]
    graph = build_graph(checkpoint(layers), GraphConfig(HW)).graph
    inputs = {node.name: list(node.input) for node in graph.node}
    assert inputs["model.2.conv"][0] == "model.0.act"
    assert inputs["model.3"] == ["model.2.act", "model.1.act", "model.0.act"]


@pytest.mark.parametrize(("in_place", "taken"), [(True, "model.1"), (1, "model.1"), (False, "model.0.act")])
def test_a_later_layer_sees_what_an_activation_in_place_has_made_of_its_input(in_place: bool, taken: str) -> None:
    make = Maker(6)
    relu = activation("ReLU", inplace=in_place)
    layers: list[tuple[Any, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (relu, -1),
        (make.conv2d(8, 8), 0),
        (module("models.common.Concat", {"d": 1}), [-1, 0]),
        (make.detect([16], [8]), [-1]),
    ]
    for first in (relu, sequential(relu, make.conv2d(8, 8))):
        layers[1] = (first, -1)
        graph = build_graph(checkpoint(layers), GraphConfig(HW)).graph
        inputs = {node.name: list(node.input) for node in graph.node}
        name = taken if first is relu or not in_place else "model.1.0"
        assert inputs["model.2"][0] == name
        assert inputs["model.3"] == ["model.2", name]


def test_grids_and_anchors_of_the_file_are_never_read() -> None:
    hand = two_levels()
    detect = hand.module.children["model"].children["3"]  # type: ignore[union-attr]
    assert detect is not None
    zero = [tensor(np.zeros((1, 3, 8, 12, 2)))] * 2
    stale = changed(detect, grid=zero, anchor_grid=zero)
    layers = with_children(hand.module.children["model"], **{"3": stale})  # type: ignore[arg-type]
    spoilt = with_children(hand.module, model=layers)
    twin = replace(hand, module=spoilt)
    assert graph_bytes(build_graph(hand, GraphConfig(HW))) == graph_bytes(build_graph(twin, GraphConfig(HW)))


def test_half_precision_weights_give_a_float32_graph() -> None:
    conv = Maker(9).conv2d(8, 8)
    weight = conv.parameters["weight"]
    assert weight is not None
    halved = weight.numpy().astype(np.float16)
    half = replace(conv, parameters=MappingProxyType({"weight": tensor(halved, "float16"), "bias": None}))
    graph = build_graph(around(half, 8, 8), GraphConfig(HW)).graph
    assert {t.data_type for t in graph.initializer} == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    written = next(t for t in graph.initializer if t.name == "model.1.weight")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(written), halved.astype(np.float32))


@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_strides_may_be_an_array(kind: type[Any]) -> None:
    hand = two_levels()
    detect = hand.module.children["model"].children["3"]  # type: ignore[union-attr]
    assert detect is not None
    twin = with_children(hand.module.children["model"], **{"3": changed(detect, stride=np.array([8, 16], kind))})  # type: ignore[arg-type]
    same = replace(hand, module=with_children(hand.module, model=twin))
    assert graph_bytes(build_graph(hand, GraphConfig(HW))) == graph_bytes(build_graph(same, GraphConfig(HW)))


def test_equal_best_classes_give_the_first() -> None:
    make = Maker(7)
    detect = make.detect([8], [8])
    convolution = detect.children["m"].children["0"]  # type: ignore[union-attr]
    assert convolution is not None
    weight = convolution.parameters["weight"]
    assert weight is not None
    flat = module(
        convolution.class_path, convolution.attributes, {"weight": np.zeros(weight.shape), "bias": np.ones(24)}
    )
    detect = with_children(detect, m=module("torch.nn.modules.container.ModuleList", **{"0": flat}))
    hand = checkpoint([(make.conv(3, 8, 8, 8, padding=(0, 0)), -1), (detect, [-1])])
    _, scores, class_ids = run(build_graph(hand, GraphConfig(HW, output_form="compact")), rgb(image()))
    assert not class_ids.any()
    np.testing.assert_allclose(scores, (1 / (1 + np.exp(-1))) ** 2, rtol=1e-6)


def test_operations_are_counted_from_the_layers_by_hand() -> None:
    hand = checkpoint([(Maker(8).conv(3, 8, 8, 8, padding=(0, 0)), -1), (Maker(8).detect([8], [8]), [-1])])
    cells = (HW[0] // 8) * (HW[1] // 8)
    assert checkpoint_flops(hand, HW) == 2 * cells * (8 * 3 * 64 + 24 * 8)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"imgsz": 320}, (320, 320)),
        ({"imgsz": 321}, (352, 352)),
        ({"imgsz": [320, 640]}, (320, 640)),
        ({"imgsz": "320"}, None),
        ({"imgsz": 0}, None),
        ({"imgsz": True}, None),
        ({"imgsz": [1, 2, 3]}, None),
        ({"imgsz": 10**9}, None),
        (None, None),
        ([320], None),
    ],
)
def test_the_usual_size_is_that_of_the_training_as_far_as_it_is_one(options: Any, size: tuple[int, int] | None) -> None:
    make = Anchorless(3)
    network = anchorless_checkpoint([(make.conv(3, 8, 8, 8, padding=(0, 0)), -1), (make.detect_head([8], [8]), [-1])])
    network = replace(network, metadata=MappingProxyType({"train_args": options}))
    info = model_info(network, GraphConfig("usual"))
    assert info.usual_hw == size
    assert info.input_hw == (size or (640, 640))
    assert model_info(network, GraphConfig(None)).input_hw == (None, None)
    assert network_facts(network).usual_hw == (size or (640, 640))


def test_facts_name_the_design_and_the_heads_and_the_forms() -> None:
    make = Anchorless(3)
    stem = make.conv(3, 8, 8, 8, padding=(0, 0))
    one = network_facts(anchorless_checkpoint([(stem, -1), (make.detect_head([8], [8]), [-1])]))
    assert (one.family, one.heads, one.head, one.forms[0]) == ("ultralytics", (), None, "raw")
    head = make.detect_head([8], [8], two=True, name="v10Detect")
    two = network_facts(anchorless_checkpoint([(stem, -1), (head, [-1])], version="8.3.0"))
    assert (two.design, two.heads, two.head) == ("YOLOv10", ("one2many", "one2one"), "one2one")
    assert two.forms == ("end2end", "raw", "heads", "compact", "nms")
