"""How much a network computes: multiplications and additions of convolutions and matrix products, nothing else.

A multiply-add counts as two, as the field's tables do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from yoloship.graph.build import trace
from yoloship.graph.config import GraphConfig
from yoloship.graph.constants import ShapesOnly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.checkpoint import Checkpoint

COUNTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def checkpoint_flops(checkpoint: Checkpoint, input_hw: tuple[int, int] = (640, 640)) -> int:
    """Operations for one picture, head left undecoded.

    Args:
        checkpoint: A detector.
        input_hw: (height, width) in model pixels.

    Raises:
        GraphError: see `build_graph`.
    """
    graph = trace(checkpoint, GraphConfig(input_hw=input_hw, output_form="heads"), ShapesOnly())
    shapes = {name: wire.shape for name, wire in graph.wires.items()}
    shapes |= {spec.name: spec.shape for spec in (*graph.inputs, *graph.outputs)}
    shapes |= {name: array.shape for name, array in graph.constants.items()}
    total = 0
    for node in graph.nodes:
        inputs = [shapes.get(name, ()) for name in node.inputs[:2]]
        total += node_flops(node.op, inputs, shapes[node.outputs[0]]) or 0  # type: ignore[arg-type]  # all are fixed
    return total


def node_flops(op: str, inputs: Sequence[Sequence[int]], output: Sequence[int]) -> int:
    """Operations of one node.

    Args:
        op: ONNX operator name.
        inputs: Shapes of the first two, data and weights.
        output: Shape of the first.

    Returns:
        0 for operators that are not counted.
    """
    if op not in COUNTED or len(inputs) < 2:
        return 0
    data, weight = inputs
    if op == "Conv":
        return 2 * math.prod(output) * math.prod(weight[1:])
    if op == "ConvTranspose":
        return 2 * math.prod(data) * math.prod(weight[1:])
    inner = data[-1] if data else 0
    if op == "Gemm" and output and data:
        inner = math.prod(data) // max(1, output[0])
    return 2 * math.prod(output) * inner
