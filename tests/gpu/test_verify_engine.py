"""`yoloship verify best.pt best.engine --report FILE`, and `doctor`, over the stand-in for TensorRT."""

from __future__ import annotations

import getpass
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest

import yoloship
from helpers import tensorrt_standin as standin
from helpers.cli import run
from helpers.device_sessions import is_stand_in
from yoloship.checkpoint import read_checkpoint
from yoloship.demo.run import DEFAULT_SEED
from yoloship.demo.scene import make_scene
from yoloship.doctor import trials
from yoloship.engine import Installation
from yoloship.errors import EngineError
from yoloship.evaluate.proof import read_proof
from yoloship.graph import GraphConfig, build_graph, model_info

if TYPE_CHECKING:
    from yoloship.cuda.device import Device

DEMO = Path(yoloship.__file__).parent / "demo" / "codes-yolov5n.pt"
HW = (320, 320)


@pytest.fixture
def work(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an engine of the demo's model, an image, and the stand-in in the place of TensorRT."""
    if not is_stand_in(device):
        pytest.importorskip("torch")
    config = GraphConfig(HW)
    checkpoint = read_checkpoint(DEMO)
    standin.write_plan(
        tmp_path / "secret-project.engine", build_graph(checkpoint, config), info=model_info(checkpoint, config),
        compute_capability=device.info.sm,
    )  # fmt: skip
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "private-photo.png"), make_scene(DEFAULT_SEED, HW).image)
    flavour = standin.flavour()
    there = Installation({flavour.name: flavour.version}, device.info)
    monkeypatch.setattr("yoloship.runtime.tensorrt.find_installation", lambda: there)
    monkeypatch.setattr("yoloship.runtime.tensorrt.open_flavour", lambda *_, **__: flavour)
    monkeypatch.setattr("yoloship.runtime.tensorrt.TensorRT.is_installed", lambda: True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_report_of_an_engine_says_what_ran_and_names_nobody(work: Path, device: Device) -> None:
    ran = run("verify", DEMO, "secret-project.engine", "--images", "photos", "--imgsz", "320", "--report", "proof.json")
    assert ran.code == 0, ran
    assert re.search(rf"^gpu +{re.escape(device.name)}, {device.info.sm}, ", ran.out, re.MULTILINE), ran.out
    assert "versions" in ran.out
    assert "engine B" in ran.out
    assert "report: proof.json; docs/proofs.md says how to send it" in ran.err
    proof = read_proof(work / "proof.json")
    assert proof["passed"] is True
    assert proof["task"] == "detect"
    assert [side["kind"] for side in proof["sides"]] == ["checkpoint", "engine"]
    assert proof["sides"][0]["engine"] is None
    engine = proof["sides"][1]["engine"]
    assert (engine["flavour"], engine["version"], engine["built_on"]) == (
        "tensorrt", standin.flavour().version, device.info.sm,
    )  # fmt: skip
    assert proof["machine"]["gpus"][0]["name"] == device.name
    assert proof["overlaps"]["worst"] > 0.9
    assert [level["stride"] for level in proof["levels"]] == [8, 16, 32]
    text = (work / "proof.json").read_text(encoding="utf-8")
    private = (str(work), "secret", "private", "photos", DEMO.stem, "qr_code", platform.node(), str(Path.home()))
    for word in (*private, "sha256"):
        assert not word or word not in text, word
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


def test_an_engine_that_computes_something_else_fails_and_the_report_says_so(work: Path, device: Device) -> None:
    config = GraphConfig(HW)
    model = build_graph(read_checkpoint(DEMO), config)
    for weight in model.graph.initializer:
        if len(weight.dims) == 4 and weight.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(np.round(array * 8) / 8, weight.name))
    standin.write_plan(
        work / "wrong.engine", model, info=model_info(read_checkpoint(DEMO), config), compute_capability=device.info.sm
    )
    ran = run("verify", DEMO, "wrong.engine", "--images", "photos", "--imgsz", "320", "--report", "proof.json")
    assert ran.code == 1
    assert "differs from" in ran.err
    proof = read_proof(work / "proof.json")
    assert proof["passed"] is False
    assert not all(check["passed"] for check in proof["checks"])


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch, device: Device) -> Any:
    """Runs a trial of the doctor in this process, with the stand-in as TensorRT."""
    if not is_stand_in(device):
        pytest.importorskip("torch")

    def attempt(flavour: Any) -> dict[str, Any]:
        monkeypatch.setattr("yoloship.engine.open_flavour", lambda *_, **__: flavour)
        return trials.run_tensorrt()

    return attempt


def test_doctor_has_built_loaded_run_and_compared_before_it_says_works(trial: Any, device: Device) -> None:
    facts = trial(standin.flavour())
    assert (facts["version"], facts["device"]) == (standin.flavour().version, device.name)
    assert facts["plan_bytes"] > 158


def test_doctor_notices_numbers_that_are_wrong(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = float_network_like(trials.SMALL_ONNX)
    monkeypatch.setattr(trials, "SMALL_ONNX", wrong)
    with pytest.raises(trials.DoesNotWork, match="wrong result: expected"):
        trial(standin.flavour())


def test_doctor_says_tensorrts_reason_in_one_line(trial: Any) -> None:
    with pytest.raises(
        EngineError, match="cannot make its Builder: CUDA initialization failure with error: 35"
    ) as caught:
        trial(standin.without("Builder", "CUDA initialization failure with error: 35"))
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineError, match="cannot make its Runtime: CUDA initialization failure with error: 2; free"):
        trial(standin.without("Runtime", "CUDA initialization failure with error: 2"))


def float_network_like(data: bytes) -> bytes:
    """The same graph with another weight."""
    model = onnx.load_from_string(data)
    (weight,) = model.graph.initializer
    array = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    return bytes(model.SerializeToString())
