"""Cut the objects out of an image, filter them, and save each as a file of its own.

    python examples/crops.py

It writes `crops/0-qr_code.png` and so on.
"""

from pathlib import Path

import cv2
from _demo import demo_images, demo_model

import yoloship


def main() -> None:
    """Detect, choose, cut out."""
    [path] = demo_images(1)
    image = cv2.imread(str(path))
    with yoloship.load(demo_model()) as detector:
        found = detector(image)

    found = found[found.scores > 0.5]  # a mask, as with a NumPy array; slices work too
    found = found[found.area_px >= 32 * 32]

    Path("crops").mkdir(exist_ok=True)
    for number, (detection, crop) in enumerate(zip(found, found.crops(image), strict=True)):
        cv2.imwrite(f"crops/{number}-{detection.class_name}.png", crop)
    print(f"{len(found)} crops of {path}")


if __name__ == "__main__":
    main()
