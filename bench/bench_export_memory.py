"""Peak memory of `yoloship export`, beside the size of the file that it writes.

Makes a checkpoint of 62 million parameters (the size of a YOLOv3) in a temporary folder, exports it in a process of its
own, and reads that process's peak from the system. Linux. Run from the repository's root:

    python bench/bench_export_memory.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from helpers import forge

CLASSES, ANCHORS = 80, 3
STRIDES = (8, 16, 32)
WIDTHS = (32, 64, 128, 256, 512, 1024)
DEPTHS = (0, 1, 2, 8, 8, 3)
"""3x3 convolutions after each one that halves the size, as pairs that narrow and widen again."""
KINDS = {"float16": "torch.HalfStorage", "float32": "torch.FloatStorage"}


class Network:
    """Collects the layers and the bytes of a detector."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.rng = np.random.default_rng(0)
        self.layers: dict[str, bytes] = {}
        self.storages: dict[str, bytes] = {}
        self.parameters = 0
        self.last: dict[int, int] = {}

    def tensor(self, *shape: int, low: float = -0.02, high: float = 0.02) -> bytes:
        """Instructions for a tensor of uniform random numbers."""
        values = self.rng.random(shape, np.float32) * (high - low) + low
        key = str(len(self.storages))
        self.storages[key] = values.astype(self.dtype).tobytes()
        self.parameters += values.size
        strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
        return forge.tensor(forge.storage(key, values.size, KINDS[self.dtype]), shape, strides)

    def convolution(self, inputs: int, outputs: int, k: int, s: int, *, bias: bool) -> bytes:
        attributes = {
            "kernel_size": forge.integers((k, k)),
            "stride": forge.integers((s, s)),
            "padding": forge.integers((k // 2, k // 2)),
            "dilation": forge.integers((1, 1)),
            "groups": forge.integer(1),
            "padding_mode": forge.text("zeros"),
        }
        parameters = {
            "weight": forge.parameter(self.tensor(outputs, inputs, k, k)),
            "bias": forge.parameter(self.tensor(outputs)) if bias else forge.NONE,
        }
        return forge.module("torch.nn.modules.conv.Conv2d", attributes, parameters)

    def layer(self, inputs: int, outputs: int, k: int, s: int = 1) -> None:
        """Append a convolution, a batch-norm and SiLU."""
        norm = forge.module(
            "torch.nn.modules.batchnorm.BatchNorm2d",
            {"eps": forge.number(1e-3)},
            {name: forge.parameter(self.tensor(outputs, low=0.5, high=1.5)) for name in ("weight", "bias")},
            {name: self.tensor(outputs, low=0.5, high=1.5) for name in ("running_mean", "running_var")},
        )
        parts = {
            "conv": self.convolution(inputs, outputs, k, s, bias=False),
            "bn": norm,
            "act": forge.module("torch.nn.modules.activation.SiLU"),
        }
        index = len(self.layers)
        attributes = {"i": forge.integer(index), "f": forge.integer(-1)}
        self.layers[str(index)] = forge.module("models.common.Conv", attributes, modules=parts)

    def pickle(self) -> bytes:
        """The whole checkpoint: the layers so far, and a head on the last three sizes."""
        convs = {
            str(i): self.convolution(WIDTHS[3 + i], ANCHORS * (5 + CLASSES), 1, 1, bias=True)
            for i in range(len(STRIDES))
        }
        self.storages["strides"] = np.array(STRIDES, np.float32).tobytes()
        anchors = self.tensor(len(STRIDES), ANCHORS, 2, low=1.0, high=4.0)
        head = forge.module(
            "models.yolo.Detect",
            {
                "nc": forge.integer(CLASSES),
                "no": forge.integer(5 + CLASSES),
                "nl": forge.integer(len(STRIDES)),
                "na": forge.integer(ANCHORS),
                "f": forge.listed(*(forge.integer(self.last[stride]) for stride in STRIDES)),
                "stride": forge.tensor(forge.storage("strides", 3), (3,), (1,)),
            },
            {},
            {"anchors": anchors},
            {"m": forge.module("torch.nn.modules.container.ModuleList", modules=convs)},
        )
        layers = {**self.layers, str(len(self.layers)): head}
        names = forge.listed(*(forge.text(f"class{index}") for index in range(CLASSES)))
        sequence = forge.module("torch.nn.modules.container.Sequential", modules=layers)
        model = forge.module("models.yolo.DetectionModel", {"names": names}, modules={"model": sequence})
        return forge.end(forge.table({"model": model}))


def write_checkpoint(path: Path, dtype: str) -> int:
    """Write the checkpoint.

    Returns:
        How many parameters it has.
    """
    network = Network(dtype)
    inputs = 3
    for level, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        network.layer(inputs, width, 3, 1 if level == 0 else 2)
        for _ in range(depth):
            network.layer(width, width // 2, 1)
            network.layer(width // 2, width, 3)
        network.last[2**level] = len(network.layers) - 1
        inputs = width
    for _ in range(5):  # a neck of 3x3 convolutions at the last size
        network.layer(1024, 512, 1)
        network.layer(512, 1024, 3)
    network.last[32] = len(network.layers) - 1
    path.write_bytes(forge.zip_bytes(network.pickle(), network.storages))
    return network.parameters


def write_elsewhere(path: Path, dtype: str) -> int:
    """`write_checkpoint` in another process, because the peak of a child begins with the memory of its parent."""
    command = [sys.executable, __file__, "--write", str(path), "--dtype", dtype]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_mb(command: list[str]) -> tuple[float, float]:
    """Peak resident memory of a process in MB (10^6 bytes), and its wall time in seconds."""
    started_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command[0]} failed with status {status}")
    return usage.ru_maxrss * 1024 / 1e6, time.perf_counter() - started_s


def main() -> None:
    """Print one row for each element type of the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path, help="only write a checkpoint there, and say how many parameters it has")
    parser.add_argument("--dtype", choices=list(KINDS), default="float16")
    arguments = parser.parse_args()
    if arguments.write is not None:
        print(write_checkpoint(arguments.write, arguments.dtype))
        return
    bare, _ = peak_mb([sys.executable, "-c", "import onnx, numpy, yoloship.checkpoint, yoloship.graph"])
    print(f"an interpreter that has imported onnx and the two rooms: {bare:.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        for dtype in KINDS:
            source, target = Path(folder, f"{dtype}.pt"), Path(folder, f"{dtype}.onnx")
            parameters = write_elsewhere(source, dtype)
            command = [sys.executable, "-m", "yoloship", "export", str(source), "-o", str(target), "--overwrite"]
            runs = [peak_mb(command) for _ in range(arguments.runs)]
            size = target.stat().st_size / 1e6
            peak = max(mb for mb, _ in runs)
            print(
                f"{dtype} checkpoint of {source.stat().st_size / 1e6:.0f} MB, {parameters / 1e6:.1f} M parameters: "
                f"{size:.0f} MB written, peak {peak:.0f} MB = {peak / size:.2f} x, {min(s for _, s in runs):.1f} s"
            )


if __name__ == "__main__":
    main()
