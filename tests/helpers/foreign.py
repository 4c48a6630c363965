"""Our graph of the raw form as another exporter would have written it: no metadata, other names, another producer."""

from __future__ import annotations

import onnx

INPUT, OUTPUT = "input.1", "345"


def foreign(model: onnx.ModelProto) -> onnx.ModelProto:
    """Change a raw graph of ours, in place."""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.producer_name, model.producer_version = "pytorch", "1.9"
    model.graph.name = "torch-jit-export"
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
        node.input[:] = [foreign_name(name) for name in node.input]
        node.output[:] = [foreign_name(name) for name in node.output]
    for named in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        named.name = foreign_name(named.name)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim[0].dim_param:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(model, full_check=True)
    return model


def foreign_name(name: str) -> str:
    given = {"": "", "images": INPUT, "output0": OUTPUT}
    return given.get(name, f"onnx::{name.replace('.', '_').replace('/', '_')}")
