"""`yoloship verify`, and the precisions of `yoloship export`."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from helpers.cli import run
from helpers.shared import CHECKPOINTS, GENERATED, PHOTOS, require
from yoloship.images import read_image
from yoloship.runtime.openvino import OpenVino


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small checkpoint and an image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.pt").symlink_to(require(GENERATED / "v7-yolov5n.pt"))
    (tmp_path / "images").mkdir()
    image = read_image(require(PHOTOS / "street.jpg"))
    cv2.imwrite(str(tmp_path / "images" / "a.png"), cv2.resize(image, (96, 64)))
    return tmp_path


def exported(name: str, *options: str) -> str:
    ran = run("export", "best.pt", "-o", name, "--imgsz", "64x96", *options)
    assert ran.code == 0, ran.err
    return ran.out


def test_two_forms_of_one_model_pass_and_the_report_is_written() -> None:
    exported("a.onnx", "--output", "heads")
    exported("b.onnx", "--input", "image", "--output", "compact")
    ran = run(
        "verify",
        "a.onnx",
        "b.onnx",
        "--images",
        "images",
        "--conf",
        "0.001",
        "--min-agreement",
        "0.8",
        "--json",
        "r.json",
        "--plot",
        "p.png",  # random weights: classes are nearly tied
    )
    assert ran.code == 0, ran.err
    assert "pass" in ran.out
    assert "stride 32" in ran.out
    assert json.loads(Path("r.json").read_text())["passed"] is True
    assert cv2.imread("p.png") is not None


def test_artefacts_that_differ_give_exit_code_1_and_say_in_what() -> None:
    exported("a.onnx")
    (Path("other.pt")).symlink_to(require(GENERATED / "v7-yolov5n-training.pt"))
    ran = run("verify", "a.onnx", "other.pt", "--imgsz", "64x96", "--images", "images", "--conf", "0.001")
    assert ran.code == 1
    assert ran.err.startswith("error: other.pt differs from a.onnx by more than is allowed: agreement")


def test_models_that_see_nothing_have_not_been_shown_to_agree() -> None:
    exported("a.onnx")
    ran = run("verify", "a.onnx", "a.onnx", "--images", "images", "--conf", "0.99")
    assert ran.code == 1
    assert "detects anything with a score above 0.99 (--conf)" in ran.err


def test_half_precision_is_emulated_and_said_to_be() -> None:
    exported("a.onnx")
    exported("b.onnx", "--precision", "bfloat16")
    ran = run("verify", "a.onnx", "b.onnx", "--images", "images", "--json", "-")
    report = json.loads(ran.out)
    assert report["sides"][1]["precision"] == "bfloat16"
    assert report["sides"][1]["session"].endswith("half precision emulated")


def test_labels_bring_precision_into_the_report() -> None:
    exported("a.onnx")
    Path("labels").mkdir()
    Path("labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    ran = run("verify", "a.onnx", "best.pt", "--imgsz", "64x96", "--images", "images", "--labels", "labels")
    assert "mAP" in ran.out, ran.err


def test_images_are_needed() -> None:
    assert run("verify", "best.pt", "best.pt").code == 2


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8", "float8"])
def test_export_writes_each_precision(precision: str) -> None:
    quantized = precision in {"int8", "float8"}
    options = ["--calibrate", "images", "--max-drop", "1"] if quantized else []
    said = exported("x.onnx", "--precision", precision, *options)
    assert f", {precision}" in said
    model = onnx.load("x.onnx")
    onnx.checker.check_model(model, full_check=True)
    elements = {tensor.data_type for tensor in model.graph.initializer}
    assert {"float16": 10, "bfloat16": 16, "int8": 3, "float8": 17}[precision] in elements


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--remainder", "float16"], "--remainder is now called --other-layers"),
        (["--precision", "int8"], "needs images like those in production: --calibrate DIR"),
        (["--precision", "float16", "--max-drop", "0.1"], "only for --precision int8 and float8"),
        (["--calibrate", "images"], "only for --precision int8 and float8"),
        (["--labels", "images"], "--labels: only for --precision int8 and float8"),
        (
            ["--precision", "float16", "--other-layers", "float16"],
            "--other-layers: only for --precision int8 and float8",
        ),
        (["--precision", "bfloat16", "--max-drop", "0"], "--max-drop: only for --precision int8 and float8"),
        (["--precision", "int8", "--calibrate", "images", "--labels", "none"], "none: there is no such folder"),
        (["--precision", "int8", "--calibrate", "images", "--other-layers", "bfloat16"], "bfloat16"),
        (
            [
                "--precision",
                "int8",
                "--calibrate",
                "images",
                "--other-layers",
                "float16",
                "--placement",
                "inputs_and_outputs",
            ],
            "--other-layers float16 does not go with --placement inputs_and_outputs",
        ),
        (["--conf", "0.5"], "--conf, --iou and --max-det need --output nms"),
        (["--precision", "int4"], "int4"),
    ],
)
def test_options_that_contradict_one_another_are_wrong_usage(options: list[str], words: str) -> None:
    ran = run("export", "best.pt", "--imgsz", "64", *options)
    assert ran.code == 2
    assert words in " ".join(ran.err.split())
    assert not Path("best.onnx").exists()


@pytest.mark.parametrize("other_layers", ["float16", "float32"])
def test_what_int8_leaves_computes_in_what_was_asked_for(other_layers: str) -> None:
    options = ("--precision", "int8", "--calibrate", "images", "--max-drop", "1", "--other-layers", other_layers)
    assert ("int8 with float16" in exported("x.onnx", *options)) is (other_layers == "float16")
    model = onnx.load("x.onnx")
    assert (10 in {tensor.data_type for tensor in model.graph.initializer}) is (other_layers == "float16")
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {1}


def test_with_labels_the_budget_is_of_map_and_labels_of_other_images_are_refused() -> None:
    pytest.importorskip("pycocotools")
    options = ("--precision", "int8", "--calibrate", "images", "--max-drop", "1", "--labels", "labels")
    Path("labels").mkdir()
    Path("labels/b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    ran = run("export", "best.pt", "-o", "x.onnx", "--imgsz", "64x96", *options)
    assert ran.code == 1
    assert "error: labels: holds no labels of these images: expected a.txt and so on" in ran.err
    Path("labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert "float32 finds nothing that is labelled, so its loss is not known" in exported("x.onnx", *options)


def test_a_calibration_folder_without_images_is_refused() -> None:
    Path("empty").mkdir()
    ran = run("export", "best.pt", "--imgsz", "64", "--precision", "int8", "--calibrate", "empty")
    assert ran.code == 1
    assert ran.err.startswith("error: empty: ")
    assert not Path("best.onnx").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--labels", "none"], "--labels none: there is no such folder"),
        (["--max-map-drop", "0.1"], "--max-map-drop needs --labels"),
        (["--plot", "p.pdf"], "--plot p.pdf: give a name that ends in .png or .jpg"),
    ],
)
def test_options_that_cannot_be_are_refused_before_any_model_is_opened(
    options: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise AssertionError("a model was opened")

    monkeypatch.setattr("yoloship.evaluate.artefact.open_artefact", fail)
    ran = run("verify", "best.pt", "best.pt", "--images", "images", *options)
    assert ran.code == 2
    assert words in " ".join(ran.err.split())


@pytest.mark.parametrize("size", ["dynamic", "0", "big"])
def test_a_size_that_is_not_a_size_is_wrong_usage(size: str) -> None:
    ran = run("verify", "a.onnx", "b.onnx", "--images", "images", "--imgsz", size)
    assert ran.code == 2
    assert f"{size!r} is not a size: give 640, or HxW such as 384x640" in " ".join(ran.err.split())


def test_a_missing_reference_is_named_rather_than_the_images_it_does_not_need() -> None:
    ran = run("verify", "best.pt", "nothing.npz")
    assert ran.code == 1
    assert ran.error.startswith("nothing.npz: no such file")


@pytest.mark.skipif(not OpenVino.is_installed(), reason="openvino is not installed")
def test_runtimes_are_compared() -> None:
    exported("a.onnx", "--output", "heads")
    ran = run(
        "verify", "a.onnx", "--images", "images", "--conf", "0.001", "--runtime", "openvino",
        "--json", "r.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    first, second = json.loads(Path("r.json").read_text())["sides"]
    assert first["session"].startswith("onnxruntime ")
    assert second["session"].startswith("openvino ")
    assert second["name"] == f"a.onnx in {second['session']}"


def test_b_can_be_left_out_only_for_another_runtime() -> None:
    ran = run("verify", "best.pt", "--images", "images")
    assert ran.code == 2
    assert "Missing argument 'B'" in ran.err


def test_the_runtime_is_for_b_only_and_named() -> None:
    exported("a.onnx", "--output", "heads")
    ran = run("verify", "a.onnx", "a.onnx", "--images", "images", "--runtime", "torch")
    assert ran.code == 1
    assert "torch: is not a known runtime" in ran.error
    np.savez("r.npz", images=np.zeros((1, 3, 64, 96), np.float32), output=np.zeros((1, 1, 6), np.float32))
    ran = run("verify", "a.onnx", "r.npz", "--runtime", "openvino")
    assert ran.code == 2
    assert (
        "--runtime, --runtime-precision, --transform, --names or --names-from cannot be used with a reference.npz"
        in ran.err
    )


def test_the_head_of_a_checkpoint_can_be_chosen() -> None:
    checkpoint = require(CHECKPOINTS / "families" / "y26-detect-2heads.pt")
    end = ("export", checkpoint, "-o", "end.onnx", "--imgsz", "64x96", "--output", "end2end")
    assert run(*end).code == 0
    options = ("--imgsz", "64x96", "--images", "images", "--conf", "0.01", "--min-agreement", "0", "--min-iou", "0")
    ran = run("verify", checkpoint, "end.onnx", *options)
    assert "A answers with one2many, B with one2one" in " ".join(ran.out.split())
    ran = run("verify", checkpoint, "end.onnx", *options, "--head", "one2one")
    assert "answers with" not in ran.out
    ran = run("verify", "end.onnx", "end.onnx", *options, "--head", "one2one")
    assert ran.code == 2
    assert "--head is for checkpoints" in ran.err
