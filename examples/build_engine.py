"""Build a TensorRT engine, and show what was built.

    pip install 'yoloship[rtx]'        # or 'yoloship[tensorrt]' on a machine with an NVIDIA GPU
    python examples/build_engine.py

It writes `codes.engine`, a plain plan for any TensorRT program, and `codes.engine.json`, which describes it. With the
extra `rtx` this works on a machine without a GPU. This example builds and does not run the engine.
"""

import json
from pathlib import Path

from _demo import demo_model

import yoloship


def main() -> None:
    """Build in float16, for batches of 1 to 16 images."""
    built = yoloship.build(demo_model(), "codes.engine", precision="float16", batch=(1, 4, 16), overwrite=True)
    print(f"{built.path}: {built.size_bytes / 1e6:.1f} MB, {built.precision}, runs on: {built.runs_on}")
    print(f"built by {built.built_by} in {built.elapsed_s:.1f} s")

    about = json.loads(Path("codes.engine.json").read_text(encoding="utf-8"))
    for tensor in (*about["inputs"], *about["outputs"]):
        print(f"{tensor['name']}: {tensor['dtype']} {tensor['shape']}")


if __name__ == "__main__":
    main()
