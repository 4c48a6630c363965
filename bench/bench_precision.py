"""What each precision costs under ONNX Runtime on a CPU: the network alone, 640×640, interleaved.

python bench/bench_precision.py best.pt photo.jpg … [--rounds 15]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from _timing import conditions, interleaved, table

from yoloship.checkpoint import read_checkpoint
from yoloship.detect.detector import Detector
from yoloship.detect.feeds import feed_of
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.passes.half import convert_precision
from yoloship.precision.quantization import QuantizeConfig, quantize_with_images
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    graph = build_graph(read_checkpoint(options.checkpoint), GraphConfig(input_form="image", output_form="heads"))

    def quantized(**config: object) -> object:
        return quantize_with_images(graph, options.images, QuantizeConfig(max_drop=1, **config)).model  # type: ignore[arg-type]

    models = {
        "float32": graph,
        "float16 (cast to float32)": convert_precision(graph, "float16"),
        "int8, before convolutions": quantized(other_layers="float32"),
        "int8, float16 in between": quantized(other_layers="float16"),
        "int8, at both ends": quantized(placement="inputs_and_outputs"),
        "float8": quantized(precision="float8", other_layers="float32"),
        "float8, float16 in between": quantized(precision="float8", other_layers="float16"),
    }
    sessions = {name: OnnxRuntimeSession.open(graph_bytes(model)) for name, model in models.items()}  # type: ignore[arg-type]
    feed = feed_of(Detector(sessions["float32"]), options.images[0])
    print(conditions("numpy", "onnxruntime"))
    cases = {name: partial(session.run, feed) for name, session in sessions.items()}
    print(table(interleaved(cases, options.rounds), "float32"))


if __name__ == "__main__":
    main()
