from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.models import ANCHORS, STRIDES, constant_raw, random_heads
from helpers.resnets import resnet, resnet_arrays, state_dict_bytes
from helpers.samples import sample
from helpers.videos import Clip, write_clip
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.runtime.openvino import OpenVino
from yoloship.tasks.decode import heads_to_raw

if TYPE_CHECKING:
    from pathlib import Path

HW = (64, 96)
QUICK = ("--rounds", "1", "--runs", "1", "--seconds", "0.01")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "best.onnx"
    raw = heads_to_raw(random_heads(0, HW), STRIDES, ANCHORS)
    path.write_bytes(constant_raw(raw, HW, {"names": "['a', 'b', 'c']"}).SerializeToString())
    return path


def test_models_are_measured_side_by_side_and_drawn(model: Path, tmp_path: Path) -> None:
    other = model.with_name("other.onnx")
    other.write_bytes(model.read_bytes())
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.zeros((50, 80, 3), np.uint8))
    svg, png, report = tmp_path / "b.svg", tmp_path / "b.png", tmp_path / "b.json"
    ran = run("bench", model, other, "--source", image, "--batch", "1,2", "--json", report, "--plot", svg, *QUICK)
    assert ran.code == 0, ran
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["best.onnx"] * 2 + ["other.onnx"] * 2
    assert "loading best.onnx on cpu, batch 1" in ran.err
    results = json.loads(report.read_bytes())
    assert results["images_hw"] == [[50, 80]]
    assert [(row["model"], row["batch"]) for row in results["results"]] == [
        ("best.onnx", 1), ("best.onnx", 2), ("other.onnx", 1), ("other.onnx", 2),
    ]  # fmt: skip
    assert ET.fromstring(svg.read_text()).tag.endswith("svg")
    ran = run("bench", model, "--json", "-", "--plot", png, *QUICK)
    assert json.loads(ran.out)["results"][0]["total_ms"]["runs"] == 1
    assert cv2.imread(str(png)) is not None


def test_outputs_that_exist_are_refused_before_anything_is_measured(model: Path, tmp_path: Path) -> None:
    report = tmp_path / "b.json"
    report.write_text("mine")
    assert "exists" in run("bench", model, "--json", report, *QUICK).error
    assert report.read_text() == "mine"
    assert run("bench", model, "--json", report, "--overwrite", *QUICK).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--batch", "0"), "not a list of numbers"),
        (("--streams", "1;2"), "not a list of numbers"),
        (("--plot", "b.pdf"), "not a plot"),
        (("--device", ","), "nothing between the commas"),
        (("--seconds", "0", "--streams", "2"), "--streams is for throughput, which --seconds 0 skips"),
        (("--imgsz", "dynamic"), "is not a size"),
    ],
)
def test_wrong_usage_is_refused(model: Path, arguments: tuple[str, ...], words: str) -> None:
    ran = run("bench", model, *arguments)
    assert ran.code == 2
    assert words in " ".join(ran.err.replace("│", " ").split())


def test_what_cannot_run_is_one_clear_line(model: Path, tmp_path: Path) -> None:
    assert "no such device" in run("bench", model, "--device", "gpu", *QUICK).err
    assert (
        "TensorRT does not run on a CPU" in run("bench", model, "--device", "cpu", "--runtime", "tensorrt", *QUICK).err
    )
    engine = tmp_path / "best.engine"
    engine.write_bytes(b"ftrt" + bytes(60))
    assert "ONNX Runtime does not run" in run("bench", engine, "--runtime", "onnxruntime", *QUICK).err


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ("torch", "torch: is not a known runtime: expected onnxruntime, openvino, tensorrt"),
        ("openvino:float16", "expected openvino:float32 or openvino:bfloat16"),
        ("onnxruntime:bfloat16", "ONNX Runtime cannot compute in bfloat16"),
    ],
)
def test_a_runtime_that_there_is_not_is_one_clear_line(model: Path, runtime: str, words: str) -> None:
    ran = run("bench", model, "--runtime", runtime, *QUICK)
    assert ran.code == 1
    assert words in ran.error


@pytest.mark.skipif(not OpenVino.is_installed(), reason="openvino is not installed")
def test_runtimes_stand_side_by_side(model: Path) -> None:
    ran = run("bench", model, "--runtime", "onnxruntime,openvino:float32", "--json", "-", *QUICK)
    assert ran.code == 0, ran
    backends = [result["backend"] for result in json.loads(ran.out)["results"]]
    assert [backend.split()[0] for backend in backends] == ["onnxruntime", "openvino"]
    assert backends[1].endswith("(CPU, float32)")


def test_images_that_no_batch_takes_are_not_read_and_that_is_told(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((50 + number, 80, 3), np.uint8))
    (folder / "2.png").write_bytes(b"not an image")
    ran = run("bench", model, "--source", folder, "--batch", "1,2", "--json", "-", *QUICK)
    assert ran.code == 0, ran
    assert json.loads(ran.out)["images_hw"] == [[50, 80], [51, 80]]
    assert "note: only the first 2 of 3 images are measured, as many as the largest batch takes" in ran.err


def test_a_classifier_is_measured_with_the_transform_that_is_given(tmp_path: Path) -> None:
    network = tmp_path / "resnet.pt"
    network.write_bytes(state_dict_bytes(resnet_arrays()))
    command = ("bench", network, "--imgsz", "64", *QUICK)
    ran = run(*command)
    assert (ran.code, "the transform of its training (--transform)" in ran.err) == (1, True)
    ran = run(*command, "--transform", "torchvision-v2")
    assert ran.code == 0, ran
    assert "resnet.pt" in ran.out


def test_each_task_names_its_own_stages(tmp_path: Path) -> None:
    paths = {}
    for family, task in (("ultralytics", "segment"), ("ultralytics", "obb"), ("yolov5", "segment")):
        graph = build_graph(sample(family, task), GraphConfig(HW))
        paths[family, task] = tmp_path / f"{family}-{task}.onnx"
        paths[family, task].write_bytes(graph_bytes(graph))
    ran = run("bench", *paths.values(), "--json", "-", "--rounds", "1", "--runs", "1", "--seconds", "0")
    assert ran.code == 0, ran
    stages = [list(result["stages_ms"]) for result in json.loads(ran.out)["results"]]
    masks = ["letterbox", "network", "decode", "suppress and masks"]
    assert stages == [masks, ["letterbox", "network", "decode", "suppress"], masks]


def test_a_classifier_has_stages_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "resnet.onnx"
    path.write_bytes(graph_bytes(build_graph(resnet(), GraphConfig((64, 64), transform="none"))))
    ran = run("bench", path, "--transform", "yolov5", "--json", "-", *QUICK)
    assert ran.code == 0, ran
    (result,) = json.loads(ran.out)["results"]
    assert list(result["stages_ms"]) == ["crop", "network", "probabilities", "result"]


def test_a_batch_is_measured_from_files_with_the_images_in_memory_beside_it(model: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((50, 80, 3), np.uint8))
    how = ("--source", tmp_path / "*.jpg", "--batch", "2", "--plot", tmp_path / "b.svg")
    ran = run("bench", model, "--from", "file", *how, "--json", tmp_path / "b.json", *QUICK)
    assert ran.code == 0, ran
    (row,) = json.loads((tmp_path / "b.json").read_bytes())["results"]
    assert row["array_ms"]["runs"] == row["total_ms"]["runs"] == 1
    assert "from files" in ran.out
    assert "read and decode" in (tmp_path / "b.svg").read_text()
    ran = run("bench", model, "--json", "-", *QUICK)
    assert json.loads(ran.out)["results"][0]["array_ms"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "file"), "--from file needs files"),
        (("--decode", "gpu"), "--decode gpu is for --from file"),
        (("--fps", "0"), "not in the range"),
        (("--fps", "30", "--batch", "2"), "--batch has no effect with --fps"),
        (("--max-latency", "20"), "--max-latency is for --fps"),
    ],
)
def test_options_without_effect_are_refused(model: Path, arguments: tuple[str, ...], words: str) -> None:
    ran = run("bench", model, *arguments)
    assert ran.code == 2
    assert words in " ".join(ran.err.replace("│", " ").split())


def test_decoding_on_a_gpu_is_refused_where_the_model_runs_on_the_cpu(model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((50, 80, 3), np.uint8))
    ran = run("bench", model, "--from", "file", "--source", tmp_path / "a.jpg", "--decode", "gpu", *QUICK)
    assert ran.code == 1
    assert "--device cuda" in ran.error


def test_images_on_a_gpu_need_a_gpu(model: Path) -> None:
    ran = run("bench", model, "--from", "device", *QUICK)
    assert ran.code == 1
    assert "--from device: needs models on one GPU: expected cuda, got cpu" in ran.error


def test_frames_of_a_video_are_measured_from_its_file(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = write_clip(tmp_path / "clip.mp4", Clip(times_ms=(0, 40, 80)))
    ran = run("bench", model, "--from", "file", "--source", video, "--json", "-", *QUICK)
    assert ran.code == 0, ran
    report = json.loads(ran.out)
    assert (report["from"], report["videos"]) == ("file", ["clip.mp4"])
    assert report["results"][0]["decoded_by"] == "cpu (the CPU prepares the images)"
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((50, 80, 3), np.uint8))
    ran = run("bench", model, "--source", video, "--source", tmp_path / "a.png", *QUICK)
    assert ran.code == 2
    assert "measure one after the other" in ran.err


def test_the_number_of_cameras_is_searched_and_drawn(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("yoloship.evaluate.cameras.search", lambda is_carried, *_: [is_carried(n) for n in (1, 2)])
    how = ("--fps", "20", "--max-latency", "60000", "--seconds", "0.2", "--imgsz", "64x96")
    svg, png = tmp_path / "c.svg", tmp_path / "c.png"
    ran = run("bench", model, *how, "--json", tmp_path / "c.json", "--plot", svg)
    assert ran.code == 0, ran
    report = json.loads((tmp_path / "c.json").read_bytes())
    assert report["images_hw"] == [[1080, 1920]]
    (found,) = report["cameras"]
    assert found["trials"][0]["streams"] == 1
    assert found["is_complete"]
    assert "best.onnx on cpu: 1 stream" in ran.err
    assert "streams of 20 frames a second, p99 latency at most 60000 ms, no frame lost:" in ran.out
    assert ET.fromstring(svg.read_text()).tag.endswith("svg")
    ran = run("bench", model, *how, "--plot", png)
    assert cv2.imread(str(png)) is not None


def test_a_search_that_is_interrupted_writes_what_it_has(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def interrupted(is_carried: Any, *_: int) -> None:
        is_carried(1)
        raise KeyboardInterrupt

    monkeypatch.setattr("yoloship.evaluate.cameras.search", interrupted)
    ran = run("bench", model, "--fps", "10", "--seconds", "0.2", "--json", tmp_path / "c.json")
    assert ran.code == 130
    (found,) = json.loads((tmp_path / "c.json").read_bytes())["cameras"]
    assert not found["is_complete"]
    assert [trial["streams"] for trial in found["trials"]][:1] == [1]
    assert "the search was interrupted" in ran.out
