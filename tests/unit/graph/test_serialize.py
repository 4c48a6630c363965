from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import pytest

from yoloship.errors import GraphError
from yoloship.graph.builder import Builder
from yoloship.graph.serialize import IR_VERSION, OPSET, to_onnx, write_onnx
from yoloship.model import TensorSpec


def graph(constants: int = 3, name: str = "test") -> Any:
    builder = Builder(dynamic_hw=False)
    wire = builder.input(TensorSpec("x", "float32", (1, 200)), (1, 200))
    for number in range(constants):  # of lengths whose varints take one, two and three bytes
        values = np.full((1, 200 if number else 1), number + 1, np.float32)
        constant = builder.constant(f"c{number}", values, "float32")
        wire = builder.node("Add", f"add{number}", (wire, constant), (1, 200), "float32")
    builder.output(wire, TensorSpec("y", "float32", (1, 200)))
    return builder.build(name)


@pytest.mark.parametrize("constants", [1, 3, 40])
def test_what_is_written_piece_by_piece_is_the_message_in_memory(constants: int) -> None:
    file = io.BytesIO()
    metadata = {"b": "2", "a": "1 \N{SNOWMAN}"}
    count = write_onnx(graph(constants), metadata, file)
    assert count == len(file.getvalue())
    model = onnx.load_from_string(file.getvalue())
    assert model == to_onnx(graph(constants), metadata)
    assert [(entry.key, entry.value) for entry in model.metadata_props] == list(metadata.items())
    onnx.checker.check_model(model, full_check=True)


def test_a_file_is_of_the_oldest_versions_that_have_what_is_used() -> None:
    model = to_onnx(graph(), {})
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET) == (8, 17)


def test_a_text_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(GraphError, match="a name in the checkpoint is not valid text"):
        to_onnx(graph(), {"names": "\ud800"})
