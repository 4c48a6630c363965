from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.cuda_steps import assert_same_detections, descriptor, in_form, read_result, reference_detections
from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer, download, fill_words, upload
from yoloship.cuda.letterbox import FRAME_DTYPE, Canvas, launch_letterbox, pack_frames
from yoloship.cuda.postprocess import (
    Raw,
    Results,
    ScoreFilter,
    Suppression,
    Workspace,
    clear,
    launch_decode,
    launch_nms,
    result_dtype,
    workspace_bytes,
)
from yoloship.cuda.stream import Graph
from yoloship.errors import CudaError
from yoloship.letterbox import Letterbox

if TYPE_CHECKING:
    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream


def test_a_recorded_pipeline_gives_right_results_for_other_frames(
    device: Device, stream: Stream, kernels: KernelSet, rig: Any
) -> None:
    rng = np.random.default_rng()
    canvas_hw, cells, classes = (320, 320), 1000, 4
    suppression = Suppression(0.5, 100)
    dtype = result_dtype(suppression.max_detections)
    with PinnedBuffer(device, 1 << 16) as staging, PinnedBuffer(device, dtype.itemsize) as landing:
        table = staging.array(FRAME_DTYPE, (1,))
        record = landing.array(dtype, (1,))
        table_on_device = rig.empty(table.nbytes)
        canvas = Canvas(rig.empty(4 * 3 * 320 * 320), 1, canvas_hw)
        raw_on_device = rig.empty(4 * cells * (5 + classes))
        workspace = Workspace(rig.empty(workspace_bytes(1, cells)), 1, cells)
        results = rig.empty(dtype.itemsize)
        there = Results(results, suppression.max_detections)

        def work() -> None:
            upload(stream, table_on_device, table)
            launch_letterbox(kernels, stream, table_on_device, canvas)
            launch_decode(kernels, stream, Raw(raw_on_device, cells), ScoreFilter(classes, 0.3), workspace)
            launch_nms(kernels, stream, workspace, suppression, table_on_device, there)
            download(stream, record, results)

        clear(stream, workspace)
        stream.sync()
        with Graph(stream, work) as graph:
            for hw in ((700, 500), (90, 400), (320, 320)):
                image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
                raw = rng.random((cells, 5 + classes), dtype=np.float32)
                raw[:, :4] *= 300
                box = Letterbox.fixed(hw, canvas_hw)
                pack_frames([descriptor(rig, image, box)], canvas_hw, table)
                upload(stream, raw_on_device, raw)
                graph.launch(stream)
                stream.sync()
                found = rig.get(canvas.pointer, np.float32, (1, 3, *canvas_hw))
                np.testing.assert_array_equal(found, in_form(box.apply(image)[None], "float32_rgb_chw"))
                assert_same_detections(read_result(record[0]), reference_detections(raw, box, 0.3, suppression))


def test_what_fails_while_recording_leaves_the_stream_usable(device: Device, stream: Stream) -> None:
    before = device.usage()

    def raises() -> None:
        msg = "on purpose"
        raise KeyError(msg)

    with pytest.raises(KeyError, match="on purpose"):
        Graph(stream, raises)
    with pytest.raises(CudaError):
        Graph(stream, stream.sync)
    stream.sync()
    with DeviceBuffer(device, 16) as buffer:
        fill_words(stream, buffer.pointer, 3, 4)
        stream.sync()
    assert device.usage() == before


def test_a_stream_says_whether_it_is_being_recorded(stream: Stream) -> None:
    said = []
    assert not stream.is_recording()
    Graph(stream, lambda: said.append(stream.is_recording())).close()
    assert said == [True]
    assert not stream.is_recording()


def test_recording_and_dropping_graphs_leaks_nothing(device: Device, stream: Stream) -> None:
    with DeviceBuffer(device, 1 << 12) as buffer:
        before = device.usage()
        for _ in range(300):
            with Graph(stream, lambda: fill_words(stream, buffer.pointer, 1, 16)) as graph:
                graph.launch(stream)
            stream.sync()
        assert device.usage() == before


def test_no_garbage_is_collected_during_a_recording(device: Device, stream: Stream) -> None:
    """A library's dead object that gives memory back in the middle would spoil it."""
    died_in_a_recording = []

    class Dead:
        def __init__(self) -> None:
            self.me = self  # only the collector finds it

        def __del__(self) -> None:
            died_in_a_recording.append(stream.is_recording())

    threshold = gc.get_threshold()
    gc.set_threshold(10, 1, 1)
    try:
        with DeviceBuffer(device, 256) as buffer:

            def work() -> None:
                Dead()
                kept: list[Any] = [[[]] for _ in range(5000)]  # as many as make the collector run, where it may
                fill_words(stream, buffer.pointer, len(kept), 4)

            with Graph(stream, work):
                assert gc.isenabled()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert died_in_a_recording == [False]
