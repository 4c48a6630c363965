"""`yoloship.build`: what the command builds, from Python; here up to TensorRT, which other tests run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import yoloship
from helpers.networks import float_network
from helpers.shared import GENERATED, require
from yoloship.conversion import Calibration, engines
from yoloship.conversion.engines import Built
from yoloship.engine import BuildConfig, Range
from yoloship.errors import InputError, OutputError
from yoloship.model import STANDARD
from yoloship.models.build_check import BuildRequest


class Requests:
    """Takes the place of the work, and keeps what was asked for."""

    def __init__(self) -> None:
        self.seen: list[tuple[BuildRequest, Calibration]] = []

    def carry_out(self, request: BuildRequest, calibration: Calibration, **_: Any) -> Built:
        self.seen.append((request, calibration))
        return Built(request.output, 0, None, "float32", "", "", 0.0)


@pytest.fixture(autouse=True)
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Requests:
    monkeypatch.chdir(tmp_path)
    Path("best.pt").symlink_to(require(GENERATED / "v7-yolov5n.pt"))
    Path("best.onnx").write_bytes(float_network().SerializeToString())
    Path("photos").mkdir()
    requests = Requests()
    monkeypatch.setattr(engines, "carry_out", requests.carry_out)
    return requests


def test_the_defaults_are_those_of_the_command(requests: Requests) -> None:
    assert yoloship.build("best.pt").path == Path("best.engine")
    ((request, calibration),) = requests.seen
    assert request.graph is not None
    assert (request.graph.input_hw, request.graph.batch) == ("usual", 1)
    assert (request.graph.input_form, request.graph.output_form) == ("float", STANDARD)
    assert (request.precision, request.config, request.flavour) == ("float32", BuildConfig(), None)
    assert calibration == Calibration()


def test_three_sizes_or_batches_are_a_range(requests: Requests) -> None:
    yoloship.build("best.pt", imgsz=(320, 640, (640, 1280)), batch=(1, np.int64(4), 16), output_form="heads")
    ((request, _),) = requests.seen
    assert request.graph is not None
    assert (request.graph.input_hw, request.graph.batch) == (None, None)
    assert request.config.batch == Range(1, 4, 16)
    assert (request.config.height, request.config.width) == (Range(320, 640, 640), Range(320, 640, 1280))


def test_what_tensorrt_is_told_is_kept(requests: Requests) -> None:
    yoloship.build(
        "best.onnx", "x.engine", batch=4, imgsz=320, config=BuildConfig(targets=("sm89",)), flavour="rtx",
        output_form="nms", max_detections=50, class_names=["a"],
    )  # fmt: skip
    ((request, _),) = requests.seen
    assert request.config == BuildConfig(
        batch=Range(4, 4, 4), height=Range(320, 320, 320), width=Range(320, 320, 320), targets=("sm89",)
    )
    assert request.nms is not None
    assert (request.nms.max_detections, request.flavour, request.names) == (50, "rtx", ("a",))


def test_calibration_is_kept(requests: Requests) -> None:
    yoloship.build(
        "best.pt", precision="int8", calibrate=["photos", Path("more")], max_drop=0.01, other_layers="float32"
    )
    ((_, calibration),) = requests.seen
    assert calibration == Calibration(("photos", "more"), None, None, "inputs", 0.01, "float32")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "missing.onnx"}, "missing.onnx: no such file"),
        ({"model": None}, "model: is not a file's name: got NoneType"),
        ({"imgsz": "640"}, "imgsz: is not a size"),
        ({"imgsz": (640, 320, 1280)}, "imgsz: bad range: expected 1 ≤ minimum ≤ optimum ≤ maximum"),
        ({"batch": (1, 2)}, "batch: is not a range: expected one number, or the smallest, the usual and the largest"),
        ({"batch": 0}, "batch: is not a range"),
        ({"batch": (4, 2, 1)}, "batch: bad range"),
        ({"precision": "half"}, "precision: there is no such precision"),
        ({"class_names": "abc"}, "class_names: wrong type: expected a sequence of names, got 'abc'"),
        ({"aliases": ["a=b"]}, "aliases: wrong type"),
        ({"protected": "x.engine"}, "protected: wrong type"),
        ({"precision": "int8", "calibrate": "p", "max_drop": 2}, "max_drop: out of range"),
        ({"config": 3}, "config: wrong type: expected a BuildConfig, got int"),
        ({"precision": "int8"}, "calibrate: int8 needs images like those in production"),
        ({"calibrate": "photos"}, "calibrate: has no effect"),
        ({"model": "best.onnx", "input_form": "image"}, "best.onnx: the input and output of an ONNX file are fixed"),
        ({"model": "best.onnx", "aliases": {"a.B": "models.common.C3"}}, "aliases are for checkpoints"),
        ({"config": BuildConfig(batch=Range(1, 1, 1))}, "config: gives ranges, which are taken from batch and imgsz"),
    ],
)
def test_a_wrong_argument_is_an_input_error(requests: Requests, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        yoloship.build(**{"model": "best.pt", **arguments})
    assert requests.seen == []


def test_no_file_is_replaced_unless_it_may_be(requests: Requests) -> None:
    Path("best.engine.json").write_text("mine")
    with pytest.raises(OutputError, match=r"best.engine.json: already exists"):
        yoloship.build("best.pt")
    with pytest.raises(OutputError, match="would replace an input"):
        yoloship.build("best.pt", "best.pt", overwrite=True)
    yoloship.build("best.pt", overwrite=True)
    assert len(requests.seen) == 1
