"""``yoloship predict`` with a segmentation model: its files, and the options that are for masks only."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.samples import sample
from yoloship.graph import GraphConfig, build_graph, graph_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a segmentation model, a detector and an image."""
    made = tmp_path_factory.mktemp("masks")
    for task in ("segment", "detect"):
        graph = build_graph(sample("yolov5", task), GraphConfig((64, 96), 1))
        (made / f"{task}.onnx").write_bytes(graph_bytes(graph))
    noise = np.random.default_rng(5).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    cv2.imwrite(str(made / "a.png"), noise)
    return made


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_masks_reach_every_file(folder: Path) -> None:
    files = ("--json", "a.json", "--coco", "coco.json", "--txt", "labels", "--csv", "a.csv", "-o", "drawn")
    ran = run("predict", folder / "segment.onnx", folder / "a.png", *files)
    assert ran.code == 0, ran.err
    (entry,) = json.loads(Path("a.json").read_bytes())
    objects = json.loads(Path("coco.json").read_bytes())
    assert len(entry["detections"]) == len(objects) > 0
    assert all(one["segmentation"]["size"] == [128, 192] for one in objects)
    outlined = [one for one in entry["detections"] if one["polygons"]]
    assert len(Path("labels/a.txt").read_text(encoding="utf-8").splitlines()) == len(outlined) > 0
    assert Path("drawn/a.png").exists()


@pytest.mark.parametrize("option", ["--txt", "--txt-conf"])
def test_labels_go_into_a_folder_that_exists_and_replace_files_only_if_asked(folder: Path, option: str) -> None:
    command = ("predict", folder / "segment.onnx", folder / "a.png", "--no-draw", "-q", option, "labels")
    Path("labels").mkdir()
    assert run(*command).code == 0
    first = Path("labels/a.txt").read_bytes()
    assert "labels/a.txt" in run(*command).error
    assert run(*command, "--overwrite").code == 0
    assert Path("labels/a.txt").read_bytes() == first


def test_other_rules_and_finer_masks_give_other_masks_of_the_same_objects(folder: Path) -> None:
    def masks(*options: str) -> list[str]:
        ran = run("segment", folder / "segment.onnx", folder / "a.png", "--no-draw", "-q", "--coco", "-", *options)
        assert ran.code == 0, ran.err
        return [one["segmentation"]["counts"] for one in json.loads(ran.out)]

    default = masks()
    assert default == masks("--mask-rule", "yolov5")
    assert default != masks("--mask-rule", "ultralytics-8.2.43")
    assert default != masks("--retina-masks")
    assert len(default) == len(masks("--retina-masks"))


def test_options_for_masks_are_refused_for_other_models_and_unknown_rules_by_name(folder: Path) -> None:
    for words in (("--retina-masks",), ("--mask-rule", "yolov5")):
        ran = run("predict", folder / "detect.onnx", folder / "a.png", "--no-draw", *words)
        assert f"({words[0]}): has no effect for a detection model; leave it out" in ran.error
    ran = run("predict", folder / "segment.onnx", folder / "a.png", "--no-draw", "--mask-rule", "yolact")
    assert "mask_rule: no such rule: expected one of yolov5, ultralytics-8.2.43, " in ran.error


def test_a_detector_is_not_a_segmentation_model(folder: Path) -> None:
    assert (
        "is a detection model: expected a segmentation model"
        in run("segment", folder / "detect.onnx", folder / "a.png").error
    )
