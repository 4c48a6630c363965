"""Find oriented boxes, and cut the best object out, turned upright.

    python examples/oriented_boxes.py best-obb.pt photo.jpg

It writes `found.jpg` and `object.png`.
"""

import math
import sys

import cv2

import yoloship


def main(model: str, photo: str) -> None:
    """Load, find, print, turn."""
    image = cv2.imread(photo)
    with yoloship.load(model, task="obb") as detector:
        found = detector(image)

    for detection, (x, y, w, h, angle) in zip(found, found.boxes_xywhr, strict=True):
        where = f"{w:.0f}×{h:.0f} px around {x:.0f} {y:.0f}, turned by {math.degrees(angle):.1f}° clockwise"
        print(f"{detection.class_name} {detection.score:.3f}  {where}")
    cv2.imwrite("found.jpg", found.draw(image))

    if len(found):
        x, y, w, h, angle = found.boxes_xywhr[0].tolist()
        turn = cv2.getRotationMatrix2D((x, y), math.degrees(angle), 1)
        turn[:, 2] += (w / 2 - x, h / 2 - y)  # the centre of the box becomes the centre of the new image
        cv2.imwrite("object.png", cv2.warpAffine(image, turn, (max(1, round(w)), max(1, round(h)))))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
