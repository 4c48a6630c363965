"""Frames on an NVIDIA GPU: pinned memory, futures, and a stream.

    pip install 'yoloship[cuda]' onnxruntime-gpu
    python examples/gpu_pipeline.py

Without a GPU it says why it cannot run. The code is the same for both: `python examples/gpu_pipeline.py cpu` runs it on
the processor.
"""

import sys

import cv2
from _demo import demo_images, demo_model

import yoloship

FRAMES = 32


def main() -> None:
    """Run the same frames three ways."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    images = [cv2.imread(str(path)) for path in demo_images(4)]
    try:
        detector = yoloship.load(demo_model(), device=device)
    except (yoloship.CudaError, yoloship.DependencyError) as error:
        sys.exit(f"cannot run here: {error}")

    with detector:
        detector.prepare()  # builds the runs for every batch size now, so that no frame waits for them later

        # Lowest latency: frames in pinned memory. The GPU fetches them from there, and nothing is copied before.
        frame = detector.pinned_frame(images[0].shape[:2])
        frame[:] = images[0]  # a camera's driver would write here
        found = detector(frame)
        print(f"pinned: {len(found)} objects")

        # Highest throughput: hand over many frames, and take the results later. Frames that wait run together.
        futures = [detector.submit(images[number % len(images)]) for number in range(FRAMES)]
        results = [future.result() for future in futures]
        assert results[0] == found
        print(f"submit: {sum(map(len, results))} objects in {len(results)} frames")

        # A sequence of any length, in order.
        streamed = [outcome.unwrap() for outcome in detector.stream(images)]
        assert streamed == results[: len(images)]
        print(f"stream: {sum(map(len, streamed))} objects in {len(streamed)} frames")


if __name__ == "__main__":
    main()
