"""Compares reference checkpoints with what their own library computed from them, for the table of docs/models.md.

    python tools/models_table/models_table.py CHECKPOINTS PHOTOS

CHECKPOINTS holds NAME.pt with NAME.npz (outputs for a fixed random input) and NAME.json (results on the photos), as
`docs/models.md` describes them. They are third-party files and not part of this project.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

import yoloship
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import YoloshipError
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.model import ModelInfo

    Floats = npt.NDArray[np.floating[Any]]

SCORE_THRESHOLD = 0.25
SIDES = {"v8-detect-nc7-names": 320}
"""The size that a model was trained at, where it is not 640."""
PHOTOS = ("bus.jpg", "zidane.jpg", "street.jpg")
TRANSFORMS = {
    "tv-gray": "torchvision-v1:mean=0.485,std=0.229",
    **dict.fromkeys(("tv", "sd", "timm"), "torchvision-v1"),
}
"""What the references' photos went through, by the beginning of the file's name; such files do not say it."""


def outputs_of(path: Path, hw: tuple[int, int]) -> tuple[ModelInfo, list[Any]]:
    """The standard outputs for the fixed random input, and the model's record."""
    checkpoint = read_checkpoint(path)
    transform = "none" if checkpoint.task == "classify" else None
    model = graph_bytes(build_graph(checkpoint, GraphConfig(hw, None, transform=transform)))
    with OnnxRuntimeSession.open(model) as session:
        record = yoloship.ModelInfo.from_json(session.metadata["yoloship.model"])
        images = np.random.default_rng(7).random((2, record.channels, *hw), dtype=np.float32)
        return record, list(session.run({"images": images}))


def raw_differences(path: Path) -> dict[str, float]:
    """The largest difference of boxes in pixels, of scores, and of what else a row has, over both sizes."""
    reference = np.load(path.with_suffix(".npz"))
    worst: dict[str, float] = {}
    for key in (name for name in reference.files if re.fullmatch(r"pred(_\d+x\d+)?", name)):
        height, width = map(int, key.partition("_")[2].split("x")) if "_" in key else (128, 192)
        info, (found, *_) = outputs_of(path, (height, width))
        want = reference[key]
        if info.task == "classify":
            scale = max(1.0, float(np.abs(want).max()))  # logits relative to the largest
            parts = {"score": (found / scale, want / scale)}
        elif want.shape[2] == 6 + info.extra_columns and info.output_form == "end2end":
            parts = {"score": (np.sort(found[..., 4]), np.sort(want[..., 4]))}  # rows of equal scores change places
        else:
            rows, expected = (one if info.anchors == () else one.transpose(0, 2, 1) for one in (found, want))
            first = 4 + (info.anchors != ())
            last = first + len(info.class_names)
            parts = {
                "box": (rows[:, :4], expected[:, :4]),
                "score": (rows[:, 4:last], expected[:, 4:last]),
                "further": (rows[:, last:], expected[:, last:]),
            }
        for name, (one, other) in parts.items():
            if one.size:
                worst[name] = max(worst.get(name, 0.0), float(np.abs(one - other).max()))
    return worst


def photo_differences(path: Path, photos: Path) -> str:
    """How the results on the photos compare: of the pairs with one class and nearly one score, the worst."""
    results = json.loads(path.with_suffix(".json").read_text())
    variant = next((name for name in results if name.startswith("square") and "retina" not in name), None)
    if variant is None:
        return class_differences(path, photos, results)
    iou = 0.45 if path.stem.startswith("y5") else 0.7
    most = 1000 if path.stem.startswith("y5") else 300
    side = SIDES.get(path.stem, 640)
    with yoloship.load(
        path, score_threshold=SCORE_THRESHOLD, iou_threshold=iou, max_detections=most, imgsz=side
    ) as detector:
        pairs = wanted = 0
        worst_px = worst_score = 0.0
        for photo in PHOTOS:
            expected = results[variant][photo]
            rows = np.array(expected.get("xyxy_score_class") or expected.get("xywhr_score_class") or [], float)
            found = detector(photos / photo)
            boxes = found.boxes_xyxy if found.boxes_xywhr is None else found.boxes_xywhr
            wanted += len(rows)
            for row in rows:
                same = found.class_ids == row[-1]
                if not same.any():
                    continue
                distances = np.abs(boxes[same] - row[: boxes.shape[1]]).max(axis=1)
                near = int(distances.argmin())
                score = abs(float(found.scores[same][near]) - row[-2])
                if distances[near] <= 1 and score <= 1e-2:
                    pairs, worst_px = pairs + 1, max(worst_px, float(distances[near]))
                    worst_score = max(worst_score, score)
    return f"{pairs} of {wanted} objects, {worst_px:.2g} px, {worst_score:.1g}"


def class_differences(path: Path, photos: Path, results: dict[str, Any]) -> str:
    """Top-5 classes on the photos that are the same, in order, and the largest difference of a probability."""
    given = TRANSFORMS.get(path.stem) or TRANSFORMS.get(path.stem.partition("-")[0])
    same, worst = 0, 0.0
    with yoloship.load(path, transform=given) as classifier:
        for photo in PHOTOS:
            source: Any = photos / photo
            if classifier.info.channels == 1:  # the reference takes the red plane
                source = np.asarray(cv2.imread(str(source)))[:, :, 2:]
            probabilities = classifier(source).probabilities
            for class_id, probability in results["default"][photo]["top5"]:
                worst = max(worst, abs(float(probabilities[class_id]) - probability))
            expected = [class_id for class_id, _ in results["default"][photo]["top5"]]
            same += np.argsort(-probabilities, kind="stable")[: len(expected)].tolist() == expected
    return f"top-5 the same on {same} of {len(PHOTOS)} photos, {worst:.1g}"


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("checkpoints", type=Path)
    arguments.add_argument("photos", type=Path)
    given = arguments.parse_args()
    print("| reference | task | scores | boxes, px | extra columns | on the photos |")
    print("| --- | --- | --- | --- | --- | --- |")
    for path in sorted(given.checkpoints.glob("*.pt")):
        try:
            task = read_checkpoint(path).task
            worst = raw_differences(path)
            photos = photo_differences(path, given.photos)
        except YoloshipError as error:
            print(f"| {path.stem} | refused: {error} | | | | |")
            continue
        cells = [f"{worst[name]:.1g}" if name in worst else "" for name in ("score", "box", "further")]
        print(f"| {path.stem} | {task} | {' | '.join(cells)} | {photos} |", flush=True)


if __name__ == "__main__":
    main()
