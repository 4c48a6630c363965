"""Find objects in one image, print them, and write the image with the boxes drawn on it.

    python examples/first_detection.py

It writes `images/scene-0.jpg` (the image) and `found.jpg` (the image with boxes).
"""

import cv2
from _demo import demo_images, demo_model

import yoloship


def main() -> None:
    """Load, detect, print, draw."""
    [path] = demo_images(1)
    image = cv2.imread(str(path))  # (720, 1280, 3) uint8, in OpenCV's order of channels: blue, green, red

    with yoloship.load(demo_model(), score_threshold=0.4) as detector:
        found = detector(image)  # a path, bytes or a PIL image work too

    for detection in found:  # best first
        x1, y1, x2, y2 = detection.box_xyxy  # float pixels of the image: left, top, right, bottom
        print(f"{detection.class_name:8} {detection.score:.3f}  {x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}")

    cv2.imwrite("found.jpg", found.draw(image))


if __name__ == "__main__":
    main()
