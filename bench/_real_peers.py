"""The official code and Ultralytics themselves, if they are installed. Only their public functions are called.

    pip install torch yolov5 ultralytics

`official` is the loop of the official repository's detection script over its published packaging ``yolov5`` 7.0:
letterbox, tensor, backend, suppression, boxes to the image. `ultralytics` is ``YOLO(…).predict``. It cannot take a
YOLOv5 export, because the output of the newer family has no objectness. So it gets the same network with its last step
rewritten: scores already multiplied, axes exchanged. Both run the network in ONNX Runtime, as ours does.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]

PACKAGES = ("torch", "yolov5", "ultralytics")


def official(standard_onnx: Path, side: int = 640) -> Callable[[Image], object] | None:
    """A function from a BGR image to (n, 6) boxes in its pixels; None if the packages are not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
            from yolov5.models import common
            from yolov5.utils import downloads
            from yolov5.utils.augmentations import letterbox
            from yolov5.utils.general import non_max_suppression, scale_boxes
    except ImportError:
        return None
    # The package asks a model hub first, even for a local path, and there may be no network.
    common.attempt_download_from_hub = downloads.attempt_download_from_hub = lambda *_, **__: None
    logging.getLogger("yolov5").setLevel(logging.ERROR)
    backend = common.DetectMultiBackend(str(standard_onnx), device=torch.device("cpu"))

    def run(image: Image) -> object:
        canvas = letterbox(image, side, stride=32, auto=False)[0]
        planes = np.ascontiguousarray(canvas.transpose((2, 0, 1))[::-1])
        feed = (torch.from_numpy(planes).float() / 255)[None]
        found = non_max_suppression(backend(feed), 0.25, 0.45, max_det=300)[0]
        found[:, :4] = scale_boxes(feed.shape[2:], found[:, :4], image.shape).round()
        return found

    return run


def ultralytics(standard_onnx: Path, side: int = 640) -> Callable[[Image], object] | None:
    """A function from a BGR image to its `Boxes`; None if the package is not installed."""
    try:
        from ultralytics import YOLO
    except ImportError:
        return None
    rewritten = standard_onnx.with_name(f"{standard_onnx.stem}-without-objectness.onnx")
    _without_objectness(standard_onnx, rewritten)
    model = YOLO(str(rewritten), task="detect")

    def run(image: Image) -> object:
        results = model.predict(image, imgsz=side, conf=0.25, iou=0.45, max_det=300, rect=False, verbose=False)
        return results[0].boxes

    return run


def _without_objectness(source: Path, target: Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    output = graph.output[0]
    _, cells, width = (axis.dim_value for axis in output.type.tensor_type.shape.dim)
    graph.initializer.append(numpy_helper.from_array(np.array([4, 1, width - 5], np.int64), "peer.split"))
    graph.node.extend(
        [
            helper.make_node("Split", [output.name, "peer.split"], ["peer.box", "peer.obj", "peer.cls"], axis=2),
            helper.make_node("Mul", ["peer.obj", "peer.cls"], ["peer.scores"]),
            helper.make_node("Concat", ["peer.box", "peer.scores"], ["peer.rows"], axis=2),
            helper.make_node("Transpose", ["peer.rows"], ["peer.output"], perm=[0, 2, 1]),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("peer.output", 1, [1, width - 1, cells]))
    onnx.save(model, target)


def main() -> None:
    """Detect on one image in this process: ``python _real_peers.py official|ultralytics standard.onnx photo.jpg``."""
    import sys
    from pathlib import Path

    import cv2

    way = {"official": official, "ultralytics": ultralytics}[sys.argv[1]]
    run = way(Path(sys.argv[2]))
    if run is None:
        raise SystemExit(f"{sys.argv[1]}: not installed here; pip install {' '.join(PACKAGES)}")
    print(run(cv2.imread(sys.argv[3])))


if __name__ == "__main__":
    main()
