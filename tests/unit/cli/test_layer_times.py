"""The table and the chart of the times of layers, and what `inspect --times` refuses."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from helpers.cli import run
from helpers.engine_records import plan_bytes, record_of, write
from helpers.networks import float_network
from yoloship.cli.layer_times import MAX_BARS, MAX_ROWS, time_rows, times_svg
from yoloship.runtime.layer_times import LayerTime, LayerTimes


def times(count: int) -> LayerTimes:
    layers = tuple(
        LayerTime(f"/model/{number}/conv <&>", 1.0, 1 / count, "CaskConvolution", "Half" if number % 2 else "Float")
        for number in range(count)
    )
    return LayerTimes(layers, float(count), 20, {"images": (1, 3, 640, 640)}, "NVIDIA L4")


def test_the_table_has_a_line_for_each_layer_and_the_rest_in_one() -> None:
    rows = list(time_rows(times(MAX_ROWS + 3)))
    assert rows[0] == ("times", "403.000 ms in 403 layers, median of 20 runs on NVIDIA L4")
    assert rows[1] == ("inputs", "images 1x3x640x640, zeros")
    assert rows[2][1] == "   1.0000 ms   0.2%  Float CaskConvolution /model/0/conv <&>"
    assert rows[-1][1] == "   3.0000 ms in 3 more layers"
    assert len(rows) == MAX_ROWS + 3


def test_the_chart_is_valid_svg_with_a_bar_for_each_of_the_slowest() -> None:
    text = times_svg(times(MAX_BARS + 10), "<my>.engine")
    root = ET.fromstring(text)
    words = [element.text for element in root.iter() if element.text]
    assert "Layers of <my>.engine" in words
    assert words.count("1.000 ms, 2.5%") == MAX_BARS
    assert {"Half", "Float"} <= set(words)
    assert any(word.startswith("30 of 40 layers, 75% of 40.000 ms; median of 20 runs on") for word in words)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    plan = plan_bytes()
    return write(tmp_path / "best.engine", plan, record_of(plan))


def test_layers_cannot_be_timed_without_a_gpu_and_nothing_is_drawn(engine: Path) -> None:
    ran = run("inspect", engine, "--times", "--plot", engine.with_name("layers.svg"))
    assert ran.code == 1
    assert "best.engine: its layers cannot be timed here: " in ran.error
    assert not engine.with_name("layers.svg").exists()


def test_options_that_need_each_other_are_told(engine: Path, tmp_path: Path) -> None:
    assert "--plot draws what --times measures" in run("inspect", engine, "--plot", "a.svg").err
    assert "give a name that ends in .svg" in run("inspect", engine, "--times", "--plot", "a.png").err
    onnx = tmp_path / "small.onnx"
    onnx.write_bytes(float_network().SerializeToString())
    assert "--times is for engines" in run("inspect", onnx, "--times").err
    assert run("inspect", onnx, "--times").code == 2
