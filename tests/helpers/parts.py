"""Single modules as graphs of their own, run by ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime as ort

from yoloship.graph.blocks import emit
from yoloship.graph.builder import Builder
from yoloship.graph.families.yolov5 import Yolov5
from yoloship.graph.module_view import ModuleView, check_consumed
from yoloship.graph.serialize import to_onnx
from yoloship.model import TensorSpec

if TYPE_CHECKING:
    from yoloship.checkpoint import Module


def part_graph(module: Module, *arrays: Any, dynamic: bool = False) -> onnx.ModelProto:
    """The module's graph for inputs like these; nothing of the module is left out."""
    builder = Builder(dynamic_hw=dynamic, blocks=Yolov5.blocks)
    wires = []
    for index, array in enumerate(arrays):
        axes = (*array.shape[:2], "height", "width") if dynamic else array.shape
        wires.append(builder.input(TensorSpec(f"x{index}", "float32", axes), array.shape))
    part = ModuleView(module, "block", "test.pt")
    wire = emit(builder, part, wires)
    check_consumed(part)
    shape = (*wire.shape[:2], "rows", "columns") if dynamic else wire.shape
    builder.output(wire, TensorSpec("y", "float32", shape))
    model = to_onnx(builder.build("test"), {})
    onnx.checker.check_model(model, full_check=True)
    return model


def run_part(module: Module, *arrays: Any, dynamic: bool = False) -> Any:
    """What the module's graph makes of these inputs."""
    model = part_graph(module, *arrays, dynamic=dynamic)
    session = ort.InferenceSession(model.SerializeToString())
    return session.run(None, {f"x{index}": array for index, array in enumerate(arrays)})[0]
