"""`read_checkpoint` on forged files: what it finds, and what it says of files that are none."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from helpers import forge
from yoloship.checkpoint import Module, read_checkpoint
from yoloship.checkpoint.limits import Limits
from yoloship.checkpoint.reader import read_with_limits
from yoloship.errors import CheckpointError, InputError


def first_layer(module: Module) -> Module:
    sequence = module.children["model"]
    assert sequence is not None
    layer = sequence.children["0"]
    assert layer is not None
    return layer


@pytest.fixture(params=["zip", "legacy", "deflated"])
def best(request: pytest.FixtureRequest) -> bytes:
    pickle = forge.checkpoint(date=forge.text("2024-01-01"))
    if request.param == "legacy":
        return forge.legacy_bytes(pickle)
    return forge.zip_bytes(pickle, method=zipfile.ZIP_DEFLATED if request.param == "deflated" else zipfile.ZIP_STORED)


def test_each_container_gives_the_same_model(best: bytes, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(best)
    checkpoint = read_checkpoint(path)
    assert checkpoint.name == "best.pt"
    assert checkpoint.sha256 == hashlib.sha256(best).hexdigest()
    assert (checkpoint.source_key, checkpoint.task) == ("model", "detect")
    assert checkpoint.class_names == ("helmet", "vest")
    assert checkpoint.strides == (8, 16, 32)
    assert checkpoint.metadata == {"epoch": -1, "date": "2024-01-01"}
    assert checkpoint.module.parameter_count() == 24
    weight = first_layer(checkpoint.module).parameters["weight"]
    assert weight is not None
    assert weight.requires_grad
    np.testing.assert_array_equal(weight.numpy(), np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2))
    assert not weight.numpy().flags.writeable


def test_bytes_and_text_paths_are_read_too(best: bytes, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(best)
    assert read_checkpoint(best).sha256 == read_checkpoint(str(path)).sha256


def test_the_records_outlive_the_file_name(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(forge.zip_bytes(forge.checkpoint()))
    weight = first_layer(read_checkpoint(path).module).parameters["weight"]
    assert weight is not None
    array = weight.numpy()
    try:
        path.unlink()
    except PermissionError:
        pytest.skip("this system does not let a mapped file be deleted")
    assert array.sum() == 276


def test_ema_counts_before_model_and_optimizer_is_left_out() -> None:
    average = forge.model({"names": forge.listed(forge.text("a"), forge.text("b"))})
    state = forge.table({"ema": average, "model": forge.model(), "optimizer": forge.table({"state": forge.EMPTY_DICT})})
    checkpoint = read_checkpoint(forge.zip_bytes(forge.end(state)))
    assert checkpoint.source_key == "ema"
    assert checkpoint.class_names == ("a", "b")
    assert "optimizer" not in checkpoint.metadata


@pytest.mark.parametrize("ema", [forge.NONE, forge.table({"0.weight": forge.NONE})])
def test_model_counts_where_ema_is_no_model(ema: bytes) -> None:
    checkpoint = read_checkpoint(forge.zip_bytes(forge.end(forge.table({"ema": ema, "model": forge.model()}))))
    assert checkpoint.source_key == "model"


def test_ema_beside_its_count_of_updates_is_read() -> None:
    state = forge.table({"ema": forge.row(forge.model(), forge.integer(7)), "model": forge.NONE})
    assert read_checkpoint(forge.zip_bytes(forge.end(state))).source_key == "ema"


def test_a_bare_model_and_a_wrapped_one_are_read() -> None:
    assert read_checkpoint(forge.zip_bytes(forge.end(forge.model()))).module.class_name == "DetectionModel"
    wrapped = forge.module("torch.nn.parallel.data_parallel.DataParallel", modules={"module": forge.model()})
    assert read_checkpoint(forge.zip_bytes(forge.end(wrapped))).module.class_name == "DetectionModel"


def test_an_unknown_block_reaches_the_graph_builder_with_its_class_path() -> None:
    block = forge.module("models.common.CBAM")
    checkpoint = read_checkpoint(forge.zip_bytes(forge.end(forge.table({"model": forge.model(extra={"1": block})}))))
    assert dict(checkpoint.module.walk())["model.1"].class_path == "models.common.CBAM"


def test_metadata_with_tensors_or_modules_is_left_out() -> None:
    inside = forge.listed(forge.tensor(forge.storage("1", 3), (3,), (1,)))
    checkpoint = read_checkpoint(forge.zip_bytes(forge.checkpoint(extra=inside, twin=forge.model(), kept=forge.TRUE)))
    assert dict(checkpoint.metadata) == {"epoch": -1, "kept": True}


def test_a_shared_module_is_one_record() -> None:
    shared = forge.module("torch.nn.modules.activation.SiLU")
    extra = {"1": shared + b"r\xff\x00\x00\x00", "2": b"j\xff\x00\x00\x00"}
    layers = dict(read_checkpoint(forge.zip_bytes(forge.end(forge.model(extra=extra)))).module.walk())
    assert layers["model.1"] is layers["model.2"]


NOT_CHECKPOINTS = {
    "empty": (b"", "best.pt: is empty (0 bytes); download or copy the file again"),
    "zeros": (
        bytes(4096),
        "best.pt: is made of zero bytes, like an unfinished download; download or copy the file again",
    ),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "best.pt: is a Git LFS pointer, not the file it points to; run 'git lfs pull'",
    ),
    "html": (
        b"\n<!DOCTYPE html><html></html>",
        "best.pt: is a web page, not a checkpoint; download the file itself, not its page",
    ),
    "gzip": (b"\x1f\x8b\x08\x00", "best.pt: is a gzip archive, not a checkpoint; unpack it, and give the file inside"),
    "tar": (
        forge.old_tar(),
        "best.pt: is a tar archive (a packed folder, or a model of torch 0.1), not a checkpoint; "
        "unpack it, or save the model with torch 0.4 or newer",
    ),
    "safetensors": (
        struct.pack("<Q", 16) + b'{"a":{}}        ',
        "best.pt: is a safetensors file (weights without an architecture), not a checkpoint; "
        "give the .pt that the training saved",
    ),
    "onnx": (
        b"\x08\x08\x12\x07pytorch\x1a\x052.1.0",
        "best.pt: is an ONNX model, not a checkpoint; give the .pt that it was exported from; "
        "'yoloship predict' runs the ONNX file itself",
    ),
    "image": (
        b"\x89PNG\r\n\x1a\n",
        "best.pt: is a PNG image, not a checkpoint; give the model first, then the images",
    ),
    "text": (
        b"hello, world",
        "best.pt: is a text file, not a checkpoint",
    ),
    "plain pickle": (
        forge.end(forge.NONE),
        "best.pt: is a Python pickle that torch.save did not write, not a checkpoint; give the .pt that the training "
        "saved",
    ),
    "torchscript": (
        forge.zip_bytes(forge.end(forge.NONE), others={"constants.pkl": b"", "code/__torch__.py": b""}),
        "best.pt: is a TorchScript archive, not a checkpoint; give the .pt that it was exported from",
    ),
    "zip without data.pkl": (
        forge.zip_bytes(b"").replace(b"data.pkl", b"data.txt"),
        "best.pt: is a zip without data.pkl, not a checkpoint; if it is packed, unpack it first",
    ),
    "two data.pkl": (
        forge.zip_bytes(b"", others={"copy/data.pkl": b""}),
        "best.pt: zip with 2 data.pkl; give one checkpoint",
    ),
    "big-endian": (
        forge.zip_bytes(forge.checkpoint(), others={"byteorder": b"big"}),
        "best.pt: written on a big-endian machine; save it again on a little-endian one",
    ),
    "big-endian legacy": (
        forge.legacy_bytes(forge.checkpoint(), little_endian=forge.FALSE),
        "best.pt: written on a big-endian machine; save it again on a little-endian one",
    ),
    "state dict": (
        forge.zip_bytes(forge.end(forge.table({"0.weight": forge.tensor(forge.storage("0", 24), (24,), (1,))}))),
        "best.pt: holds weights without an architecture (a state_dict of 1 tensor), which look like another network "
        "(0.weight, …): expected a ResNet, the only architecture that can be recognised from its tensors, got no "
        "conv1.weight, no bn1.weight, no layer1.0.conv1.weight; give the .pt that the training saved (best.pt), or "
        "save the whole model: torch.save({'model': model}, path)",
    ),
    "state dict under a key": (
        forge.zip_bytes(
            forge.end(forge.table({"model": forge.table({"w": forge.tensor(forge.storage("0", 24), (24,), (1,))})}))
        ),
        "best.pt: holds weights without an architecture (a state_dict of 1 tensor under 'model'), which look like "
        "another network (w, …): expected a ResNet, the only architecture that can be recognised from its tensors, got "
        "no conv1.weight, no bn1.weight, no layer1.0.conv1.weight; give the .pt that the training saved (best.pt), or "
        "save the whole model: torch.save({'model': model}, path)",
    ),
    "no model": (
        forge.zip_bytes(forge.end(forge.table({"epoch": forge.NONE}))),
        "best.pt: holds no model: got a dictionary of 'epoch'; give the .pt that the training saved (best.pt), "
        "or save the whole model: torch.save({'model': model}, path)",
    ),
    "a model under another key": (
        forge.zip_bytes(forge.end(forge.table({"epoch": forge.NONE, "net": forge.model()}))),
        "best.pt: holds a model under ['net'], rather than under 'model' or 'ema'; save it again: "
        "torch.save({'model': torch.load(path, weights_only=False)['net']}, path)",
    ),
    "a table in a table": (
        forge.zip_bytes(forge.end(forge.table({"model": forge.table({"model": forge.model()})}))),
        "best.pt: holds a model under ['model']['model'], rather than under 'model' or 'ema'; save it again: "
        "torch.save({'model': torch.load(path, weights_only=False)['model']['model']}, path)",
    ),
    "a list": (
        forge.zip_bytes(forge.end(forge.EMPTY_LIST)),
        "best.pt: holds no model: got a list; give the .pt that the training saved (best.pt), "
        "or save the whole model: torch.save({'model': model}, path)",
    ),
    "another model": (
        forge.zip_bytes(forge.end(forge.module("torchvision.models.vgg.VGG"))),
        "best.pt: holds a 'torchvision.models.vgg.VGG', which is a model of torchvision, which this "
        "version does not write yet; export it with the project that trained it",
    ),
    "an object without layers": (
        forge.zip_bytes(forge.end(forge.instance("models.yolo.Model", forge.EMPTY_DICT))),
        "best.pt: 'model' is a 'models.yolo.Model' without layers, not a model",
    ),
}


@pytest.mark.parametrize("name", NOT_CHECKPOINTS)
def test_what_is_no_checkpoint_is_named(name: str, tmp_path: Path) -> None:
    data, message = NOT_CHECKPOINTS[name]
    path = tmp_path / "best.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(caught.value) == message


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pt: no such file"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(InputError, match=r"is a folder, not a checkpoint; name a file in it"):
        read_checkpoint(tmp_path)
    with pytest.raises(InputError, match="not a valid file name"):
        read_checkpoint("a\0b")


def test_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(forge.zip_bytes(forge.checkpoint()))
    with pytest.raises(CheckpointError) as caught:
        read_with_limits(path, Limits(file_bytes=100))
    assert str(caught.value) == (
        f"{path}: is too long for a checkpoint: expected at most 100 bytes, got {path.stat().st_size:,} bytes"
    )


def test_many_threads_may_touch_one_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(forge.zip_bytes(forge.checkpoint(), method=zipfile.ZIP_DEFLATED))
    weight = first_layer(read_checkpoint(path).module).parameters["weight"]
    assert weight is not None
    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(lambda _: float(weight.numpy().sum()), range(64)))
    assert sums == [276.0] * 64


@pytest.mark.parametrize("aliases", ["a=b", [("a", "b")], {1: 2}, {"a": None}])
def test_aliases_of_another_type_are_refused_before_the_file_is_read(aliases: object) -> None:
    with pytest.raises(InputError, match="aliases: wrong type: expected a mapping from class paths to class paths"):
        read_checkpoint(b"", aliases=aliases)  # type: ignore[arg-type]  # what a caller may give
