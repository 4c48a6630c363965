"""Run a model with OpenVINO on the processor, and compare its boxes with those of ONNX Runtime.

    pip install 'yoloship[openvino]'
    python examples/openvino_runtime.py

On Intel processors with AMX, bfloat16 is much faster than float32, and its boxes differ a little. So yoloship never
chooses it: you name it. Measure on your machine with `yoloship bench`, and compare with `yoloship verify`.
"""

import sys

from _demo import demo_images, demo_model

import yoloship
from yoloship.evaluate.verification import verify


def main() -> None:
    """Run both runtimes on the same images."""
    paths = demo_images(4)
    try:
        openvino = yoloship.load(demo_model(), runtime="openvino", runtime_precision="float32")
    except yoloship.DependencyError as error:
        sys.exit(f"cannot run here: {error}")

    with openvino, yoloship.load(demo_model(), runtime="onnxruntime") as onnxruntime:
        report = verify(("ONNX Runtime", onnxruntime), ("OpenVINO", openvino), paths)
    print(f"{len(report.ious)} objects found by both, smallest overlap {min(report.ious):.4f}")
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
