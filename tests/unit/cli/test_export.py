"""`yoloship export`: names, options, refusals."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from helpers.cli import run
from helpers.shared import CHECKPOINTS, GENERATED, require
from yoloship.graph.onnx_file import read_metadata, read_model_info
from yoloship.transforms import transform_of

CHECKPOINT = "v7-yolov5n.pt"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def best(work: Path) -> Path:
    """A small checkpoint in the current folder."""
    path = work / "best.pt"
    path.symlink_to(require(GENERATED / CHECKPOINT))
    return Path("best.pt")


def shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def test_the_file_is_written_beside_the_checkpoint_and_is_valid(best: Path) -> None:
    ran = run("export", best)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("best.onnx: ")
    assert ran.out.endswith(" MB, 3 classes\n")
    model = onnx.load("best.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert shape(model.graph.input[0]) == [1, 3, 640, 640]
    assert shape(model.graph.output[0]) == [1, 25200, 8]


@pytest.mark.parametrize(
    ("options", "inputs", "outputs"),
    [
        (["--imgsz", "320"], [1, 3, 320, 320], {"output0": [1, 6300, 8]}),
        (["--imgsz", "64x96", "--batch", "4"], [4, 3, 64, 96], {"output0": [4, 378, 8]}),
        (["--imgsz", "64", "--input", "image"], [1, 64, 64, 3], {"output0": [1, 252, 8]}),
        (
            ["--imgsz", "64", "--output", "heads"],
            [1, 3, 64, 64],
            {"head0": [1, 24, 8, 8], "head1": [1, 24, 4, 4], "head2": [1, 24, 2, 2]},
        ),
        (
            ["--imgsz", "64", "--output", "compact"],
            [1, 3, 64, 64],
            {"boxes_xyxy": [1, 252, 4], "scores": [1, 252], "class_ids": [1, 252]},
        ),
    ],
)
def test_options_decide_the_graphs_form(
    best: Path, options: list[str], inputs: list[int], outputs: dict[str, list[int]]
) -> None:
    assert run("export", best, "-o", "x.onnx", *options).code == 0
    model = onnx.load("x.onnx")
    assert shape(model.graph.input[0]) == inputs
    assert {value.name: shape(value) for value in model.graph.output} == outputs


def test_dynamic_sizes_are_named_axes(best: Path) -> None:
    assert run("export", best, "--imgsz", "dynamic", "--batch", "dynamic").code == 0
    batch, channels, height, width = shape(onnx.load("best.onnx").graph.input[0])
    assert channels == 3
    assert all(isinstance(side, str) and side for side in (batch, height, width))


def test_an_output_that_exists_is_kept_unless_told_otherwise(best: Path) -> None:
    Path("best.onnx").write_bytes(b"mine")
    assert run("export", best).error == "best.onnx: already exists; give another name, or --overwrite"
    assert Path("best.onnx").read_bytes() == b"mine"
    assert run("export", best, "--overwrite").code == 0
    onnx.load("best.onnx")


def test_the_checkpoint_itself_is_never_overwritten(best: Path) -> None:
    training = best.rename("training")
    assert "would replace an input" in run("export", training, "-o", training, "--overwrite").error


def test_a_folder_that_does_not_exist_is_one_clear_line(best: Path) -> None:
    assert run("export", best, "-o", "no/x.onnx").error == "no: folder does not exist; make it first"


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(
    best: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert run("export", best).error == "best.onnx: cannot be written: No space left on device; free some space"
    assert [path.name for path in work.iterdir()] == ["best.pt"]


def test_a_size_that_does_not_fit_the_strides_is_one_clear_line(best: Path) -> None:
    error = run("export", best, "--imgsz", "100").error
    assert "not a multiple of 32" in error
    assert not Path("best.onnx").exists()


def test_weights_without_an_architecture_are_one_clear_line() -> None:
    error = run("export", require(GENERATED / "refuse-statedict-only.pt"), "-o", "x.onnx").error
    assert "weights without an architecture" in error
    assert not Path("x.onnx").exists()


@pytest.mark.parametrize("kept", [1, 100, 5000, 0.3, 0.9, 0.999])
def test_a_checkpoint_that_was_cut_short_is_one_clear_line(kept: float) -> None:
    data = require(GENERATED / CHECKPOINT).read_bytes()
    Path("cut.pt").write_bytes(data[: int(kept if kept >= 1 else kept * len(data))])
    assert run("export", "cut.pt").error.startswith("cut.pt: ")
    assert not Path("cut.onnx").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "x.pt: no such file"),
        (b"", "x.pt: is empty (0 bytes)"),
        (b"hello\n", "x.pt: is a text file, not a checkpoint"),
        (b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.", "x.pt: "),
    ],
)
def test_what_is_no_checkpoint_is_one_clear_line(content: bytes | None, message: str) -> None:
    if content is not None:
        Path("x.pt").write_bytes(content)
    assert run("export", "x.pt").error.startswith(message)
    assert not Path("x.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--imgsz", "1x2x3"], "'1x2x3' is not a size"),
        (["--imgsz", "-32"], "'-32' is not a size"),
        (["--batch", "0"], "'0' is not a batch size"),
        (["--batch", "many"], "'many' is not a batch size"),
        (["--input", "bytes"], "--input"),
        (["--output", "boxes"], "--output"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(arguments: list[str], message: str) -> None:
    ran = run("export", "x.pt", *arguments)
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.parametrize("name", ["x.engine", "x.PLAN", "x.trt"])
def test_a_name_of_an_engine_is_refused_with_a_pointer_to_build(best: Path, name: str) -> None:
    ran = run("export", best, "-o", name)
    assert ran.code == 2
    assert "export writes ONNX files; 'yoloship build best.pt' writes engines" in " ".join(ran.err.split())
    assert not Path(name).exists()


@pytest.mark.parametrize(
    ("alias", "precision"), [("fp32", "float32"), ("fp16", "float16"), ("HALF", "float16"), ("bf16", "bfloat16")]
)
def test_short_names_of_precisions_are_understood(best: Path, alias: str, precision: str) -> None:
    assert run("export", best, "-o", "x.onnx", "--imgsz", "64", "--precision", alias).code == 0
    info = read_model_info(read_metadata(onnx.load("x.onnx")), "x.onnx")
    assert info is not None
    assert info.precision == precision


def test_fp8_is_understood_and_needs_images_like_float8(best: Path) -> None:
    ran = run("export", best, "--precision", "fp8")
    assert ran.code == 2
    assert "--precision float8 needs" in " ".join(ran.err.split())


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no /dev/stdout")
def test_a_dash_is_stdout(work: Path) -> None:
    checkpoint = require(GENERATED / CHECKPOINT)
    done = subprocess.run(
        [sys.executable, "-m", "yoloship", "export", str(checkpoint), "-o", "-"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert onnx.load_from_string(done.stdout).graph.node
    assert list(work.iterdir()) == []
    assert "an engine needs a file name" in run("build", checkpoint, "-o", "-").err


def test_a_classifier_gets_the_size_and_the_transform_of_its_training() -> None:
    ran = run("export", require(GENERATED / "v7-yolov5n-cls.pt"), "-o", "x.onnx")
    assert ran.code == 0
    info = read_model_info(read_metadata(onnx.load("x.onnx")), "x.onnx")
    assert info is not None
    assert (info.task, info.input_hw, info.class_scores) == ("classify", (224, 224), "logits")
    assert info.transform == transform_of("yolov5")


def test_a_resnet_is_asked_for_its_transform_and_takes_it() -> None:
    checkpoint = require(CHECKPOINTS / "families" / "tv-basic-1111.pt")
    ran = run("export", checkpoint, "-o", "x.onnx")
    assert (ran.code, Path("x.onnx").exists()) == (1, False)
    assert "does not say how images become its input: expected the transform of its training (--transform)" in ran.error
    assert run("export", checkpoint, "-o", "x.onnx", "--transform", "timm:crop_pct=0.9", "--imgsz", "96").code == 0
    info = read_model_info(read_metadata(onnx.load("x.onnx")), "x.onnx")
    assert info is not None
    assert info.transform == transform_of("timm:crop_pct=0.9", (96, 96))
    assert run("export", checkpoint, "-o", "y.onnx", "--transform", "none").code == 0
    assert run("export", checkpoint, "-o", "z.onnx", "--transform", "imagenet").code == 2


def test_class_names_come_from_the_folders_of_a_data_set() -> None:
    for name in ("b", "a", "C", "10", "9"):
        Path("data", name).mkdir(parents=True)
    Path("data", "z.txt").touch()
    checkpoint = require(GENERATED / "v7-yolov5n-cls.pt")
    assert run("export", checkpoint, "-o", "x.onnx", "--names-from", "data").code == 0
    info = read_model_info(read_metadata(onnx.load("x.onnx")), "x.onnx")
    assert info is not None
    assert info.class_names == ("10", "9", "C", "a", "b")
    both = run("export", checkpoint, "-o", "y.onnx", "--names-from", "data", "--names", "a,b,c,d,e")
    assert (both.code, "use one of them" in both.err) == (2, True)
    Path("empty").mkdir()
    assert "has no subfolders" in run("export", checkpoint, "-o", "y.onnx", "--names-from", "empty").err
    assert run("export", checkpoint, "-o", "y.onnx", "--names-from", "absent").code == 2


def test_one_of_two_heads_is_chosen_and_the_size_is_that_of_the_training(work: Path) -> None:
    families = CHECKPOINTS / "families"
    (work / "two.pt").symlink_to(require(families / "y26-detect-2heads.pt"))
    (work / "small.pt").symlink_to(require(families / "v8-detect-nc7-names.pt"))
    for options, head, form in (
        ((), "one2many", "raw"),
        (("--head", "one2one"), "one2one", "end2end"),
        (("--output", "end2end"), "one2one", "end2end"),
        (("--output", "nms", "--conf", "0.3"), "one2many", "nms"),
    ):
        ran = run("export", "two.pt", "--imgsz", "96", "--overwrite", *options)
        assert (ran.code, ran.err) == (0, "")
        record = read_model_info(read_metadata(onnx.load("two.onnx")), "two.onnx")
        assert record is not None
        assert (record.head, record.output_form) == (head, form)
        assert record.nms is None or (record.nms.score_threshold, record.nms.iou_threshold) == (0.3, 0.7)
    assert run("export", "small.pt").code == 0
    assert shape(onnx.load("small.onnx").graph.input[0]) == [1, 3, 320, 320]
    ran = run("export", "small.pt", "--head", "one2one", "--overwrite")
    assert ran.code == 1
    assert "does not have the head 'one2one': it was trained with one head" in ran.error
