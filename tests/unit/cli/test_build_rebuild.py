"""The command that rebuilds an engine, read by the real parser, orders the same engine."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import pytest

from helpers.cli import run
from helpers.engine_records import plan_bytes, record_of
from helpers.networks import float_network
from helpers.shared import GENERATED, require
from yoloship.cli import build as command
from yoloship.conversion import engines
from yoloship.conversion.engines import Built
from yoloship.engine import rebuild_command
from yoloship.model import STANDARD, ModelInfo, UsualNms

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.conversion import Calibration
    from yoloship.model import OutputForm
    from yoloship.models.build_check import BuildRequest

NOT_OF_THE_ENGINE = {"model", "output_file", "overwrite", "check", "timing_cache", "show_trtexec", "quiet", "help"}
"""What says where things lie and how the command behaves; none of it changes the plan."""

CHECKPOINT = {
    "plain": "",
    "sizes": "--imgsz 320x640 --batch 4 --input image --output compact",
    "ranges": "--imgsz 320x320:640x640:640x1280 --batch 1:4:16 --output heads",
    "half": "--precision bf16 --names 'hard hat,vest' --alias models.fork.C3=models.common.C3",
    "suppression": "--output nms --conf 0.4 --iou 0.6 --max-det 50 --precision fp16",
    "int8": "--precision int8 --calibrate photos --calibrate 'more/*.jpg' --calibrator entropy --labels labels "
    "--max-drop 0.003 --other-layers float32",
    "int8 by default": "--precision int8 --calibrate photos",
    "float8": "--precision fp8 --calibrate photos --target 8.9 --target 12.0 --output nms",
    "tensorrt": "--flavour tensorrt --optimization-level 3 --hardware-compatibility ampere_plus --version-compatible "
    "--workspace 2GB",
    "a fork": "--alias forkpkg.nets.C3=models.common.C3 --alias forkpkg.nets.Conv=models.common.Conv",
    "a classifier": "--transform timm:crop_pct=0.95,interpolation=bilinear --names-from classes",
    "one of two heads": "--head one2one",
    "rtx": "--flavour rtx --target current --workspace 3000000",
}
ONNX = {
    "plain": "",
    "ranges": "--imgsz 320:640:640 --batch 1:1:8 --target portable",
    "single": "--imgsz 320 --batch 4",
    "suppression": "--output nms --conf 0.3 --precision float16",
}


class Orders:
    """Takes the place of the work, and keeps what was ordered."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.seen: list[tuple[BuildRequest, Calibration, str]] = []

    def take(self, order: BuildRequest, calibration: Calibration, *, model: str, **_: Any) -> Built:
        if isinstance(order.nms, UsualNms):  # the network's family says which threshold that is
            order = replace(order, nms=order.nms.at(0.45))
        if order.graph is not None:  # the checkpoint and its head say which form and size that is
            graph = replace(order.graph, nms=order.nms)
            form = "raw" if graph.output_form == STANDARD else graph.output_form
            size = (640, 640) if graph.input_hw == "usual" else graph.input_hw
            order = replace(order, graph=replace(graph, output_form=form, input_hw=size))
        self.seen.append((order, calibration, engines._said(model, order.source)))
        return Built(order.output, 0, None, "", "", "", 0.0)

    def command(self, engine: str) -> str:
        """That rebuilds the engine ordered last."""
        order, calibration, source_name = self.seen[-1]
        record = record_of(
            plan_bytes(), config=replace(order.config, timing_cache=None), source_name=source_name,
            flavour=order.flavour or "rtx", recipe=engines.recipe_of(order, calibration), model=self._model(order),
        )  # fmt: skip
        return rebuild_command(record, engine)

    def _model(self, order: BuildRequest) -> ModelInfo:
        names = order.names or self.names
        if order.graph is None:
            form: OutputForm = "nms" if order.nms else "raw"
            return ModelInfo(
                "detect", "yolov5", names, (8, 16, 32), (), "float", form, (None, None), None, nms=order.nms
            )
        graph = order.graph
        size = (640, 640) if graph.input_hw == "usual" else graph.input_hw or (None, None)
        return ModelInfo(
            "detect", "yolov5", names, (8, 16, 32), (), graph.input_form, graph.output_form, size, graph.batch,
            nms=graph.nms, precision=order.precision, head=graph.head,
        )  # fmt: skip


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orders:
    shutil.copy(require(GENERATED / "v7-yolov5n.pt"), tmp_path / "best.pt")
    (tmp_path / "best.onnx").write_bytes(float_network().SerializeToString())
    (tmp_path / "labels").mkdir()
    for name in ("person", "car"):
        (tmp_path / "classes" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    orders = Orders(("person", "car"))
    monkeypatch.setattr(engines, "carry_out", orders.take)
    return orders


@pytest.mark.parametrize(
    ("source", "options"),
    [("best.pt", options) for options in CHECKPOINT.values()] + [("best.onnx", options) for options in ONNX.values()],
    ids=[f"checkpoint, {name}" for name in CHECKPOINT] + [f"ONNX, {name}" for name in ONNX],
)
def test_it_orders_the_same_engine(orders: Orders, source: str, options: str) -> None:
    ran = run("build", source, "-o", "my engine.engine", *shlex.split(options))
    assert ran.code == 0, ran
    words = shlex.split(orders.command("my engine.engine"))
    assert words[0] == "yoloship"
    ran = run(*words[1:])
    assert ran.code == 0, ran
    (first, given, _), (second, again, _) = orders.seen
    assert replace(second, flavour=first.flavour) == first
    assert second.flavour == (first.flavour or "rtx")
    assert engines.recipe_of(second, again) == engines.recipe_of(first, given)


def test_every_option_that_decides_the_engine_is_tried_above() -> None:
    tried = shlex.split(" ".join([*CHECKPOINT.values(), *ONNX.values()]))
    options = [parameter for parameter in command.build.params if parameter.name not in NOT_OF_THE_ENGINE]
    assert len(options) >= 20
    assert [
        option.name
        for option in options
        if isinstance(option, click.Option) and not option.hidden and tried.count(option.opts[-1]) < 1
    ] == []


def test_a_release_is_named_as_it_was_given(orders: Orders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("yoloship.models.releases.resolve", lambda _, say: tmp_path / "best.pt")
    assert run("build", "yolov5s").code == 0
    assert orders.command("yolov5s.engine").startswith("yoloship build yolov5s -o yolov5s.engine ")
