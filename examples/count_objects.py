"""Count what passes: ids that stay the same in all frames, and a line that counts each object once.

    python examples/count_objects.py

It prints when something crosses the line, and writes `counted.jpg`, the last frame in which that happened. In your own
program, give `yoloship.track` the name of a video or a camera's number, and the line in a YAML file.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from _demo import demo_images, demo_model

import yoloship

RATE = 25
LINE = "units: fractions\nlines: [{name: middle, from: [0.5, 0], to: [0.5, 1], anchor: center}]"


def pan_over(path: str) -> Iterator[np.ndarray]:
    """A camera that moves over a picture: windows of it, 32 pixels further in each frame."""
    scene = cv2.imread(path)
    for left in range(0, scene.shape[1] - 640, 32):
        yield scene[:, left : left + 640]


def main() -> None:
    """Track, count, print, draw."""
    Path("line.yaml").write_text(LINE, encoding="utf-8")
    (photo,) = demo_images(1)
    frames = list(pan_over(str(photo)))
    times_s = [index / RATE for index in range(len(frames))]

    outcomes = yoloship.track(demo_model(), frames, scene="line.yaml", times_s=times_s, rate=RATE, keep_images=True)
    before = 0
    for outcome in outcomes:
        counts = outcome.scene.to_dict()["lines"]["middle"]
        if counts["in"] + counts["out"] > before:
            before = counts["in"] + counts["out"]
            print(f"{times_s[outcome.index]:.2f} s: {counts['in']} in, {counts['out']} out")
            cv2.imwrite("counted.jpg", outcome.result.draw(outcome.scene.draw(outcome.image)))


if __name__ == "__main__":
    main()
