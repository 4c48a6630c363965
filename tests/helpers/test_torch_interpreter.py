"""What the TensorRT stand-in computes with gives the numbers of ONNX Runtime; asked where torch is installed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from helpers.shared import TRAINED, listed, require
from helpers.torch_interpreter import TorchNetwork
from yoloship.checkpoint import read_checkpoint
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch: Any = pytest.importorskip("torch", reason="needs torch, which nothing but tests may")


@pytest.mark.parametrize(
    ("hw", "output_form", "input_form"),
    [(None, "heads", "image"), ((64, 96), "raw", "float"), (None, "raw", "float"), (None, "compact", "image")],
)
def test_torch_gives_the_numbers_of_onnx_runtime(hw: Any, output_form: Any, input_form: Any) -> None:
    path = require(listed(TRAINED, "*yolov5n*.pt")[0])
    batch = None if hw is None else 2
    model = build_graph(read_checkpoint(path), GraphConfig(hw, batch, input_form, output_form))
    shape = (2, 3, 64, 96) if input_form == "float" else (2, 64, 96, 3)
    images = np.random.default_rng().random(shape, np.float32)
    if input_form == "image":
        images = (images * 255).astype(np.uint8)
    with OnnxRuntimeSession.open(graph_bytes(model), intra_op_threads=1) as session:
        wanted: tuple[Any, ...] = session.run({"images": images})
        names = [spec.name for spec in session.outputs]
    uploaded: dict[str, Any] = {}
    network = TorchNetwork(torch, model, "cpu")
    with torch.no_grad():
        for _ in range(2):
            found = network.run({"images": torch.from_numpy(images)}, uploaded)
            kept = len(uploaded)
    assert len(uploaded) == kept
    for name, value in zip(names, wanted, strict=True):
        if value.dtype == np.int32:
            assert (found[name].numpy() == value).mean() > 0.95
        else:
            np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-3, atol=0.02)
    shapes = TorchNetwork(torch, model, "meta").run({"images": torch.from_numpy(images).to("meta")}, {})
    assert {name: tuple(value.shape) for name, value in shapes.items()} == {
        name: value.shape for name, value in zip(names, wanted, strict=True)
    }
