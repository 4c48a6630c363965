"""Images that wait at the same time run as batches, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.images import saved
from helpers.models import empty_rows, image_session, info
from helpers.samples import sample
from yoloship.detect.cpu import CpuPipeline
from yoloship.detect.detector import Detector
from yoloship.detect.pipeline import ModelInput
from yoloship.graph.build import build_graph
from yoloship.graph.config import GraphConfig
from yoloship.graph.onnx_file import graph_bytes
from yoloship.results.detections import Detections
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.openvino import OpenVinoSession
from yoloship.serve.cost import RunCost
from yoloship.serve.engine import Answer, Loaded, ModelHost, Workers
from yoloship.serve.handover import Handover
from yoloship.serve.settings import RequestLimits, ServedModel
from yoloship.tasks.task import info_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

HW = (64, 96)
PHOTOS = [saved(np.full((48, 64, 3), 20 * number, np.uint8), "PNG") for number in range(1, 8)]


class Gate:
    """Holds the runs of a pipeline until it is opened.

    Attributes:
        runs: How many images each run had.
    """

    def __init__(self, pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.is_reached = threading.Event(), threading.Event()
        self.runs: list[int] = []
        run = pipeline.run

        def held(images: Sequence[Any], options: Any) -> Any:
            self.is_reached.set()
            self.open.wait()
            self.runs.append(len(images))
            return run(images, options)

        monkeypatch.setattr(pipeline, "run", held)


def paying_cost() -> RunCost:
    """Runs of which a large one costs hardly more than a small one."""
    cost = RunCost()
    for images, seconds in ((1, 0.010), (4, 0.0103), (16, 0.0115)):
        cost.add(images, seconds)
    return cost


def answers_of_waiting(detector: Detector[Any], gate: Gate, photos: Sequence[bytes]) -> list[Answer]:
    """The answers to images all but one of which waited while that one ran."""
    workers = Workers()

    async def run() -> list[Answer]:
        host = ModelHost(ServedModel("m", "m.onnx"), RequestLimits(), workers)
        host.take(Loaded(detector, Handover(detector, workers.held), paying_cost()))
        deadline_s = asyncio.get_running_loop().time() + 600
        tasks = [asyncio.ensure_future(host.infer(photos[0], None, deadline_s))]
        await asyncio.to_thread(gate.is_reached.wait)
        tasks += [asyncio.ensure_future(host.infer(photo, None, deadline_s)) for photo in photos[1:]]
        while len(detector._batches()._waiting) < len(photos) - 1:
            await asyncio.sleep(0.001)
        gate.open.set()
        answers = await asyncio.gather(*tasks)
        host.close()
        return answers

    try:
        return asyncio.run(run())
    finally:
        workers.close()


def pipeline_of(session: Any, record: Any = None) -> CpuPipeline:
    """As on a device: submitted images run in batches, one run at a time."""
    model = ModelInput.checked(record or info_of(session, "m"), None, "square", "m")
    return CpuPipeline(session, model, parallel_runs=1, max_batch=16, device="cuda:0")


def by_brightness(feeds: Any) -> list[npt.NDArray[np.float32]]:
    """Finds one object in each image, the wider the brighter the image is."""
    images = feeds["images"]
    rows = np.repeat(empty_rows(HW), len(images), axis=0)
    rows[:, 27, :6] = (40, 30, 0, 10, 0.9, 1)
    rows[:, 27, 2] = images[:, 32, 48, 0] / 4
    return [rows]


def test_what_waited_runs_as_one_batch_and_no_answer_is_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipeline_of(image_session(info("raw", batch=None), by_brightness), info("raw", batch=None))
    gate = Gate(pipeline, monkeypatch)
    answers = answers_of_waiting(Detector.over(pipeline), gate, PHOTOS)
    assert gate.runs == [1, 4, 1, 1]  # only these sizes are prepared
    assert sorted(answer.times.batch for answer in answers) == [1, 1, 1, 4, 4, 4, 4]
    gain = 64 / 85  # 48 × 64 pixels become 64 × 85
    for number, answer in enumerate(answers, 1):
        assert isinstance(answer.result, Detections)
        ((left, _, right, _),) = answer.result.boxes_xyxy.tolist()
        assert right - left == pytest.approx(20 * number / 4 * gain, abs=0.02)


@pytest.mark.parametrize("runtime", [OnnxRuntimeSession, OpenVinoSession])
@pytest.mark.parametrize(("batch", "runs"), [(None, [1, 4, 1, 1]), (4, [1, 4, 2])], ids=["dynamic", "fixed"])
def test_batches_of_real_graphs_give_the_answers_of_single_images(
    runtime: Any, batch: int | None, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = build_graph(sample("yolov5", "detect"), GraphConfig(HW, batch=batch))
    chance = np.random.default_rng(4)
    photos = [saved(chance.integers(0, 256, (48, 64, 3), dtype=np.uint8), "PNG") for _ in PHOTOS]
    pipeline = pipeline_of(runtime.open(graph_bytes(graph)))
    gate = Gate(pipeline, monkeypatch)
    detector = Detector.over(pipeline)
    gate.open.set()
    alone = [detector(photo) for photo in photos]
    gate.open.clear()
    gate.is_reached.clear()
    gate.runs.clear()
    answers = answers_of_waiting(detector, gate, photos)
    assert gate.runs == runs
    for found, expected in zip((answer.result for answer in answers), alone, strict=True):
        assert isinstance(found, Detections)
        assert len(expected)
        np.testing.assert_array_equal(found.class_ids, expected.class_ids)
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-2)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_a_model_whose_batches_pay_gets_room_for_them() -> None:
    def room(cost: RunCost) -> int:
        async def of_host() -> int:
            host = ModelHost(ServedModel("m", "m.onnx"), RequestLimits(), workers)
            pipeline = pipeline_of(image_session(info("raw", batch=None), by_brightness), info("raw", batch=None))
            detector = Detector.over(pipeline)
            host.take(Loaded(detector, Handover(detector, workers.held), cost))
            found = host.admission.room
            host.close()
            return found

        return asyncio.run(of_host())

    workers = Workers()
    flat = RunCost()
    for images in (1, 4, 16):
        flat.add(images, 0.01 * images)
    assert room(paying_cost()) >= 4 * 2 * 16
    assert room(flat) < 4 * 2 * 16
    workers.close()
