"""Writing the ONNX graph from a module tree, and reading what an ONNX file says about itself."""

from __future__ import annotations

from yoloship.graph.build import build_graph, model_info, write_graph
from yoloship.graph.config import GraphConfig, nearest_sizes
from yoloship.graph.describe import GraphSummary, checkpoint_flops, describe_onnx
from yoloship.graph.onnx_file import graph_bytes

__all__ = [
    "GraphConfig",
    "GraphSummary",
    "build_graph",
    "checkpoint_flops",
    "describe_onnx",
    "graph_bytes",
    "model_info",
    "nearest_sizes",
    "write_graph",
]
