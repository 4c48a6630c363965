"""One model: deadlines, clients that leave, and detectors that are closed only when nobody uses them."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.serving import PHOTO, cat_model
from yoloship.errors import CudaError, ImageError
from yoloship.serve.engine import Loaded, ModelHost, Workers
from yoloship.serve.errors import LateError, NotReadyError
from yoloship.serve.reloading import load_warm
from yoloship.serve.settings import RequestLimits, ServedModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    return ServedModel("cat", str(cat_model(tmp_path)))


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()


def with_host(model: ServedModel, workers: Workers, work: Callable[[ModelHost], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        host = ModelHost(model, RequestLimits(), workers)
        host.take(load_warm(model, workers.held))
        try:
            return await work(host)
        finally:
            host.close()

    return asyncio.run(run())


def soon(seconds: float = 60) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_many_images_at_once_get_their_own_answers(model: ServedModel, workers: Workers) -> None:
    async def work(host: ModelHost) -> None:
        answers = await asyncio.gather(*(host.infer(PHOTO, None, soon(), keep_image=True) for _ in range(20)))
        assert all(answer.result.counts() == {"cat": 1} for answer in answers)
        assert all(answer.image is not None and not answer.image.flags.writeable for answer in answers)
        times = answers[0].times
        assert times.total_s >= times.network_s > 0
        assert times.batch == 1
        assert host.loaded.users == 0

    with_host(model, workers, work)
    assert workers.held.budget.held_bytes == 0


def test_an_image_that_nobody_draws_on_is_not_kept_and_its_decoding_is_timed(
    model: ServedModel, workers: Workers
) -> None:
    async def work(host: ModelHost) -> None:
        answer = await host.infer(PHOTO, None, soon())
        assert answer.image is None
        assert 0 < answer.times.decode_s < answer.times.total_s

    with_host(model, workers, work)
    assert workers.held.budget.held_bytes == 0


def test_the_time_of_an_image_that_others_decode_ends_when_they_have_done_so(
    model: ServedModel, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(host: ModelHost) -> None:
        detector = host.loaded.detector
        usual = detector.submit_opened

        def decoded_late(images: Any, options: Any) -> None:
            for _, answer in images:
                answer.decoded_s = time.perf_counter() + 100
            usual(images, options)

        monkeypatch.setattr(detector, "submit_opened", decoded_late)
        answer = await host.infer(PHOTO, None, soon())
        assert 100 <= answer.times.decode_s < 1000
        assert answer.times.queue_s == 0

    with_host(model, workers, work)


def test_an_answered_image_leaves_nothing_to_the_garbage_collector(model: ServedModel, workers: Workers) -> None:
    async def work(host: ModelHost) -> None:
        await host.infer(PHOTO, None, soon())
        gc.collect()
        gc.disable()
        try:
            await host.infer(PHOTO, None, soon(), keep_image=True)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            assert [one for one in gc.garbage if isinstance(one, (Future, np.ndarray))] == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    with_host(model, workers, work)


def test_a_deadline_that_passed_costs_nothing(model: ServedModel, workers: Workers) -> None:
    async def work(host: ModelHost) -> None:
        with pytest.raises(LateError, match="cat: the deadline passed"):
            await host.infer(PHOTO, None, soon(-1))
        assert host.loaded.users == 0

    with_host(model, workers, work)


def test_an_image_that_cannot_be_read_gives_its_place_back(model: ServedModel, workers: Workers) -> None:
    async def work(host: ModelHost) -> None:
        for _ in range(50):
            with pytest.raises(ImageError):
                await host.infer(b"garbage", None, soon())
        assert (await host.infer(PHOTO, None, soon())).result.counts() == {"cat": 1}

    with_host(model, workers, work)
    assert workers.held.budget.held_bytes == 0


def test_requests_that_are_dropped_leave_nothing_behind(model: ServedModel, workers: Workers) -> None:
    async def work(host: ModelHost) -> None:
        tasks = [asyncio.ensure_future(host.infer(PHOTO, None, soon())) for _ in range(50)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert host.loaded.users == 0
        assert (await host.infer(PHOTO, None, soon())).result.counts() == {"cat": 1}

    with_host(model, workers, work)


def test_a_model_whose_runs_all_fail_is_not_ready_until_one_succeeds(
    model: ServedModel, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(host: ModelHost) -> None:
        detector = host.loaded.detector

        def fail(*_: object, **__: object) -> None:
            raise CudaError("the device is lost", code=46)

        with monkeypatch.context() as broken:
            broken.setattr(detector, "submit_opened", fail)
            for _ in range(3):
                assert host.is_ready
                with pytest.raises(CudaError, match="the device is lost"):
                    await host.infer(PHOTO, None, soon())
        assert not host.is_ready
        assert host.is_loaded
        await host.infer(PHOTO, None, soon())
        assert host.is_ready

    with_host(model, workers, work)


def test_before_it_is_loaded_a_model_says_so(model: ServedModel, workers: Workers) -> None:
    async def work() -> None:
        host = ModelHost(model, RequestLimits(), workers)
        assert not host.is_ready
        with pytest.raises(NotReadyError, match="cat: is still being loaded"):
            _ = host.loaded

    asyncio.run(work())


def test_a_detector_is_closed_when_its_last_user_is_gone(model: ServedModel) -> None:
    class Fake:
        closed = threading.Event()

        def close(self) -> None:
            self.closed.set()

    loaded = Loaded(Fake(), Fake(), None)  # type: ignore[arg-type]  # only closed here
    loaded.users = 2
    loaded.retire()
    loaded.release()
    assert not Fake.closed.is_set()
    loaded.release()
    assert Fake.closed.wait()
