"""Outline objects: the area of each mask, its outline, and the best object cut out with a transparent background.

    python examples/segment.py best-seg.pt photo.jpg

It writes `found.jpg` (everything) and `object.png` (the best object alone).
"""

import sys

import cv2
import numpy as np

import yoloship


def main(model: str, photo: str) -> None:
    """Load, segment, measure, cut out."""
    image = cv2.imread(photo)
    with yoloship.load(model, task="segment") as segmenter:
        found = segmenter(image)

    for detection, area, parts in zip(found, found.masks.area_px, found.masks.polygons(), strict=True):
        corners = sum(len(part) for part in parts)  # each part is (k, 2) float32: x and y of its corners
        print(f"{detection.class_name:8} {detection.score:.3f}  {area} px in {len(parts)} parts, {corners} corners")
    cv2.imwrite("found.jpg", found.draw(image))

    if len(found):
        mask = found[0].mask  # (height, width) bool
        [crop] = found[:1].crops(np.dstack([image, np.where(mask, 255, 0).astype(np.uint8)]))
        cv2.imwrite("object.png", crop)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
