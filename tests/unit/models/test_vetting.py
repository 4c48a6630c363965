from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.models import constant_raw, empty_rows, scale_and_shift
from yoloship.bounds import UnsizedError
from yoloship.errors import GraphError, SessionError
from yoloship.models.vetting import vetted

if TYPE_CHECKING:
    from pathlib import Path

HW = (64, 96)


def test_what_was_looked_at_is_what_is_opened(tmp_path: Path) -> None:
    data = constant_raw(empty_rows(HW), HW, {}).SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for source in (path, data):
        checked = vetted(source, "m.onnx", None)
        assert checked.source == data  # a file that is exchanged meanwhile changes nothing
        assert checked.limit_s >= 60


def test_weights_beside_the_file_are_looked_for_and_then_the_file_itself_is_opened(tmp_path: Path) -> None:
    made = constant_raw(empty_rows(HW), HW, {})
    rows = next(entry for entry in made.graph.initializer if entry.name == "raw")
    data = rows.raw_data
    rows.ClearField("raw_data")
    rows.data_location = rows.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(len(data)))):
        rows.external_data.add(key=key, value=value)
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(GraphError, match=r"weights\.bin"):
        vetted(path, "m.onnx", None)
    (tmp_path / "weights.bin").write_bytes(data)
    assert vetted(path, "m.onnx", None).source == path


@pytest.mark.parametrize("data", [b"", b"\x08\x08"])
def test_a_file_without_a_graph_is_refused(data: bytes) -> None:
    with pytest.raises(
        SessionError, match=r"m\.onnx: is not a valid ONNX file: it is damaged or truncated: got no graph"
    ):
        vetted(data, "m.onnx", None)


def test_a_graph_that_takes_no_image_is_refused_as_what_it_takes() -> None:
    model = scale_and_shift()
    with pytest.raises(UnsizedError, match="inputs x of 2 axes"):
        vetted(model.SerializeToString(), "m.onnx", None)
