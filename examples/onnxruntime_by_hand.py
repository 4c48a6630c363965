"""Export an ONNX file, run it with ONNX Runtime alone, and decode its output with NumPy.

    python examples/onnxruntime_by_hand.py

Use this when another program runs the model: C++, a phone, or TensorRT code of your own. `detect` below needs NumPy,
OpenCV and ONNX Runtime, and nothing of yoloship. The last lines check that yoloship gives the same boxes.
"""

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
from _demo import demo_images, demo_model

import yoloship

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def letterbox(image: Image, side: int = 640) -> tuple[Image, tuple[float, float], tuple[int, int]]:
    """Scale an image to fit a square of grey; also gives the scale of each axis and the padding, left and top."""
    height, width = image.shape[:2]
    ratio = min(side / height, side / width)
    new_w, new_h = round(width * ratio), round(height * ratio)
    left, top = round((side - new_w) / 2 - 0.1), round((side - new_h) / 2 - 0.1)
    canvas = np.full((side, side, 3), 114, np.uint8)
    canvas[top : top + new_h, left : left + new_w] = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    return canvas, (new_w / width, new_h / height), (left, top)


def decode(
    rows: Floats, scale: tuple[float, float], padding: tuple[int, int], *, score: float = 0.25, iou: float = 0.45
) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """Boxes, scores and class ids from the rows of the head.

    Args:
        rows: (25200, 5 + classes): centre x, centre y, width, height, objectness, then one score for each class.
        scale: Of each axis, as `letterbox` gave it.
        padding: Left and top, as `letterbox` gave it.
        score: Keep rows whose objectness times class score is above this.
        iou: Drop a box whose overlap with a better box of its class is above this.
    """
    rows = rows[rows[:, 4] > score]  # a score is at most the objectness, so this loses nothing
    scores = rows[:, 4] * rows[:, 5:].max(axis=1)
    rows, scores = rows[scores > score], scores[scores > score]
    class_ids = rows[:, 5:].argmax(axis=1)
    boxes = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)

    kept = []
    order = np.argsort(-scores, kind="stable")
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        corner1 = np.maximum(boxes[best, :2], boxes[order, :2])
        corner2 = np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.prod(np.clip(corner2 - corner1, 0, None), axis=1)
        areas = np.prod(boxes[order, 2:] - boxes[order, :2], axis=1)
        union = np.prod(boxes[best, 2:] - boxes[best, :2]) + areas - shared
        order = order[(shared <= iou * union) | (class_ids[order] != class_ids[best])]

    boxes = (boxes[kept] - np.tile(np.float32(padding), 2)) / np.tile(np.float32(scale), 2)
    return boxes, scores[kept], class_ids[kept]


def detect(session: onnxruntime.InferenceSession, image: Image) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """Boxes in pixels of the image, scores and class ids, best first.

    Args:
        session: Of an ONNX file of the standard form: (1, 3, 640, 640) in, (1, 25200, 5 + classes) out.
        image: (height, width, 3) uint8 BGR, as OpenCV reads it.
    """
    canvas, scale, padding = letterbox(image)
    rgb = canvas[:, :, ::-1]  # the network was trained on RGB; OpenCV reads BGR
    blob = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], dtype=np.float32) / 255
    [output] = session.run(None, {session.get_inputs()[0].name: blob})
    return decode(output[0], scale, padding)


def main() -> None:
    """Export, run by hand, and compare."""
    yoloship.export(demo_model(), "codes.onnx", overwrite=True)
    session = onnxruntime.InferenceSession("codes.onnx", providers=["CPUExecutionProvider"])
    with yoloship.load("codes.onnx") as detector:
        for path in demo_images(3):
            image = cv2.imread(str(path))
            boxes, scores, class_ids = detect(session, image)
            found = detector(image)

            height, width = image.shape[:2]
            np.testing.assert_array_equal(class_ids, found.class_ids)
            np.testing.assert_allclose(scores, found.scores, atol=1e-5)
            np.testing.assert_allclose(np.clip(boxes, 0, [width, height] * 2), found.boxes_xyxy, atol=0.01)
            print(f"{path}: {len(boxes)} boxes, the same as yoloship's")


if __name__ == "__main__":
    main()
