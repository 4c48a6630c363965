"""``yoloship triton`` writes what its options say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import run
from helpers.serving import cat_model
from helpers.triton_schema import parsed, schema


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    return cat_model(tmp_path)


def config(folder: Path, name: str = "config") -> Any:
    return parsed((folder / f"{name}.pbtxt").read_text())


def test_a_line_for_each_model_says_what_it_takes_and_gives(cat: Path, tmp_path: Path) -> None:
    ran = run("triton", cat, f"night={cat}", "-o", tmp_path / "r")
    assert ran.code == 0, ran
    first, second = ran.out.splitlines()
    assert first == (
        f"{tmp_path / 'r/cat'}: python, image in, result, image_hw, count, boxes_xyxy, scores, class_ids out, "
        "batches of up to 8"
    )
    assert second.startswith(f"{tmp_path / 'r/night'}: python")


def test_options_are_in_the_configuration(cat: Path, tmp_path: Path) -> None:
    ran = run(
        "triton", cat, "-o", tmp_path / "r", "--input", "pixels", "--conf", "0.4", "--max-det", "9", "--max-batch",
        "16",         "--preferred-batch", "4", "--preferred-batch", "8", "--queue-delay-ms", "2.5", "--instances", "3",
        "--device", "cuda:1,0", "--names", "a,b", "--config", "h100:max-batch=32,preferred-batch=8+16,device=cuda:2+3",
    )  # fmt: skip
    assert ran.code == 0, ran
    found, other = config(tmp_path / "r/cat"), config(tmp_path / "r/cat/configs", "h100")
    assert found.input[0].name == "pixels"
    assert json.loads(found.parameters["yoloship.options"].string_value) == {
        "score_threshold": 0.4, "max_detections": 9, "class_names": ["a", "b"],
    }  # fmt: skip
    assert found.max_batch_size == 16
    assert list(found.dynamic_batching.preferred_batch_size) == [4, 8]
    assert found.dynamic_batching.max_queue_delay_microseconds == 2500
    (group,) = found.instance_group
    assert (group.kind, group.count, list(group.gpus)) == (schema().ModelInstanceGroup.KIND_GPU, 3, [0, 1])
    assert (other.max_batch_size, list(other.dynamic_batching.preferred_batch_size)) == (32, [8, 16])
    assert list(other.instance_group[0].gpus) == [2, 3]
    assert (tmp_path / "r/cat/labels.txt").read_text() == "a\nb\n"


def test_a_repository_that_is_there_is_left_alone(cat: Path, tmp_path: Path) -> None:
    assert run("triton", cat, "-o", tmp_path / "r").code == 0
    before = (tmp_path / "r/cat/config.pbtxt").read_bytes()
    assert run("triton", cat, "-o", tmp_path / "r", "--max-batch", "2").error == (
        f"{tmp_path / 'r/cat'}: already exists; --overwrite replaces this model"
    )
    assert (tmp_path / "r/cat/config.pbtxt").read_bytes() == before
    assert run("triton", cat, "-o", tmp_path / "r", "--max-batch", "2", "--overwrite").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "float"], "--input float is for --backend onnxruntime: give it, or leave --input out"),
        (["--backend", "onnxruntime", "--input", "file"], "--input file is for --backend python"),
        (["--output", "nms"], "--output is for --backend onnxruntime"),
    ],
)
def test_options_of_another_backend_are_wrong_usage(
    cat: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    ran = run("triton", cat, "-o", tmp_path / "r", *options)
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1,,2", "CUDA", "cuda:٣"])
def test_a_device_that_there_is_not_is_refused(cat: Path, tmp_path: Path, device: str) -> None:
    ran = run("triton", cat, "-o", tmp_path / "r", "--device", device)
    assert ran.error == f"--device: no such device: expected auto, cpu, cuda or cuda:N,N, got {device}"


@pytest.mark.parametrize(
    "text", ["h100", "h100:", ":max-batch=1", "h100:max-batch", "h100:batch=1", "h100:max-batch=1,max-batch=2"]
)
def test_a_configuration_that_is_none_is_refused(cat: Path, tmp_path: Path, text: str) -> None:
    ran = run("triton", cat, "-o", tmp_path / "r", "--config", text)
    assert ran.error.startswith("--config: is not a configuration: expected NAME:KEY=VALUE,... with model, max-batch")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:max-batch=0", "--config max-batch: is not a number: expected 1 to 99999, got 0"),
        ("a:instances=x", "--config instances: is not a number"),
        ("a:preferred-batch=1+", "--config preferred-batch: is not a number"),
        ("a:queue-delay-ms=nan", "--config queue-delay-ms: out of range: expected 0 to 10000, got nan"),
        ("a:queue-delay-ms=x", "--config queue-delay-ms: out of range: expected 0 to 10000, got x"),
        ("../a:max-batch=1", "../a: cannot be the name of a configuration"),
    ],
)
def test_a_wrong_value_of_a_configuration_is_named(cat: Path, tmp_path: Path, text: str, message: str) -> None:
    assert run("triton", cat, "-o", tmp_path / "r", "--config", text).error.startswith(message)
    assert not (tmp_path / "r").exists()


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert run("triton", tmp_path / "no.pt", "-o", tmp_path / "r").error.startswith(str(tmp_path / "no.pt"))
