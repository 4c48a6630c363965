"""The official runs of YOLOv5's validation in ../shared/val, and our own validation set against each."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from helpers.scenes import MODEL
from helpers.shared import SHARED, TRAINED, require
from yoloship.conversion.exporting import export
from yoloship.datasets.dataset import Dataset
from yoloship.datasets.opening import open_dataset
from yoloship.images import read_image
from yoloship.models.loading import load
from yoloship.validate.record import Validation
from yoloship.validate.yolov5.network import open_network
from yoloship.validate.yolov5.pixels import Placed
from yoloship.validate.yolov5.plan import Canvas, Planned, batches, squares, whole_strides
from yoloship.validate.yolov5.val_options import Yolov5Options
from yoloship.validate.yolov5.validating import run, validated

VAL = SHARED / "val"
WEIGHTS = {"codes": MODEL, "coco": TRAINED / "coco-yolov5n.pt"}
WITHOUT_DETECTIONS = {"codes-class1.5.onnx", "codes-class3.onnx", "codes-class7.onnx", "codes.onnx-nodetections"}
REFUSED = {"codes-class1.5.onnx", "codes-class3.onnx", "codes-class7.onnx"}
STRIDE = 32
REWRITTEN = "images/val/f04_trailing.jpg"
"""The official data loader writes this image anew, and we do not."""


@cache
def results() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(require(VAL / "results.json").read_text(encoding="utf-8"))
    return data["runs"]  # type: ignore[no-any-return]


@cache
def pictures() -> dict[str, list[dict[str, Any]]]:
    with gzip.open(require(VAL / "pictures.json.gz")) as file:
        return json.load(file)  # type: ignore[no-any-return]


def run_names() -> list[str]:
    """All 28; if the data is absent, a name that leads to the reason."""
    return list(results()) if (VAL / "results.json").exists() else ["absent"]


@dataclass(frozen=True)
class OfficialRun:
    """One run: what it was told, and what it said."""

    name: str

    @property
    def said(self) -> dict[str, Any]:
        return results()[self.name]  # type: ignore[no-any-return]

    @property
    def pictures(self) -> list[dict[str, Any]]:
        """In the official order."""
        return pictures()[self.name]

    @property
    def is_checkpoint(self) -> bool:
        return str(self.said["weights"]).endswith(".pt")

    @property
    def weights(self) -> Path:
        """The checkpoint; `model` has what was run."""
        return require(WEIGHTS[str(self.said["weights"]).partition("-")[0]])

    @property
    def options(self) -> Yolov5Options:
        words = list(self.said["arguments"])
        given = {word: words[place + 1] for place, word in enumerate(words[:-1])}
        return Yolov5Options(
            imgsz=int(given.get("--imgsz", 640)),
            batch=int(given.get("--batch-size", 32)),
            score_threshold=float(given["--conf-thres"]),
            iou_threshold=float(given["--iou-thres"]),
            max_detections=int(given.get("--max-det", 300)),
            single_class="--single-cls" in words,
        )

    @property
    def imgsz(self) -> int:
        return whole_strides(self.options.imgsz, STRIDE)

    def yaml(self, folder: Path) -> Path:
        """The dataset's description; the three sets with a wrong class are made in a folder."""
        name = str(self.said["set"])
        if name.startswith("codes-class"):
            return _with_wrong_class(folder, self.name.removeprefix("codes-class").removesuffix(".onnx"))
        place, _, described = name.partition(" ")
        return require(VAL / "sets" / place / (described.strip("()") or "data.yaml"))

    def dataset(self, folder: Path) -> Dataset:
        with load(self.weights) as detector:
            return open_dataset(self.yaml(folder), info=detector.info)

    def model(self, folder: Path) -> Path:
        """The checkpoint, or a graph of it that we wrote: the official graph is not at hand."""
        if self.is_checkpoint:
            return self.weights
        path = folder / f"{self.weights.stem}.onnx"
        if not path.exists():
            export(self.weights, path)
        return path

    def validated(self, folder: Path) -> Validation:
        """Our own validation, all the way."""
        return run(self.model(folder), self.dataset(folder), self.options)[0]

    def validated_in_official_order(self, folder: Path) -> Validation:
        """Our own validation, images in the order that the official run's processor gave them."""
        dataset = self.dataset(folder)
        with open_network(self.model(folder)) as network:
            return validated(network, dataset, self.official_plan(dataset), self.options)[0]

    def official_plan(self, dataset: Dataset) -> list[Planned]:
        if not self.is_checkpoint:
            return squares(len(dataset.samples), self.imgsz)
        place = {sample.name: index for index, sample in enumerate(dataset.samples)}
        ratios = np.array([sample.image_hw[0] / sample.image_hw[1] for sample in dataset.samples])
        order = np.array([place[one["path"]] for one in self.pictures])
        return batches(ratios, order, Canvas(self.imgsz, self.options.batch, STRIDE))

    def differing_inputs(self, dataset: Dataset) -> list[str]:
        """The images whose place or input pixels are not the official ones."""
        wrong = []
        imgsz = self.imgsz
        for planned, official in zip(self.official_plan(dataset), self.pictures, strict=True):
            sample = dataset.samples[planned.index]
            placed = Placed.of(sample.image_hw, imgsz, planned.input_hw)
            canvas = placed.draw(read_image(sample.path))
            pixels = np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1))
            digest = hashlib.sha1(pixels.tobytes()).hexdigest()
            expected = [official[key] for key in ("path", "input_hw", "pad_xy", "sha1_chw_rgb_uint8")]
            if [sample.name, list(planned.input_hw), list(placed.pad_xy), digest] != expected:
                wrong.append(sample.name)
        return wrong

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        cells = self.said["confusion_matrix"]
        matrix = np.zeros((cells["size"], cells["size"]), np.int64)
        for predicted, true, count in cells["cells"]:
            matrix[predicted, true] = count
        return matrix


@dataclass(frozen=True)
class Difference:
    """How far our validation is from the official one."""

    precision: float
    recall: float
    map50: float
    map50_95: float
    class_ap: float
    confusion: int
    detections: int

    @classmethod
    def of(cls, own: Validation, official: OfficialRun) -> Difference:
        said = official.said
        overall = said["overall"]
        aps = [0.0]
        for one in own.classes:
            theirs = said.get("per_class", {}).get(str(one.class_id), {"AP": [0.0] * 10})
            aps.append(float(np.abs(np.array(one.ap_by_iou) - theirs["AP"]).max()))
        assert own.confusion is not None
        return cls(
            abs(own.precision - overall["P"]),
            abs(own.recall - overall["R"]),
            abs(own.map50 - overall["mAP50"]),
            abs(own.map50_95 - overall["mAP50_95"]),
            max(aps),
            int(np.abs(own.confusion - official.confusion).sum()),
            own.detections - said.get("detections_total", 0),
        )

    @property
    def map(self) -> float:
        return max(self.map50, self.map50_95)


def _with_wrong_class(folder: Path, class_text: str) -> Path:
    """Three images of the codes, and one row more: `PICTURES.txt` of ../shared/val says which."""
    source = require(VAL / "sets" / "codes")
    place = folder / f"class{class_text}"
    for name in ("images", "labels"):
        (place / name / "val").mkdir(parents=True, exist_ok=True)
    for stem in ("112", "119", "126"):
        shutil.copy(source / "images" / "val" / f"0000000{stem}.jpg", place / "images" / "val" / f"{stem}.jpg")
        text = (source / "labels" / "val" / f"0000000{stem}.txt").read_text(encoding="utf-8")
        if stem == "119":
            text += f"{class_text} 0.5 0.5 0.1 0.1\n"
        (place / "labels" / "val" / f"{stem}.txt").write_text(text, encoding="utf-8")
    (place / "data.yaml").write_text("path: .\nval: images/val\nnames: [qr_code, marker, barcode]\n", encoding="utf-8")
    return place / "data.yaml"
