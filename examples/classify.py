"""Name what images show: cut codes out of a scene, and ask a classification model what kind each is.

    python examples/classify.py

It writes `kinds.jpg`: the scene with the class of each crop drawn on it. The model is the ResNet-18 of the package. In
your own program, load your checkpoint; `transform` is only needed if the file does not say how it was trained.
"""

from importlib.resources import files
from pathlib import Path

import cv2
from _demo import demo_images, demo_model

import yoloship

CLASSIFIER = Path(str(files("yoloship.demo") / "kinds-resnet18.pt"))


def main() -> None:
    """Detect, cut out, classify."""
    [path] = demo_images(1)
    image = cv2.imread(str(path))
    with yoloship.load(demo_model()) as detector:
        crops = []
        for detection in detector(image):
            x1, y1, x2, y2 = detection.box_xyxy
            margin = 0.2 * max(x2 - x1, y2 - y1)  # the classifier was trained on codes with some surroundings
            left, top = max(0, round(x1 - margin)), max(0, round(y1 - margin))
            crops.append(((left, top), image[top : round(y2 + margin), left : round(x2 + margin)]))

    with yoloship.load(CLASSIFIER, transform="torchvision-v1") as classifier:
        answers = classifier.detect_batch([crop for _, crop in crops])

    for ((left, top), crop), answer in zip(crops, answers, strict=True):
        best, second = answer.top(2)
        print(f"{best.class_name:8} {best.score:.3f}   then {second.class_name} {second.score:.3f}")
        height, width = crop.shape[:2]
        image[top : top + height, left : left + width] = answer.draw(crop)
    cv2.imwrite("kinds.jpg", image)


if __name__ == "__main__":
    main()
