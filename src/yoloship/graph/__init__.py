"""Writing the ONNX graph from a module tree, and reading what an ONNX file says about itself."""

from __future__ import annotations

from yoloship.graph.build import build_graph, model_info, network_facts, usual_hw, write_graph
from yoloship.graph.check import OnnxFile, read_onnx
from yoloship.graph.config import GraphConfig, nearest_sizes
from yoloship.graph.describe import GraphCosts, checkpoint_flops, graph_costs
from yoloship.graph.onnx_file import graph_bytes

__all__ = [
    "GraphConfig",
    "GraphCosts",
    "OnnxFile",
    "build_graph",
    "checkpoint_flops",
    "graph_bytes",
    "graph_costs",
    "model_info",
    "nearest_sizes",
    "network_facts",
    "read_onnx",
    "usual_hw",
    "write_graph",
]
