"""`yoloship val`: numbers on stdout, files on request, and an exit code that says whether they are good enough."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.models import finds_a_cat
from helpers.pages import Page
from helpers.scenes import MODEL

HW = (64, 96)
KINDS = MODEL.with_name("kinds-resnet18.pt")
CAT = f"0 {30 / 96} {20 / 64} {20 / 96} {10 / 64}\n"
"""A label of what the model finds in every image."""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that finds a cat in every image, and three images: two with a cat, and one with a dog."""
    monkeypatch.chdir(tmp_path)
    Path("cat.onnx").write_bytes(finds_a_cat(HW).SerializeToString())
    for split in ("images/val", "labels/val"):
        Path(split).mkdir(parents=True)
    labels = {"1.png": CAT, "2.png": CAT, "3.png": CAT.replace("0 ", "1 ", 1)}
    for name, label in labels.items():
        assert cv2.imwrite(f"images/val/{name}", np.zeros((*HW, 3), np.uint8))
        Path(f"labels/val/{Path(name).stem}.txt").write_text(label)
    Path("data.yaml").write_text("val: images/val\nnames: [cat, dog]\n")
    return tmp_path


def test_the_table_has_all_classes_and_names_the_rules() -> None:
    ran = run("val", "cat.onnx", "--data", "data.yaml")
    assert ran.code == 0, ran.err
    rows = [line.split() for line in ran.out.splitlines()]
    assert rows[0] == ["class", "images", "objects", "precision", "recall", "F1", "mAP50", "mAP50-95"]
    assert rows[1][:3] == ["all", "3", "3"]
    assert rows[2] == ["cat", "2", "2", "0.667", "1.000", "0.800", "1.000", "1.000"]  # the wrong one is the last
    assert rows[3] == ["dog", "1", "1", "–", "0.000", "0.000", "0.000", "0.000"]
    assert "COCO's; hotcoco" in ran.out
    assert "(the best mean F1)" in ran.out


def test_every_file_is_written_and_says_the_same() -> None:
    ran = run(
        "val", "cat.onnx", "--data", "data.yaml", "--report", "r.html", "--json", "v.json",
        "--save-json", "found.json", "--save-truth", "truth.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    numbers = json.loads(Path("v.json").read_text())
    assert numbers["map50"] == pytest.approx(0.5)
    assert len(numbers["model_sha256"]) == 64
    assert f"{numbers['map50']:.3f}" in Page(Path("r.html").read_text()).words
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO("truth.json")
        judge = evaluation.COCOeval(truth, truth.loadRes("found.json"), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert judge.stats[0] == pytest.approx(numbers["map50_95"], abs=1e-6)


def test_all_classes_as_one_has_one_category_in_both_files() -> None:
    ran = run(
        "val", "cat.onnx", "--data", "data.yaml", "--single-cls", "--save-json", "f.json", "--save-truth", "t.json"
    )
    assert ran.code == 0, ran.err
    truth, found = (json.loads(Path(name).read_text()) for name in ("t.json", "f.json"))
    assert truth["categories"] == [{"id": 1, "name": "object"}]
    assert {row["category_id"] for row in [*truth["annotations"], *found]} == {1}


def test_the_detections_of_a_coco_file_have_its_ids() -> None:
    box = [20, 15, 20, 10]
    data = {
        "images": [{"id": 501, "file_name": "1.png", "height": 64, "width": 96}],
        "categories": [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 501, "category_id": 7, "bbox": box, "area": 200, "iscrowd": 0}],
    }
    Path("coco.json").write_text(json.dumps(data))
    ran = run("val", "cat.onnx", "--data", "coco.json", "--images", "images/val", "--save-json", "f.json")
    assert ran.code == 0, ran.err
    assert [(row["image_id"], row["category_id"]) for row in json.loads(Path("f.json").read_text())] == [(501, 7)]


def test_a_json_on_stdout_is_alone_there() -> None:
    ran = run("val", "cat.onnx", "--data", "data.yaml", "--json", "-")
    assert json.loads(ran.out)["images"] == 3


def test_a_minimum_that_is_not_reached_is_an_exit_code_and_a_line_that_names_the_number() -> None:
    ran = run("val", "cat.onnx", "--data", "data.yaml", "--min-map", "0.6")
    assert ran.error == "cat.onnx: mAP50-95 by COCO's rules is 0.5000, below 0.6 (--min-map)"
    assert run("val", "cat.onnx", "--data", "data.yaml", "--min-map", "0.3").code == 0


def test_several_models_stand_in_one_table() -> None:
    Path("other.onnx").write_bytes(Path("cat.onnx").read_bytes())
    ran = run("val", "cat.onnx", "other.onnx", "--data", "data.yaml", "--report", "r.html")
    assert ran.code == 0, ran.err
    heading, first, second, note = ran.out.splitlines()
    assert heading.split()[0] == "model"
    assert (first.split()[0], second.split()[0]) == ("cat.onnx", "other.onnx")
    assert "+0.0000" in second
    assert note.startswith("All models see the same input: 64×96, letterbox, bilinear")
    assert "2 models on" in Page(Path("r.html").read_text()).words


def test_a_fault_of_the_dataset_is_named_on_stderr() -> None:
    Path("images/val/4.png").write_bytes(b"no image")
    ran = run("val", "cat.onnx", "--data", "data.yaml")
    assert ran.code == 0
    assert "4.png" in ran.err
    assert "image left out" in ran.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Missing option '--data'"),
        (("--data", "data.yaml", "--batch", "8"), "--batch is for --as yolov5"),
        (("--data", "data.yaml", "--as", "yolov5", "--device", "cpu"), "--device: not with --as yolov5"),
        (("other.onnx", "--data", "data.yaml", "--save-json", "a.json"), "are for one model"),
        (("--data", "data.yaml", "--runtime", "a,,b"), "--runtime a,,b: give comma-separated names"),
    ],
)
def test_options_that_contradict_are_usage_errors(options: tuple[str, ...], message: str) -> None:
    ran = run("val", "cat.onnx", *options)
    assert ran.code == 2
    assert message in ran.err


def test_an_input_is_never_replaced() -> None:
    ran = run("val", "cat.onnx", "--data", "data.yaml", "--json", "data.yaml", "--overwrite")
    assert ran.error == "data.yaml: would replace an input; give another name"
    Path("r.html").write_text("mine")
    assert "r.html" in run("val", "cat.onnx", "--data", "data.yaml", "--report", "r.html").error
    assert Path("r.html").read_text() == "mine"


@pytest.mark.parametrize("option", ["--report", "--json", "--save-json", "--save-truth"])
def test_no_image_and_no_label_of_the_dataset_is_replaced(option: str) -> None:
    for file in (next(Path().rglob("images/**/*.png")), next(Path().rglob("labels/**/*.txt"))):
        before = file.read_bytes()
        ran = run("val", "cat.onnx", "--data", "data.yaml", option, file, "--overwrite")
        assert f"{file}: would replace an input" in ran.error
        assert file.read_bytes() == before


def test_a_classifier_is_judged_by_its_accuracy() -> None:
    for kind in ("barcode", "marker", "none", "qr_code"):
        Path(f"kinds/{kind}").mkdir(parents=True)
        assert cv2.imwrite(f"kinds/{kind}/1.png", np.full((48, 48, 3), 120, np.uint8))
    model, data = KINDS, ("--data", "kinds", "--transform", "torchvision-v1")
    ran = run("val", model, *data, "--json", "k.json", "--min-map", "0.5", "--report", "k.html")
    assert ran.error == "kinds-resnet18.pt: top-1 accuracy is 0.2500, below 0.5 (--min-map)"  # all four are equal
    assert "top-5 accuracy" in ran.out
    assert "mAP" not in ran.out
    assert json.loads(Path("k.json").read_text())["metric"] == "top1"
    assert "top-1" in Page(Path("k.html").read_text()).words
    refused = run("val", model, *data, "--save-json", "f.json")
    assert refused.error.endswith("a classification model finds no objects that COCO's files could hold")
