"""Find keypoints: where each point of each object is, and whether it can be seen.

    python examples/pose.py best-pose.pt photo.jpg

It writes `found.jpg`.
"""

import sys

import cv2

import yoloship


def main(model: str, photo: str) -> None:
    """Load, find, print, draw."""
    image = cv2.imread(photo)
    with yoloship.load(model, task="pose") as poser:
        found = poser(image)

    for detection, points in zip(found, found.keypoints, strict=True):  # (K, 3) float32: x, y, visibility
        print(f"{detection.class_name} {detection.score:.3f}")
        for number, (x, y, *visibility) in enumerate(points):  # a model may give no visibility
            if not visibility or visibility[0] >= 0.5:
                print(f"  point {number} at {x:.1f} {y:.1f}")
    cv2.imwrite("found.jpg", found.draw(image))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
