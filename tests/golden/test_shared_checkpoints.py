"""Real checkpoints: every one in ../shared reads as it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.shared import GENERATED, TRAINED, listed, require
from yoloship.checkpoint import Checkpoint, Tensor, read_checkpoint
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from yoloship.checkpoint import Module

STRIDES = {"-p2": (4, 8, 16, 32), "-p34": (8, 16), "-p6": (8, 16, 32, 64), "v3-tiny": (16, 32), "-cls": ()}


def tensors(module: Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for place, layer in module.walk():
        for name, tensor in (*layer.parameters.items(), *layer.buffers.items()):
            if tensor is not None:
                found[f"{place}.{name}"] = tensor
    return found


def generated(name: str) -> Checkpoint:
    return read_checkpoint(require(GENERATED / f"{name}.pt"))


@pytest.mark.parametrize("path", listed(GENERATED, "v*.pt"), ids=lambda path: path.stem)
def test_every_release_and_form_is_read(path: Path) -> None:
    require(path)
    checkpoint = read_checkpoint(path)
    segment, classify = path.stem.endswith("-seg"), path.stem.endswith("-cls")
    assert checkpoint.task == ("segment" if segment else "classify" if classify else "detect")
    if not classify:
        assert checkpoint.class_names == ("alpha", "beta", "gamma")
    expected = next((strides for part, strides in STRIDES.items() if part in path.stem), (8, 16, 32))
    assert checkpoint.strides == expected
    assert checkpoint.source_key == ("ema" if path.stem.endswith("-training") else "model")
    arrays = {name: tensor.numpy() for name, tensor in tensors(checkpoint.module).items()}
    assert len(arrays) > 40
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert checkpoint.module.parameter_count() > 100_000


@pytest.mark.parametrize("path", listed(TRAINED, "*.pt"), ids=lambda path: path.stem)
def test_trained_checkpoints_are_read(path: Path) -> None:
    require(path)
    checkpoint = read_checkpoint(path)
    classes = {"coco-yolov5n": 80, "damage-yolov5n": 1, "ppe-yolov5n": 2}[path.stem]
    assert len(checkpoint.class_names) == classes
    assert checkpoint.strides == (8, 16, 32)
    assert checkpoint.module.class_path in {"models.yolo.Model", "models.yolo.DetectionModel"}


@pytest.mark.parametrize("form", ["legacyformat", "channelslast"])
def test_the_form_of_the_file_does_not_change_the_weights(form: str) -> None:
    plain, other = tensors(generated("v7-yolov5n").module), tensors(generated(f"v7-yolov5n-{form}").module)
    assert list(plain) == list(other)
    for name, tensor in plain.items():
        # the strided one was saved in float32, the plain one in the half precision that it was rounded to
        np.testing.assert_array_equal(tensor.numpy(), other[name].numpy().astype(tensor.numpy().dtype), err_msg=name)


def test_channels_last_weights_are_strided_views() -> None:
    weight = tensors(generated("v7-yolov5n-channelslast").module)["model.0.conv.weight"]
    assert weight.strides[1] == 1
    assert not weight.numpy().flags.c_contiguous


def test_bfloat16_weights_are_the_rounded_float32_ones() -> None:
    plain = tensors(generated("v7-yolov5n").module)["model.0.conv.weight"].float64()
    rounded = tensors(generated("v7-yolov5n-bf16").module)["model.0.conv.weight"]
    assert rounded.dtype == "bfloat16"
    np.testing.assert_allclose(rounded.float64(), plain, rtol=2**-7)


def test_the_average_of_a_training_state_is_read_not_its_model() -> None:
    checkpoint = generated("v7-yolov5n-training")
    assert all(tensor.dtype in {"float16", "int64", "float32"} for tensor in tensors(checkpoint.module).values())
    assert tensors(checkpoint.module)["model.0.conv.weight"].dtype == "float16"
    assert checkpoint.metadata["epoch"] == 12
    assert checkpoint.metadata["opt"] == {"weights": "yolov5n.pt", "epochs": 50}


def test_a_state_dict_alone_is_refused_with_the_next_step() -> None:
    with pytest.raises(CheckpointError) as caught:
        generated("refuse-statedict-only")
    assert str(caught.value) == (
        "refuse-statedict-only.pt: holds weights without an architecture (a state_dict of 349 tensors), which look "
        "like a YOLO network: expected a ResNet, the only architecture that can be recognised from its tensors, got no "
        "conv1.weight, no bn1.weight, no layer1.0.conv1.weight; give the .pt that the training saved (best.pt), or "
        "save the whole model: torch.save({'model': model}, path)"
    )
