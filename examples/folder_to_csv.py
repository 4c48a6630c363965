"""Run a folder of images and write one CSV row for each object, and one JSON file for all of them.

    python examples/folder_to_csv.py

It writes `objects.csv` and `objects.json`. An image that cannot be read becomes a row with the error in it and does
not stop the others.
"""

import csv
import json
from pathlib import Path

from _demo import demo_images, demo_model

import yoloship

COLUMNS = ("image", "class_name", "score", "x1", "y1", "x2", "y2", "error")


def main() -> None:
    """Stream the folder, and write each result as it comes."""
    paths = demo_images(6)
    Path("images/broken.jpg").write_bytes(b"this is not a JPEG")
    paths.insert(3, Path("images/broken.jpg"))

    images = []
    with (
        yoloship.load(demo_model(), tuned_for="throughput") as detector,
        Path("objects.csv").open("w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        # `stream` reads ahead and keeps the order, so its results and the paths go together.
        for path, outcome in zip(paths, detector.stream(paths), strict=True):
            if outcome.error is not None:
                rows.writerow([path, "", "", "", "", "", "", outcome.error])
                images.append({"image": str(path), "error": str(outcome.error)})
                continue
            found = outcome.unwrap()
            for detection in found:
                box = [f"{side:.2f}" for side in detection.box_xyxy]
                rows.writerow([path, detection.class_name, f"{detection.score:.4f}", *box, ""])
            images.append({"image": str(path), **found.to_dict()})

    Path("objects.json").write_text(json.dumps(images, indent=1), encoding="utf-8")
    print(f"{len(paths)} images, {sum(len(image.get('detections', ())) for image in images)} objects")


if __name__ == "__main__":
    main()
