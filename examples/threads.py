"""Many threads share one detector, as in a server: `submit` gives a future, and the image runs with what waits.

    python examples/threads.py

It checks that each thread gets the boxes of its own frames.
"""

from concurrent.futures import ThreadPoolExecutor

import cv2
from _demo import demo_images, demo_model

import yoloship

CAMERAS = 4
FRAMES = 5


def main() -> None:
    """Four cameras, each in its own thread, hand their frames to one detector."""
    images = [cv2.imread(str(path)) for path in demo_images(CAMERAS)]

    with yoloship.load(demo_model(), tuned_for="throughput") as detector:
        alone = [detector(image) for image in images]

        def camera(number: int) -> int:
            """Submit a few frames, then wait for each result; it belongs to this camera and no other."""
            futures = [detector.submit(images[number]) for _ in range(FRAMES)]
            return sum(future.result() == alone[number] for future in futures)

        with ThreadPoolExecutor(CAMERAS) as pool:
            right = list(pool.map(camera, range(CAMERAS)))

    print(f"{sum(right)} of {CAMERAS * FRAMES} frames with the boxes of their own camera")


if __name__ == "__main__":
    main()
