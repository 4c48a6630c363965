"""`yoloship build` for real, through TensorRT-RTX, and what its engines say when they are inspected."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path

import pytest

import yoloship
from helpers.cli import run
from helpers.networks import float_network, require_rtx, rtx_advice
from helpers.shared import TRAINED, listed, require
from yoloship.engine import Range, read_engine, rebuild_command, sidecar_path

DEMO = Path(yoloship.__file__).parent / "demo" / "codes-yolov5n.pt"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    require_rtx()
    path = tmp_path / "small.onnx"
    path.write_bytes(float_network().SerializeToString())
    return path


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    require_rtx()
    path = tmp_path / "dynamic.onnx"
    path.write_bytes(float_network(batch="batch", side_hw=("height", "width")).SerializeToString())
    return path


@pytest.mark.only_rtx
def test_an_onnx_file_becomes_an_engine_and_a_sidecar_beside_it(small: Path) -> None:
    ran = run("build", small)
    assert ran.code == 0, ran
    engine = read_engine(small.with_suffix(".engine"))
    assert engine.record is not None
    assert engine.record.source_name == "small.onnx"
    assert f"small.engine: {len(engine.plan) / 1e6:.1f} MB, float32, portable, built by tensorrt_rtx " in ran.out


def test_ranges_become_the_profile(dynamic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.engine"
    ran = run("build", dynamic, "-o", out, "--batch", "1:2:4", "--imgsz", "32:64x32:96x64")
    assert ran.code == 0, ran
    record = read_engine(out).record
    assert record is not None
    assert (record.config.batch, record.config.height, record.config.width) == (
        Range(1, 2, 4),
        Range(32, 64, 96),
        Range(32, 32, 64),
    )
    assert record.profiles[0].optimum == (2, 3, 64, 32)


def test_one_number_is_a_range_too_where_the_graph_is_dynamic(dynamic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.engine"
    assert run("build", dynamic, "-o", out, "--batch", "2", "--imgsz", "32x64").code == 0
    record = read_engine(out).record
    assert record is not None
    assert record.profiles[0].minimum == record.profiles[0].maximum == (2, 3, 32, 64)


@pytest.mark.only_rtx
def test_the_command_in_a_refusal_rebuilds_the_same_engine(dynamic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.engine"
    options = ["--batch", "1:2:4", "--imgsz", "32:64:96", "--target", "8.9", "--workspace", "1GB"]
    assert run("build", dynamic, "-o", out, *options).code == 0
    first = read_engine(out).record
    assert first is not None
    words = rebuild_command(first, str(out)).split()
    assert words[:2] == ["yoloship", "build"]
    again = [str(dynamic) if word == "dynamic.onnx" else word for word in words[1:]]
    assert run(*again).code == 0
    second = read_engine(out).record
    assert second is not None
    assert (second.config, second.profiles) == (first.config, first.profiles)


def test_an_existing_engine_is_replaced_only_when_told(small: Path) -> None:
    engine = small.with_suffix(".engine")
    sidecar_path(engine).write_bytes(b"mine")
    assert "small.engine.json: already exists" in run("build", small).error
    assert run("build", small, "--overwrite").code == 0
    assert read_engine(engine).record is not None


@pytest.mark.only_rtx
def test_an_engine_can_be_inspected(small: Path) -> None:
    assert run("build", small).code == 0
    engine = small.with_suffix(".engine")
    ran = run("inspect", engine)
    assert ran.code == 0
    for expected in ("TensorRT engine", "rtx 1.", "small.onnx", "portable", "images float32(1, 3, 32, 32)"):
        assert expected in ran.out
    data = json.loads(run("inspect", engine, "--json").out)
    assert data["kind"] == "engine"
    assert data["sidecar"]["inputs"][0] == {"name": "images", "dtype": "float32", "shape": [1, 3, 32, 32]}
    assert data["loaded"] is None or data["not_loaded"] is None


@pytest.mark.only_rtx
def test_a_copied_engine_without_its_sidecar_says_so(small: Path, tmp_path: Path) -> None:
    assert run("build", small).code == 0
    copy = tmp_path / "copy.bin"
    shutil.copy(small.with_suffix(".engine"), copy)
    assert "sidecar  none" in " ".join(run("inspect", copy).out.split(" ")).replace("     ", "  ")


@pytest.mark.only_rtx
def test_a_truncated_engine_is_refused(small: Path) -> None:
    assert run("build", small).code == 0
    engine = small.with_suffix(".engine")
    engine.write_bytes(engine.read_bytes()[:-10])
    assert "is truncated" in run("inspect", engine).error


def test_a_checkpoint_becomes_the_engine_that_was_ordered_and_its_record_rebuilds_it(tmp_path: Path) -> None:
    require_rtx()
    checkpoint = tmp_path / "best.pt"
    shutil.copy(require(listed(TRAINED, "*.pt")[0]), checkpoint)
    options = ["--precision", "float16", "--input", "image", "--output", "nms", "--conf", "0.4", "--max-det", "50"]
    ran = run("build", checkpoint, *options, "--imgsz", "320", "--batch", "2")
    assert ran.code == 0, ran
    engine = read_engine(tmp_path / "best.engine")
    assert engine.info is not None
    assert engine.info.nms is not None
    assert (engine.info.precision, engine.info.input_form, engine.info.batch) == ("float16", "image", 2)
    assert (engine.info.nms.score_threshold, engine.info.nms.max_detections) == (0.4, 50)
    assert engine.record is not None
    words = rebuild_command(engine.record, str(tmp_path / "again.engine")).split()
    assert run(*[str(checkpoint) if word == "best.pt" else word for word in words[1:]]).code == 0
    assert read_engine(tmp_path / "again.engine").info == engine.info


def test_an_onnx_file_is_brought_to_half_precision_and_its_record_rebuilds_it(tmp_path: Path) -> None:
    require_rtx()
    source = tmp_path / "best.onnx"
    checkpoint = require(listed(TRAINED, "*.pt")[0])
    assert run("export", checkpoint, "-o", source, "--imgsz", "320", "--output", "heads").code == 0
    assert run("build", source, "--precision", "float16").code == 0
    engine = read_engine(tmp_path / "best.engine")
    assert engine.info is not None
    assert engine.record is not None
    assert engine.info.precision == "float16"
    assert "float16" in engine.record.dtypes
    assert rebuild_command(engine.record, "best.engine").endswith("--precision float16")


def test_a_checkpoint_is_quantized_with_images_on_the_way(tmp_path: Path, photos: Path) -> None:
    require_rtx()
    checkpoint = require(TRAINED / "coco-yolov5n.pt")
    out = tmp_path / "best.engine"
    options = [
        "--precision",
        "int8",
        "--calibrate",
        str(photos),
        "--max-drop",
        "1",
        "--imgsz",
        "128",
        "--output",
        "heads",
    ]
    ran = run("build", checkpoint, "-o", out, *options)
    if (advice := rtx_advice("int8")) is not None:  # said before the calibration
        assert "cannot build int8 on a machine without a GPU" in ran.error
        assert advice in ran.error
        return
    assert ran.code == 0, ran
    record = read_engine(out).record
    assert record is not None
    assert {"int8", "float16"} <= set(record.dtypes)
    assert f"--precision int8 --calibrate {photos.name} --calibrator percentile --max-drop 1.0" in rebuild_command(
        record, "best.engine"
    )
    ran = run("build", checkpoint, "-o", out, "--overwrite", "--other-layers", "float32", *options)
    assert ran.code == 0, ran
    record = read_engine(out).record
    assert record is not None
    assert "int8" in record.dtypes
    assert "float16" not in record.dtypes


@pytest.mark.only_rtx
def test_a_foreign_file_becomes_an_engine_that_suppresses_and_its_record_rebuilds_it(tmp_path: Path) -> None:
    from helpers.foreign import foreign
    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, build_graph, graph_bytes

    require_rtx()
    path = tmp_path / "their.onnx"
    model = build_graph(read_checkpoint(require(listed(TRAINED, "*.pt")[0])), GraphConfig((320, 320)))
    path.write_bytes(graph_bytes(foreign(model)))
    assert run("build", path, "--output", "nms", "--conf", "0.4").code == 0
    engine = read_engine(path.with_suffix(".engine"))
    assert engine.info is not None
    assert (engine.info.output_form, engine.info.precision) == ("nms", "float32")
    assert engine.record is not None
    assert [spec.name for spec in engine.record.outputs] == ["boxes_xyxy", "scores", "class_ids", "count", "exact"]
    command = rebuild_command(engine.record, "their.engine")
    assert command == (
        "yoloship build their.onnx -o their.engine --overwrite --flavour rtx --output nms --conf 0.4 --iou 0.45 "
        "--max-det 300"
    )


@pytest.mark.only_rtx
def test_the_export_that_is_shown_for_trtexec_writes_the_graph_that_was_built(tmp_path: Path) -> None:
    require_rtx()
    checkpoint = tmp_path / "codes.pt"
    shutil.copy(DEMO, checkpoint)
    ran = run("build", checkpoint, "-o", tmp_path / "cam.engine", "--imgsz", "64", "--output", "nms", "--conf", "0.3",
              "--batch", "1:2:4", "--show-trtexec")  # fmt: skip
    assert ran.code == 0, ran
    export, build = ran.out.strip().splitlines()[-2:]
    assert build == (
        "tensorrt_rtx --onnx=cam.onnx --saveEngine=cam.engine --minShapes=images:1x3x64x64 "
        "--optShapes=images:2x3x64x64 --maxShapes=images:4x3x64x64 --profilingVerbosity=detailed --skipInference"
    )
    places = {"codes.pt": str(checkpoint), "cam.onnx": str(tmp_path / "cam.onnx")}
    words = [places.get(word, word) for word in shlex.split(export)]
    assert words.pop(0) == "yoloship"
    assert run(*words).code == 0
    record = read_engine(tmp_path / "cam.engine").record
    assert record is not None
    assert hashlib.sha256((tmp_path / "cam.onnx").read_bytes()).hexdigest() == record.onnx_sha256
