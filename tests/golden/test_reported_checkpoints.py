"""The checkpoints of ../shared/cases that concern reading, held against Python's own reading over empty classes."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from helpers.shared import CHECKPOINTS, SHARED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import CheckpointError
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.images import read_image
from yoloship.letterbox import Letterbox

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8", "HalfStorage": "<f2"}
PLAIN = {"OrderedDict": dict, "set": set, "dict": dict, "defaultdict": lambda factory: {}}


class Stub:
    """Whatever class the file names: it keeps its state and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Unpickler(pickle.Unpickler):
    """Python's own reading of a file made for this project, over stubs."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.root = next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
        super().__init__(io.BytesIO(archive.read(f"{self.root}data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        if name.startswith("_rebuild_tensor"):
            return lambda storage, offset, size, stride, *rest: np.lib.stride_tricks.as_strided(
                storage[offset:], size, [step * storage.itemsize for step in stride]
            )
        if name == "_rebuild_parameter":
            return lambda data, *rest: data
        return PLAIN.get(name, type(name, (Stub,), {"path": f"{module}.{name}"}))

    def persistent_load(self, key: Any) -> npt.NDArray[Any]:
        _, kind, name, _, _ = key
        return np.frombuffer(self.archive.read(f"{self.root}data/{name}"), DTYPES[kind.__name__])


def weights(module: Any, place: str = "") -> dict[str, npt.NDArray[np.float64]]:
    """The convolutions' effective weights by place."""
    found = {}
    table = {**module._parameters, **module._buffers}
    if "weight_mask" in table:
        found[place] = table["weight_orig"].astype(np.float64) * table["weight_mask"]
    elif "weight_g" in table:
        v = table["weight_v"].astype(np.float64)
        found[place] = table["weight_g"] * v / np.sqrt((v * v).sum(axis=(1, 2, 3), keepdims=True))
    elif module.path.endswith("Conv2d"):
        found[place] = table["weight"].astype(np.float64)
    for name, child in module._modules.items():
        found |= weights(child, f"{place}.{name}" if place else name)
    return found


def inner(content: Any) -> Any:
    model = content["model"] if isinstance(content, dict) else content
    while True:
        child = model._modules.get("module") or model._modules.get("model")
        if model.path.endswith("DetectionModel"):
            return model
        model = child


def case(name: str) -> Path:
    return require(SHARED / "cases" / f"{name}.pt")


READ = ["autoshape", "dmb", "ddp", "torch-version", "optimizer-object", "prune-mask", "weight-norm"]


@pytest.mark.parametrize("name", READ)
def test_a_reported_checkpoint_is_read_and_its_weights_are_what_the_layers_compute_with(name: str) -> None:
    with zipfile.ZipFile(case(name)) as archive:
        expected = weights(inner(Unpickler(archive).load()))
    checkpoint = read_checkpoint(case(name))
    found = {
        place: layer.parameters["weight"] for place, layer in checkpoint.module.walk() if layer.class_name == "Conv2d"
    }
    assert set(found) == set(expected)
    assert len(found) > 10
    for place, weight in found.items():
        assert weight is not None
        np.testing.assert_allclose(weight.float64(), expected[place], rtol=1e-12, atol=0)
    assert checkpoint.names_for(3) == ("a", "b", "c")


def raw(checkpoint: Any, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    model = build_graph(checkpoint, GraphConfig((int(images.shape[2]), int(images.shape[3])), len(images)))
    output: npt.NDArray[np.float32] = ort.InferenceSession(graph_bytes(model)).run(None, {"images": images})[0]
    return output


@pytest.mark.parametrize("name", READ)
def test_a_reported_checkpoint_gives_the_graph_of_its_network(name: str) -> None:
    images = np.random.default_rng(7).random((1, 3, 64, 96), dtype=np.float32)
    output = raw(read_checkpoint(case(name)), images)
    assert output.shape == (1, 3 * (8 * 12 + 4 * 6 + 2 * 3), 8)
    assert np.isfinite(output).all()
    assert output[..., 2:4].min() > 0


NAMES = {
    "names-str-keys": ("a", "b", "c"),
    "names-np-str": ("a", "b", "c"),
    "names-text": ("person",),
    "names-gap": "has class names of the ids 0, 2, 5 rather than of 0 to 2",
    "names-more": "has 4 class names for 3 classes",
}


@pytest.mark.parametrize("name", NAMES)
def test_reported_class_names_are_taken_or_asked_for(name: str) -> None:
    checkpoint = read_checkpoint(case(name))
    expected = NAMES[name]
    if isinstance(expected, tuple):
        assert build_graph(checkpoint, GraphConfig((64, 64))).graph.output
        assert checkpoint.class_names == expected
        return
    with pytest.raises(CheckpointError, match=rf"{expected}; give the names of its 3 classes with --names"):
        build_graph(checkpoint, GraphConfig((64, 64)))
    assert build_graph(checkpoint.with_class_names(("x", "y", "z")), GraphConfig((64, 64))).graph.output


def test_a_checkpoint_saved_with_dill_imported_agrees_with_the_official_code() -> None:
    path = require(CHECKPOINTS / "wild" / "0ed608-dill-yolov5n.pt")
    expected = np.load(path.with_suffix(".npz"))["bus.jpg"]
    image = read_image(require(SHARED / "photos" / "bus.jpg"))
    canvas = Letterbox.fixed((image.shape[0], image.shape[1]), (640, 640)).apply(image)
    images = (canvas[None, :, :, ::-1].transpose(0, 3, 1, 2) / 255).astype(np.float32)
    found = raw(read_checkpoint(path), np.ascontiguousarray(images))[0]
    assert np.abs(found[:, 4:] - expected[:, 4:]).max() < 1e-3
    likely = expected[:, 4] > 0.05
    assert likely.any()
    assert np.abs(found[likely, :4] - expected[likely, :4]).max() < 0.5
