"""Check in code that an exported file gives the same boxes as the checkpoint, before it is shipped.

    python examples/verify_models.py

It exports the demo model in float32 and compares both files on a few images. The exit code is 1 if they differ by more
than is allowed. `yoloship verify A B --images DIR` does the same from the command line, with a table.

The module `yoloship.evaluate` may change before version 1.0.
"""

import sys

from _demo import demo_images, demo_model

import yoloship
from yoloship.evaluate.verification import Tolerances, verify


def main() -> None:
    """Compare, print each check, and end with the verdict."""
    yoloship.export(demo_model(), "codes.onnx", overwrite=True)
    with yoloship.load(demo_model()) as trained, yoloship.load("codes.onnx") as exported:
        report = verify(
            ("checkpoint", trained),
            ("codes.onnx", exported),
            demo_images(6),
            tolerances=Tolerances(agreement=0.99, iou=0.97, score=0.02),
        )
    for check in report.checks:
        print(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.value:g}, limit {check.limit:g}")
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
