"""Networks of one channel, and of any other number: what goes in, and that the numbers are the same in both forms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from helpers.modules import Maker, changed, checkpoint, module, sequential
from helpers.shared import SHARED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import InputError
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.model import MAX_CHANNELS, ModelInfo

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint, Module

HW = (64, 96)
TORCH = "torch.nn.modules."


def network(stem: Module, channels: int = 8) -> Checkpoint:
    make = Maker(4)
    return checkpoint([(stem, -1), (make.conv(channels, 8), -1), (make.detect([8], [8]), [-1])])


def run(hand: Checkpoint, images: Any, **choices: Any) -> Any:
    model = build_graph(hand, GraphConfig(HW, len(images), **choices))
    return ort.InferenceSession(graph_bytes(model)).run(None, {"images": images})[0]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dynamic", [False, True])
def test_both_input_forms_of_any_number_of_channels_give_the_same_boxes(channels: int, dynamic: bool) -> None:
    hand = network(Maker(1).conv(channels, 8, 8, 8, padding=(0, 0)))
    images = np.random.default_rng(3).integers(0, 256, (2, *HW, channels), dtype=np.uint8)
    order = [2, 1, 0] if channels == 3 else list(range(channels))
    floats = np.ascontiguousarray(images[..., order].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    config = GraphConfig(None if dynamic else HW, None, "image")
    session = ort.InferenceSession(graph_bytes(build_graph(hand, config)))
    (entry,) = session.get_inputs()
    assert entry.type == "tensor(uint8)"
    assert entry.shape[3] == channels
    (found,) = session.run(None, {"images": images})
    np.testing.assert_allclose(found, run(hand, floats), rtol=1e-4, atol=1e-4)


def test_a_image_without_a_convolution_before_it_is_only_scaled_if_its_channels_have_no_order() -> None:
    identity = module(f"{TORCH}linear.Identity")
    grouped = Maker(1).conv(4, 8, 8, 8, groups=4, padding=(0, 0))
    make = Maker(4)
    hand = checkpoint([(identity, -1), (grouped, -1), (make.conv(8, 8), -1), (make.detect([8], [8]), [-1])])
    operators = [node.op_type for node in build_graph(hand, GraphConfig(HW, input_form="image")).graph.node]
    assert "Gather" not in operators
    images = np.random.default_rng(3).integers(0, 256, (1, *HW, 4), dtype=np.uint8)
    floats = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / 255
    np.testing.assert_allclose(run(hand, images, input_form="image"), run(hand, floats), rtol=1e-4, atol=1e-4)


def test_the_record_and_the_metadata_say_how_many() -> None:
    for channels in (1, 3):
        hand = network(Maker(1).conv(channels, 8, 8, 8, padding=(0, 0)))
        info = model_info(hand, GraphConfig(HW))
        assert info.channels == channels
        assert ModelInfo.from_json(info.to_json()) == info
        keys = {entry.key: entry.value for entry in build_graph(hand, GraphConfig(HW)).metadata_props}
        assert keys.get("channels") == (None if channels == 3 else "1")


@pytest.mark.parametrize("value", ["0", "true", "1.0", '"3"', str(MAX_CHANNELS + 1), "null"])
def test_a_record_with_an_impossible_number_is_refused(value: str) -> None:
    info = model_info(network(Maker(1).conv(3, 8, 8, 8, padding=(0, 0))), GraphConfig(HW))
    text = info.to_json().replace('"channels":3', f'"channels":{value}')
    with pytest.raises(InputError, match="bad 'channels'"):
        ModelInfo.from_json(text)


def test_a_record_of_an_earlier_version_means_three() -> None:
    info = model_info(network(Maker(1).conv(3, 8, 8, 8, padding=(0, 0))), GraphConfig(HW))
    assert ModelInfo.from_json(info.to_json().replace('"channels":3,', "")) == info


def test_the_channels_are_found_behind_other_blocks() -> None:
    make = Maker(6)
    focus = module("models.common.Focus", conv=make.conv(8, 8, 3))  # 2 channels in four quarters
    stems: list[tuple[Module, int]] = [
        (sequential(focus, make.conv(8, 8, 4, 4, padding=(0, 0))), 2),
        (sequential(module(f"{TORCH}linear.Identity"), make.conv(5, 8, 8, 8, padding=(0, 0))), 5),
        (sequential(make.conv2d(4, 8, 8, 8, groups=2, padding=(0, 0))), 4),
        (
            sequential(module("models.common.Contract", {"gain": 2}), make.conv(12, 8, 4, 4, padding=(0, 0))),
            3,
        ),
    ]
    for stem, channels in stems:
        hand = network(stem)
        assert model_info(hand, GraphConfig(HW)).channels == channels
        assert build_graph(hand, GraphConfig(HW)).graph.input[0].type.tensor_type.shape.dim[1].dim_value == channels


def test_the_architecture_s_own_description_counts_where_no_convolution_tells() -> None:
    make = Maker(6)
    stem = sequential(module("models.common.Contract", {"gain": 2}), make.conv(8, 8, 4, 4, padding=(0, 0)))
    hand = network(stem)
    for description in ({"ch": 2, "nc": 3}, {"channels": 2}, {"ch": "rgb", "channels": 2}):
        described = changed(hand.module, yaml=description)
        assert model_info(replace(hand, module=described), GraphConfig(HW)).channels == 2


def test_the_reported_grey_network_exports() -> None:
    found = read_checkpoint(require(SHARED / "cases" / "channels-1.pt"))
    for form, shape in (("float", (1, 1, *HW)), ("image", (1, *HW, 1))):
        model = build_graph(found, GraphConfig(HW, 1, form))  # type: ignore[arg-type]  # one of the two forms
        axes = model.graph.input[0].type.tensor_type.shape.dim
        assert tuple(axis.dim_value for axis in axes) == shape
