"""Images a second that `stream` gives on a GPU, and how large its batches are.

python3 bench/gpu_stream.py MODEL.pt IMAGE.jpg
"""

from __future__ import annotations

import collections
import sys
import time
from typing import Any

import cv2
import torch

from yoloship.models.loading import load


def main(model: str, image: str) -> None:
    detector: Any = load(model, device="cuda")
    started = time.perf_counter()
    detector.prepare()
    print(f"prepare: {time.perf_counter() - started:.1f} s")
    sizes: collections.Counter[int] = collections.Counter()
    pipeline = detector._pipeline
    run = pipeline.run

    def counted(frames: Any, options: Any) -> Any:
        sizes[len(frames)] += 1
        return run(frames, options)

    pipeline.run = counted
    pixels = cv2.imread(image)
    resident = torch.from_numpy(pixels).cuda()
    for name, sources in (("arrays", [pixels] * 3000), ("resident", [resident] * 3000), ("files", [image] * 600)):
        for _ in range(2):
            sizes.clear()
            started = time.perf_counter()
            done = sum(outcome.error is None for outcome in detector.stream(sources))
            rate = done / (time.perf_counter() - started)
            print(f"{name}: {rate:.0f} a second, runs by batch {dict(sorted(sizes.items()))}", flush=True)
    detector.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
