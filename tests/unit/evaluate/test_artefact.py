"""Opening what is compared: half precision is emulated, and everything else runs as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.resnets import resnet
from yoloship.errors import InputError
from yoloship.evaluate.artefact import open_artefact
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.passes.half import convert_precision

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = np.random.default_rng(3).integers(0, 256, (50, 60, 3), np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A classifier that does not say how images become its input, in float32 and in float16."""
    graph = build_graph(resnet(), GraphConfig((64, 64), transform="none"))
    paths = tmp_path / "wide.onnx", tmp_path / "narrow.onnx"
    paths[0].write_bytes(graph_bytes(graph))
    paths[1].write_bytes(graph_bytes(convert_precision(graph, "float16")))
    return paths


def test_half_precision_is_emulated_and_the_transform_is_that_which_is_given(files: tuple[Path, Path]) -> None:
    wide, narrow = files
    with open_artefact(wide, transform="yolov5") as right, open_artefact(narrow, transform="yolov5") as judged:
        assert "emulated" not in right.session.name
        assert judged.session.name.endswith(", half precision emulated")
        assert (judged.session.precision, judged.info.precision) == ("float16", "float16")
        assert right.info.transform == judged.info.transform
        difference = np.abs(right(IMAGE).probabilities - judged(IMAGE).probabilities).max()
    assert 0 < difference < 0.01


def test_without_a_transform_both_are_refused(files: tuple[Path, Path]) -> None:
    for path in files:
        with pytest.raises(InputError, match="does not say how images become its input"):
            open_artefact(path)
