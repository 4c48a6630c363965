"""Constants in a file: read back as they were, written out bit for bit, and never in memory together."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from helpers.modules import Maker, checkpoint
from helpers.shared import GENERATED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.graph import GraphConfig, build_graph, checkpoint_flops, graph_bytes, write_graph
from yoloship.graph import build as build_module
from yoloship.graph.builder import InFile, InMemory, ShapesOnly, raw_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.checkpoint import Checkpoint, Module

HW = (64, 96)
ARRAYS: dict[str, Any] = {
    "weight": np.random.default_rng(0).random((4, 3, 2, 1), np.float32),
    "scalar": np.float32(0.5).reshape(()),
    "sizes": np.array([1, -1, 3]),
    "none": np.zeros((0, 4), np.float32),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}


def test_arrays_come_back_in_their_order_with_their_types_and_shapes() -> None:
    kept = InFile(io.BytesIO())
    plain = InMemory()
    for name, values in ARRAYS.items():
        kept.add(name, values)
        plain.add(name, values)
    assert list(kept.mapping()) == list(plain.mapping()) == list(ARRAYS)
    assert len(kept) == len(ARRAYS)
    for name in reversed(ARRAYS):
        found = kept.mapping()[name]
        assert found.dtype == ARRAYS[name].dtype
        assert found.shape == ARRAYS[name].shape
        np.testing.assert_array_equal(found, ARRAYS[name])
    with pytest.raises(KeyError):
        kept["other"]


def test_shapes_alone_take_no_memory() -> None:
    kept = ShapesOnly()
    for name, values in ARRAYS.items():
        kept.add(name, values)
    for name, found in kept.mapping().items():
        assert (found.dtype, found.shape) == (ARRAYS[name].dtype, ARRAYS[name].shape)
        assert not found.any()
        assert not any(found.strides)
    hand = wide(24, 128)
    tracemalloc.start()
    try:
        flops = checkpoint_flops(hand, HW)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert flops > 24 * 2 * 128 * 128 * 9 * (HW[0] // 8) * (HW[1] // 8)
    assert peak < 7e6


def test_bytes_are_in_c_order_and_no_copy_where_they_are_already() -> None:
    assert bytes(raw_bytes(ARRAYS["turned"])) == ARRAYS["turned"].tobytes()
    assert bytes(raw_bytes(ARRAYS["scalar"])) == ARRAYS["scalar"].tobytes()
    values = ARRAYS["weight"]
    assert np.shares_memory(np.frombuffer(raw_bytes(values), np.uint8), values)


def streamed(hand: Checkpoint, config: GraphConfig) -> bytes:
    file = io.BytesIO()
    size = write_graph(hand, config, file)
    assert size == len(file.getvalue())
    return file.getvalue()


CONFIGS = [
    GraphConfig(HW),
    GraphConfig(None, None, "image", "compact"),
    GraphConfig(HW, 2, output_form="nms"),
    GraphConfig(HW, output_form="heads", precision="float16"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.output_form} {config.precision}")
@pytest.mark.parametrize("name", ["v7-yolov5n", "v7-yolov5s-transformer", "v6.0-yolov5s-ghost", "v1.0-yolov5s"])
def test_the_file_written_in_pieces_is_the_model_serialized(name: str, config: GraphConfig) -> None:
    hand = read_checkpoint(require(GENERATED / f"{name}.pt"))
    assert streamed(hand, config) == graph_bytes(build_graph(hand, config))


def wide(layers: int, channels: int) -> Checkpoint:
    """A detector of that many equal convolutions."""
    make = Maker(1)
    rows: list[tuple[Module, int | list[int]]] = [(make.conv(3, channels, 8, 8, padding=(0, 0)), -1)]
    rows += [(make.conv(channels, channels, 3), -1) for _ in range(layers)]
    return checkpoint([*rows, (make.detect([channels], [8]), [-1])])


def test_long_lengths_are_written_as_protobuf_has_them() -> None:
    hand = wide(2, 128)  # tensors and a graph whose lengths take two, three and four bytes
    data = streamed(hand, GraphConfig(HW))
    assert data == graph_bytes(build_graph(hand, GraphConfig(HW)))
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)


class Counting(io.RawIOBase):
    """Counts what is written, and keeps none of it."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


def test_weights_are_never_in_memory_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(build_module, "_SPOOL_BYTES", 1 << 20)
    hand = wide(24, 128)  # 24 layers of 0.6 MB each
    total = sum(4 * value.size for _, part in hand.module.walk() for value in part.parameters.values() if value)
    file = Counting()
    tracemalloc.start()
    try:
        size = write_graph(hand, GraphConfig(HW), file, folder=tmp_path)  # type: ignore[arg-type]  # it writes
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == file.size > total > 14e6
    assert peak < total / 2
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_an_error_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    def full(**_: Any) -> Full:
        return Full()

    monkeypatch.setattr(build_module, "SpooledTemporaryFile", full)
    with pytest.raises(OSError, match="No space left"):
        write_graph(wide(1, 8), GraphConfig(HW), io.BytesIO())


@pytest.mark.parametrize("aliases", [{}, {"models.fork.C3": "models.common.C3", "a.B": "models.common.Conv"}])
def test_aliases_that_were_used_are_noted_in_the_file(aliases: dict[str, str]) -> None:
    hand = replace(wide(1, 8), aliases=aliases)
    entries: Sequence[Any] = build_graph(hand, GraphConfig(HW)).metadata_props
    noted = {entry.key: entry.value for entry in entries}.get("yoloship.aliases")
    want = '{"a.B": "models.common.Conv", "models.fork.C3": "models.common.C3"}'
    assert noted == (want if aliases else None)
