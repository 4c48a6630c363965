"""What masks cost on the CPU: everything around the network, with a decoded image, beside the network alone.

    python bench/bench_segmentation.py best-seg.pt photo.jpg [photo.jpg …] [--objects 20] [--rounds 30]

For each photograph it times the network alone on the letterboxed image, and a whole call in which recorded outputs take
the network's place, in processor time: with masks of the best objects at the resolution of the input and of the image,
and of all objects above the threshold. The fastest round counts, because other work on the machine only adds time.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import numpy as np
from _timing import conditions

import yoloship
from yoloship.detect.preprocess import letterbox_batch, to_input
from yoloship.runtime.scripted import ScriptedSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a checkpoint or an ONNX file of a segmentation model")
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--objects", type=int, default=20, help="the best objects that are kept")
    parser.add_argument("--conf", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    print(conditions("numpy", "opencv-python-headless", "onnxruntime", "yoloship"))
    with yoloship.load(arguments.model, score_threshold=arguments.conf, iou_threshold=0.7) as detector:
        for photo in arguments.photos:
            measure(detector, photo, arguments.objects, arguments.rounds)


def measure(detector: yoloship.Detector, photo: Path, objects: int, rounds: int) -> None:
    """Print the table of one photograph."""
    image = cv2.imread(str(photo))
    letterbox, session = detector.letterbox(image.shape[:2]), detector.session
    canvas = np.empty((1, *letterbox.input_hw, 3), np.uint8)
    letterbox_batch([image], [letterbox], canvas)
    feeds = {session.inputs[0].name: to_input(canvas, session.inputs[0].dtype)}
    outputs = session.run(feeds)
    network = min(elapsed(time.perf_counter, lambda: session.run(feeds), rounds))
    print(f"\n{photo.name}, {image.shape[1]}×{image.shape[0]}, on {letterbox.input_hw[1]}×{letterbox.input_hw[0]}")
    print(f"network alone {network * 1e3:.2f} ms\n{'around it':34s} {'ms':>6s} {'ratio':>6s}")
    conf = detector.options.score_threshold
    recorded = Recorded(session.inputs, session.outputs, [outputs])
    with yoloship.Detector(recorded, detector.info) as around:
        for name, options in (
            ("masks", yoloship.DetectOptions(conf, 0.7, objects)),
            ("retina masks", yoloship.DetectOptions(conf, 0.7, objects, retina_masks=True)),
            ("masks", yoloship.DetectOptions(conf, 0.7)),
        ):
            found = around(image, options=options)
            assert found.masks is not None
            height, width = found.masks.native_hw
            share = sum(window.hw[0] * window.hw[1] for window in found.masks.windows) / (height * width)
            times = elapsed(time.thread_time, lambda o=options: around(image, options=o), rounds)
            rest = min(times)
            case = f"{len(found)} {name}, {share:.1f} × the area"
            print(f"{case:34s} {rest * 1e3:6.2f} {1 + rest / network:6.3f}")


class Recorded(ScriptedSession):
    """Gives the same outputs again and again, without the copies that a fake for tests makes."""

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        del feeds
        return tuple(self._answers[0])


def elapsed(clock: Callable[[], float], case: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of each round by a clock, after one that is not measured."""
    case()
    seconds = []
    for _ in range(rounds):
        start = clock()
        case()
        seconds.append(clock() - start)
    return seconds


if __name__ == "__main__":
    main()
