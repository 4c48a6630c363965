"""Tensors through the network of a model: checked, run, and run together where the device runs batches."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import yoloship
from helpers.models import image_session, info
from helpers.serving import cat_model, loaded_of, segment_model
from yoloship.detect.cpu import MAX_BATCH, CpuPipeline
from yoloship.detect.detector import Detector
from yoloship.detect.pipeline import ModelInput
from yoloship.errors import InputError, SessionError
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.serve.kserve_network import Network


async def network_of(detector: Detector[Any]) -> Network:
    return Network.of(loaded_of(detector))


def test_a_network_is_made_once(tmp_path: Path) -> None:
    with yoloship.load(cat_model(tmp_path)) as detector:

        async def twice() -> bool:
            loaded = loaded_of(detector)
            return Network.of(loaded) is Network.of(loaded)

        assert asyncio.run(twice())


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("images", np.zeros((1, 3, 64, 64), np.uint8), "images: wrong element type: expected float32, got uint8"),
        ("image", np.zeros((1, 3, 64, 64), np.float32), "not the model's inputs: expected images, got image"),
        ("images", np.zeros((3, 64, 64), np.float32), "images: wrong shape: expected .* got"),
        ("images", np.zeros((1, 4, 64, 64), np.float32), "images: wrong shape"),
        ("images", np.zeros((1, 3, 32, 64), np.float32), "images: wrong shape"),
        (
            "images",
            np.zeros((0, 3, 64, 64), np.float32),
            f"images: wrong number of images: expected 1 to {MAX_BATCH}, got 0",
        ),
        ("images", np.zeros((MAX_BATCH + 1, 3, 64, 64), np.float32), f"wrong number of images: .* got {MAX_BATCH + 1}"),
    ],
)
def test_tensors_that_the_network_does_not_take_are_refused(
    tmp_path: Path, name: str, array: np.ndarray[Any, Any], words: str
) -> None:
    with yoloship.load(segment_model(tmp_path)) as detector:
        network = asyncio.run(network_of(detector))
        with pytest.raises(InputError, match=words):
            network.check({name: array})


def pipeline_of(session: Any, record: Any, *, device: str = "cpu") -> CpuPipeline:
    return CpuPipeline(session, ModelInput.checked(record, (64, 96), "square", "m"), parallel_runs=1, device=device)


@pytest.mark.parametrize(
    ("hw", "words"),
    [((32, 64), None), ((96, 64), None), ((60, 64), "multiples of 32"), ((0, 64), "got 0×64"), ((96, 96), "64×96")],
)
def test_open_sizes_are_multiples_of_the_stride_and_no_larger_than_the_canvas(
    hw: tuple[int, int], words: str | None
) -> None:
    record = info("raw", batch=None, input_hw=(None, None))
    with Detector.over(pipeline_of(image_session(record, []), record)) as detector:
        network = asyncio.run(network_of(detector))
        feeds = {"images": np.zeros((2, *hw, 3), np.uint8)}
        if words is None:
            assert network.check(feeds) == 2
        else:
            with pytest.raises(InputError, match=words):
                network.check(feeds)


def test_the_numbers_are_those_of_the_session(tmp_path: Path) -> None:
    path = segment_model(tmp_path)
    images = np.random.default_rng(1).random((3, 3, 64, 64)).astype(np.float32)
    with yoloship.load(path, tuned_for="throughput") as detector:

        async def run() -> Any:
            network = await network_of(detector)
            return await network.run({"images": images}, 3), network.counts

        ran, counts = asyncio.run(run())
        want = detector.session.run({"images": images})  # type: ignore[union-attr]  # on a CPU it runs on arrays
    for found, expected in zip(ran.outputs, want, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (counts.images, counts.answered, list(counts.runs)) == (3, 1, [3])
    with OnnxRuntimeSession.open(path) as session:
        assert len(session.run({"images": images})) == len(ran.outputs)


class Held:
    """A scripted network of an open batch on a "GPU", whose runs wait until they are let go."""

    def __init__(self, *, fails: bool = False) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        self._fails = fails
        record = info("raw", batch=None)
        self.detector: Detector[Any] = Detector.over(
            pipeline_of(image_session(record, self._run), record, device="cuda:0")
        )
        object.__setattr__(
            self.detector.session,
            "outputs",
            tuple(
                type(one)(one.name, one.dtype, ("batch", "rows", "columns")) for one in self.detector.session.outputs
            ),
        )

    def _run(self, feeds: Any) -> list[Any]:
        self.begun.set()
        self.go.wait()
        self.sizes.append(len(feeds["images"]))
        if self._fails:
            raise RuntimeError("no more memory")
        return [feeds["images"][:, :1, :, 0].astype(np.float32)]


def images_of(value: int, count: int = 1) -> dict[str, Any]:
    return {"images": np.full((count, 64, 96, 3), value, np.uint8)}


def test_requests_that_wait_run_as_one_batch_and_each_gets_its_own_rows() -> None:
    held = Held()

    async def run() -> list[Any]:
        network = await network_of(held.detector)
        first = asyncio.ensure_future(network.run(images_of(1), 1))
        await asyncio.to_thread(held.begun.wait)
        others = [
            asyncio.ensure_future(network.run(images_of(value, count), count)) for value, count in ((2, 1), (3, 2))
        ]
        left = asyncio.ensure_future(network.run(images_of(9), 1))
        await asyncio.sleep(0.01)
        left.cancel()
        await asyncio.sleep(0)
        held.go.set()
        return [await one for one in (first, *others)]

    answers = asyncio.run(run())
    held.detector.close()
    assert held.sizes == [1, 3]  # the one whose client left never ran
    assert [np.unique(one.outputs[0]).tolist() for one in answers] == [[1], [2], [3]]
    assert [len(one.outputs[0]) for one in answers] == [1, 1, 2]
    assert [one.images for one in answers] == [1, 3, 3]


def test_a_run_that_fails_fails_its_requests_and_not_the_next() -> None:
    held = Held(fails=True)
    held.go.set()

    async def run() -> Network:
        network = await network_of(held.detector)
        for _ in range(2):
            with pytest.raises(SessionError, match="the run failed: RuntimeError: no more memory"):
                await network.run(images_of(1), 1)
        return network

    assert asyncio.run(run()).counts.failed == 2
    held.detector.close()


def test_a_model_is_not_closed_while_a_run_uses_it() -> None:
    held = Held()

    async def run() -> bool:
        loaded = loaded_of(held.detector)
        network = Network.of(loaded)
        first = asyncio.ensure_future(network.run(images_of(1), 1))
        await asyncio.to_thread(held.begun.wait)
        first.cancel()  # its client left; the run goes on
        loaded.retire()
        before = loaded.users == 1
        held.go.set()
        while loaded.users:
            await asyncio.sleep(0.001)
        return before

    assert asyncio.run(run())
