"""Run a folder of images, and write a CSV file and a JSON file of what was found.

    python examples/folder_to_csv.py

It writes `objects.csv`, a row for each object, and `objects.json`, an entry for each image. An image that cannot be
read does not stop the others; its error is in the JSON file. From the command line it is one line:

    yoloship detect best.pt images/ --csv objects.csv --json objects.json

The module `yoloship.sinks` may change before version 1.0.
"""

from pathlib import Path

from _demo import demo_images, demo_model

import yoloship
from yoloship.sinks import SINKS, Entry


def main() -> None:
    """Stream the folder, and write each result as it comes."""
    paths = demo_images(6)
    Path("images/broken.jpg").write_bytes(b"this is not a JPEG")
    paths.insert(3, Path("images/broken.jpg"))

    open_csv, open_json = SINKS.load("csv").open, SINKS.load("json").open
    with (
        yoloship.load(demo_model(), tuned_for="throughput") as detector,
        open_csv(Path("objects.csv"), overwrite=True) as table,
        open_json(Path("objects.json"), overwrite=True) as results,
    ):
        for outcome in detector.stream(paths):  # reads ahead, and keeps the order
            entry = Entry.of(outcome)
            table.write(entry)
            results.write(entry)
            print(outcome.source, outcome.error or outcome.unwrap().counts())


if __name__ == "__main__":
    main()
