from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from yoloship.detect.batching import Batcher, Gathering, RunFuture
from yoloship.detect.options import DetectOptions
from yoloship.detect.pipeline import PlacedImage
from yoloship.errors import SessionError
from yoloship.letterbox import Letterbox
from yoloship.results.detections import Detections

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

pytestmark = pytest.mark.timeout(60)  # of what hangs if it fails; nothing here depends on how fast it goes

OPTIONS = DetectOptions()


def frame(number: int, side: int = 64) -> PlacedImage:
    return PlacedImage(number, Letterbox.fixed((number + 1, 10), (side, side)))


class Gate:
    """Runs batches, the first only when it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.begun = threading.Event()

    def __call__(self, frames: Sequence[PlacedImage], options: DetectOptions) -> list[Detections]:
        self.batches.append([one.pixels for one in frames])
        self.begun.set()
        self.open.wait()
        if any(one.pixels == 99 for one in frames):
            raise SessionError("on purpose")
        return [Detections.empty(one.letterbox.image_hw) for one in frames]


def test_closing_gives_back_the_room_of_all_who_waited_and_refusing_takes_none() -> None:
    """Without that, a second thread that hands an image over would wait for ever instead of being refused."""
    batcher = Batcher(Gate(), threads=0, sizes=(1,), waiting=1, model_name="m")
    left = batcher.submit(frame(0), OPTIONS)
    batcher.close()
    with pytest.raises(SessionError, match="m: the detector is closed"):
        left.result()
    for _ in range(2):
        with pytest.raises(SessionError, match="m: the detector is closed"):
            batcher.submit(frame(0), OPTIONS)


def test_what_waits_together_runs_together_and_each_gets_its_own() -> None:
    gate = Gate()
    batcher = Batcher(gate, threads=1, sizes=(1, 2, 4), waiting=100, model_name="m")
    futures = [batcher.submit(frame(0), OPTIONS)]
    gate.begun.wait()
    futures += [batcher.submit(frame(number), OPTIONS) for number in range(1, 8)]
    gate.open.set()
    assert [future.result().image_hw[0] for future in futures] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6], [7]]
    batcher.close()


def test_other_canvases_and_options_are_other_batches() -> None:
    gate = Gate()
    batcher = Batcher(gate, threads=1, sizes=(1, 2, 4, 8), waiting=100, model_name="m")
    futures = [batcher.submit(frame(0), OPTIONS)]
    gate.begun.wait()
    futures += [batcher.submit(frame(1), OPTIONS), batcher.submit(frame(2), OPTIONS)]
    futures += [batcher.submit(frame(3, 32), OPTIONS), batcher.submit(frame(4, 32), DetectOptions(0.5))]
    gate.open.set()
    for future in futures:
        future.result()
    assert gate.batches == [[0], [1, 2], [3], [4]]
    batcher.close()


def test_a_failure_reaches_those_of_its_batch_and_no_others() -> None:
    gate = Gate()
    batcher = Batcher(gate, threads=1, sizes=(1, 2), waiting=100, model_name="m")
    first = batcher.submit(frame(0), OPTIONS)
    gate.begun.wait()
    failing = [batcher.submit(frame(number), OPTIONS) for number in (1, 99)]
    after = batcher.submit(frame(2), OPTIONS)
    gate.open.set()
    first.result()
    for future in failing:
        with pytest.raises(SessionError, match="on purpose"):
            future.result()
    after.result()
    batcher.close()


def test_a_cancelled_image_is_not_run() -> None:
    gate = Gate()
    batcher = Batcher(gate, threads=1, sizes=(1, 2, 4), waiting=100, model_name="m")
    first = batcher.submit(frame(0), OPTIONS)
    gate.begun.wait()
    second, third = (batcher.submit(frame(number), OPTIONS) for number in (1, 2))
    assert second.cancel()
    gate.open.set()
    first.result()
    third.result()
    assert gate.batches == [[0], [2]]
    batcher.close()


def test_cancelled_images_leave_the_device_to_those_that_come_later() -> None:
    """A run of none but cancelled images is over at once: it must not count as one in progress for ever."""
    gate = Gate()
    how = Gathering(lambda waiting, _hw, _options: 1, busy=1)
    batcher = Batcher(gate, threads=2, sizes=(1, 2), waiting=100, model_name="m", gathering=how)
    first = batcher.submit(frame(0), OPTIONS)
    gate.begun.wait()
    for number in (1, 2, 3):
        assert batcher.submit(frame(number), OPTIONS).cancel()
    gate.open.set()
    first.result()
    batcher.submit(frame(4), OPTIONS).result()
    assert gate.batches == [[0], [4]]
    assert batcher._running == 0
    batcher.close()


def test_too_many_wait_outside_and_closing_lets_them_go() -> None:
    gate = Gate()
    batcher = Batcher(gate, threads=1, sizes=(1,), waiting=2, model_name="m")
    first = batcher.submit(frame(0), OPTIONS)
    gate.begun.wait()
    waiting = [batcher.submit(frame(number), OPTIONS) for number in (1, 2)]
    said: list[str] = []

    def late() -> None:
        try:
            batcher.submit(frame(3), OPTIONS)
        except SessionError as error:
            said.append(str(error))

    thread = threading.Thread(target=late)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    closing = threading.Thread(target=batcher.close)
    closing.start()
    thread.join()
    assert said == ["m: the detector is closed"]
    gate.open.set()
    closing.join()
    assert first.result() is not None
    for future in waiting:
        with pytest.raises(SessionError, match="the detector is closed"):
            future.result()
    with pytest.raises(SessionError, match="the detector is closed"):
        batcher.submit(frame(4), OPTIONS)


def test_a_callback_may_hand_over_more_than_there_is_room_for() -> None:
    """The thread that runs it is the one that makes room: it would wait for itself for ever."""
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate, threads=1, sizes=(1,), waiting=2, model_name="m")
    more: list[Future[Detections]] = []
    done = threading.Event()

    def hand_over(_: object) -> None:
        more.extend(batcher.submit(frame(number), OPTIONS) for number in range(5))
        done.set()

    batcher.submit(frame(0), OPTIONS).add_done_callback(hand_over)
    assert done.wait()
    assert [future.result().image_hw[0] for future in more] == [1, 2, 3, 4, 5]
    batcher.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_one_that_is_abandoned_runs_what_waits_and_ends_its_threads(threads: int) -> None:
    gate = Gate()
    batcher = Batcher(gate, threads=threads, sizes=(1,), waiting=100, model_name="m")
    futures = [batcher.submit(frame(number), OPTIONS) for number in range(10)]
    batcher.abandon()
    gate.open.set()
    assert [future.result().image_hw[0] for future in futures] == list(range(1, 11))
    for thread in batcher._threads:
        thread.join()
        assert not thread.is_alive()


def test_beside_as_many_runs_as_keep_the_device_busy_only_full_ones_begin() -> None:
    gate, order = Gate(), list[int]()

    def count(waiting: int, _input_hw: tuple[int, int], _options: DetectOptions) -> int:
        order.append(waiting)
        return waiting

    how = Gathering(count, busy=1)
    batcher = Batcher(gate, threads=3, sizes=(1, 2, 4), waiting=100, model_name="m", gathering=how)
    futures = [batcher.submit(frame(0), OPTIONS)]
    gate.begun.wait()
    gate.begun.clear()
    futures += [batcher.submit(frame(number), OPTIONS) for number in (1, 2, 3)]
    assert not gate.begun.wait(0.05)  # they are not four
    futures += [batcher.submit(frame(number), OPTIONS) for number in (4, 5)]
    assert gate.begun.wait()
    gate.open.set()
    for future in futures:
        future.result()
    batcher.close()
    assert gate.batches == [[0], [1, 2, 3, 4], [5]]
    assert order == [1, 4, 1]


def test_threads_are_woken_for_each_run_and_not_for_each_image() -> None:
    gate = Gate()
    how = Gathering(lambda waiting, *_: waiting, busy=1)
    batcher = Batcher(gate, threads=3, sizes=(1, 32), waiting=100, model_name="m", gathering=how)
    calls: list[None] = []
    queue = batcher._calls

    def put(call: None) -> None:
        calls.append(call)
        queue.put(call)

    batcher._calls = SimpleNamespace(put=put, get=queue.get)  # type: ignore[assignment]
    futures = [batcher.submit(frame(0), OPTIONS)]
    gate.begun.wait()
    before = len(calls)
    futures += [batcher.submit(frame(number), OPTIONS) for number in range(1, 31)]
    assert len(calls) == before == 1
    gate.open.set()
    for future in futures:
        future.result()
    assert [len(batch) for batch in gate.batches] == [1, 30]
    batcher.close()


def test_a_batch_of_which_all_are_cancelled_keeps_nothing_busy() -> None:
    gate = Gate()
    how = Gathering(lambda waiting, *_: waiting, busy=1)
    batcher = Batcher(gate, threads=2, sizes=(1, 8), waiting=100, model_name="m", gathering=how)
    first = batcher.submit(frame(0), OPTIONS)
    gate.begun.wait()
    left = [batcher.submit(frame(number), OPTIONS) for number in (1, 2)]
    assert all(future.cancel() for future in left)
    gate.open.set()
    first.result()
    assert batcher.submit(frame(3), OPTIONS).result() is not None
    assert batcher.submit(frame(4), OPTIONS).result() is not None
    batcher.close()
    assert batcher._running == 0


class Held(PlacedImage):
    """An image that counts how often it is released."""

    def release(self) -> None:
        released.append(self.pixels)


released: list[int] = []


def held(number: int) -> Held:
    return Held(number, Letterbox.fixed((number + 1, 10), (64, 64)))


def test_images_that_came_together_are_queued_together_and_each_is_released_before_its_answer() -> None:
    released.clear()
    gate = Gate()
    batcher = Batcher(gate, threads=1, sizes=(1, 4), waiting=1, model_name="m")
    first = batcher.submit(held(0), OPTIONS)
    gate.begun.wait()
    futures = [RunFuture() for _ in range(5)]
    batcher.submit_all([held(number) for number in (1, 2, 3, 99, 5)], OPTIONS, futures)  # there is room for one
    assert futures[4].cancel()
    seen = list[int]()
    futures[0].add_done_callback(lambda _: seen.extend(released))
    gate.open.set()
    assert first.result().image_hw[0] == 1
    for future in futures[:4]:
        with pytest.raises(SessionError, match="on purpose"):
            future.result()
    batcher.close()
    assert gate.batches == [[0], [1, 2, 3, 99]]
    assert seen == [0, 1]
    assert sorted(released) == [0, 1, 2, 3, 5, 99]


def test_a_closed_batcher_takes_none_of_several_and_releases_what_waited() -> None:
    released.clear()
    batcher = Batcher(Gate(), threads=0, sizes=(1,), waiting=9, model_name="m")
    futures = [RunFuture(), RunFuture()]
    batcher.submit_all([held(1), held(2)], OPTIONS, futures)
    batcher.close()
    assert released == [1, 2]
    for future in futures:
        with pytest.raises(SessionError, match="m: the detector is closed"):
            future.result()
    with pytest.raises(SessionError, match="m: the detector is closed"):
        batcher.submit_all([held(3)], OPTIONS, [RunFuture()])
    assert released == [1, 2]  # who could not hand it over releases it
