"""The queue of the GPU's JPEG decoder, with an engine that answers at once, or when it is told to."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers import jpegs
from yoloship.detect.gpu import jpeg_queue
from yoloship.detect.gpu.jpeg_engine import MAX_FILES, JpegFile, jpeg_file
from yoloship.detect.gpu.jpeg_queue import JpegQueue, QueuedJpeg
from yoloship.errors import CudaError, ImageError, SessionError
from yoloship.images import open_image, read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SOUND = jpegs.encoded(jpegs.picture(64, 96))
CUT = jpegs.damaged()["cut"]


def file_of(data: bytes) -> JpegFile:
    found = jpeg_file(open_image(data))
    assert found is not None
    return found


class Memory:
    """Has room for so many images."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.used = 0
        self.closed = False
        self.back = threading.Event()
        self.idle_bytes = 0
        self.freed = threading.Event()

    def free_idle(self) -> None:
        self.idle_bytes = 0
        self.freed.set()

    def take(self, sizes_bytes: Sequence[int], *, urgent: bool = False) -> list[object]:
        assert set(sizes_bytes) <= {3 * 64 * 96, 3 * 120 * 160}
        room = 0 if self.closed else (2 if urgent else 1) * self.room - self.used
        count = max(0, min(room, len(sizes_bytes)))
        self.used += count
        return [object() for _ in range(count)]

    @property
    def used_blocks(self) -> int:
        return self.used

    def give(self, block: object) -> None:
        assert block is not None
        self.used -= 1
        self.back.set()

    def wait(self) -> bool:
        if self.closed or not self.used:
            return False
        assert self.back.wait()
        self.back.clear()
        return not self.closed

    def close(self) -> None:
        self.closed = True
        self.back.set()


class Engine:
    """Decodes sound files; holds batches while `may_decode` is cleared."""

    def __init__(self, room: int = 1000) -> None:
        self.memory = Memory(room)
        self.has_given_up = False
        self.batches: list[int] = []
        self.may_decode = threading.Event()
        self.may_decode.set()
        self.failure: Exception | None = None
        self.closed = False

    def decode(self, files: Sequence[JpegFile], blocks: Sequence[object]) -> list[Any]:
        self.batches.append(len(files))
        assert self.may_decode.wait()
        if self.failure is not None:
            for block in blocks:
                self.memory.give(block)
            raise self.failure
        images: list[Any] = []
        for file, block in zip(files, blocks, strict=True):
            if file.file.data == SOUND:
                images.append(("on the GPU", block))
            else:
                self.memory.give(block)
                images.append(None)
        return images

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def queue(engine: Engine) -> Iterator[JpegQueue]:
    queue_of: Any = JpegQueue
    with queue_of(engine, "model.onnx") as opened:
        yield opened
    assert engine.closed


def later(queue: JpegQueue, data: bytes = SOUND, **how: Any) -> Future[Any]:
    future: Future[Any] = Future()
    queue.put_all([(QueuedJpeg(file_of(data), queue), future)], answered, **how)
    return future


def one_that_nobody_wants(queue: JpegQueue, engine: Engine) -> tuple[Future[Any], Future[Any]]:
    """A file that waits in the engine, which is to go on, and one behind it that is cancelled."""
    engine.may_decode.clear()
    first = later(queue)
    while not engine.batches:
        threading.Event().wait(0.01)
    unwanted = later(queue)
    assert unwanted.cancel()
    return first, unwanted


def answered(found: Sequence[tuple[Future[Any], Any]]) -> None:
    together.append(len(found))
    for future, one in found:
        future.set_result(one)


class OfStream(Future[Any]):
    is_of_stream = True


together: list[int] = []
"""How many files were handed on at a time."""


def is_on_gpu(found: Any) -> bool:
    return isinstance(found, tuple) and found[0] == "on the GPU"


def test_what_waits_is_decoded_together_and_a_single_file_at_once(queue: JpegQueue, engine: Engine) -> None:
    assert is_on_gpu(later(queue).result())
    engine.may_decode.clear()
    futures = [later(queue)]
    while len(engine.batches) < 2:
        threading.Event().wait(0.01)
    futures += [later(queue) for _ in range(MAX_FILES + 8)]
    together.clear()
    engine.may_decode.set()
    assert all(is_on_gpu(future.result()) for future in futures)
    assert engine.batches == [1, 1, MAX_FILES, 8]
    assert together == [1, MAX_FILES, 8]


def test_a_batch_waits_for_more_files_only_while_enough_images_are_on_their_way(
    queue: JpegQueue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_queue, "_PATIENCE_S", 1000)
    futures = [later(queue) for _ in range(jpeg_queue._BUSY)]
    assert all(is_on_gpu(future.result()) for future in futures)
    engine.batches.clear()
    files = [QueuedJpeg(file_of(SOUND), queue) for _ in range(MAX_FILES)]
    ends: list[Future[Any]] = [Future() for _ in files]
    for part in (slice(0, 8), slice(8, 20), slice(20, MAX_FILES)):
        queue.put_all(list(zip(files[part], ends[part], strict=True)), answered)
    assert all(is_on_gpu(future.result()) for future in ends)
    assert engine.batches == [MAX_FILES]
    for future in futures:
        engine.memory.give(future.result()[1])
    assert is_on_gpu(later(queue).result())


@pytest.mark.parametrize("gpus", [1, 2])
def test_with_several_gpus_files_of_a_stream_wait_for_more_even_if_the_network_is_not_busy(
    gpus: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_queue, "_PATIENCE_S", 1000)
    monkeypatch.setattr(jpeg_queue, "_QUIET_S", 1000)
    queue_of: Any = JpegQueue
    with queue_of(engine, "model.onnx", gpus) as queue:
        files = [QueuedJpeg(file_of(SOUND), queue) for _ in range(MAX_FILES)]
        ends: list[Future[Any]] = [OfStream() for _ in files]
        for part in (slice(0, 4), slice(4, 5), slice(5, 20), slice(20, MAX_FILES)):
            queue.put_all(list(zip(files[part], ends[part], strict=True)), answered)
            if gpus == 1:
                assert is_on_gpu(ends[part][-1].result())
            else:
                threading.Event().wait(0.01)
        assert all(is_on_gpu(future.result()) for future in ends)
    assert engine.batches == ([MAX_FILES] if gpus > 1 else [4, 1, 15, 12])


def test_no_batch_begins_while_many_images_are_not_done_with(queue: JpegQueue, engine: Engine) -> None:
    futures = [later(queue) for _ in range(jpeg_queue._MOST + 1)]
    for future in futures[:-1]:
        assert is_on_gpu(future.result())
    assert engine.memory.used == jpeg_queue._MOST
    assert not futures[-1].done()
    engine.memory.give(futures[0].result()[1])
    assert is_on_gpu(futures[-1].result())


def test_memory_is_freed_if_no_file_comes_for_a_while(
    queue: JpegQueue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_queue, "_IDLE_S", 0.01)
    engine.memory.idle_bytes = 100
    assert is_on_gpu(later(queue).result())
    assert engine.memory.freed.wait()
    assert is_on_gpu(later(queue).result())


def test_an_error_of_freeing_memory_ends_nothing(
    queue: JpegQueue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_queue, "_IDLE_S", 0.01)
    tried = threading.Event()

    def lost() -> None:
        engine.memory.idle_bytes = 0
        tried.set()
        raise CudaError("the context is lost", code=700)

    monkeypatch.setattr(engine.memory, "free_idle", lost)
    engine.memory.idle_bytes = 100
    assert is_on_gpu(later(queue).result())
    assert tried.wait()
    assert is_on_gpu(later(queue).result())


def test_files_of_several_callers_are_decoded_together_and_handed_to_each(queue: JpegQueue, engine: Engine) -> None:
    engine.may_decode.clear()
    begun = later(queue)
    while not engine.batches:
        threading.Event().wait(0.01)
    found: dict[str, list[Any]] = {"a": [], "b": []}
    both = threading.Semaphore(0)
    for name in "abab":

        def then(one: Sequence[tuple[Any, Any]], name: str = name) -> None:
            found[name].extend(answer for answer, _ in one)
            both.release(len(one))

        waiting: list[Any] = [Future(), Future()]
        queue.put_all([(QueuedJpeg(file_of(SOUND), queue), future) for future in waiting], then)
        found[name + " expected"] = found.get(name + " expected", []) + waiting
    engine.may_decode.set()
    for _ in range(8):
        both.acquire()
    assert is_on_gpu(begun.result())
    assert found["a"] == found["a expected"]
    assert found["b"] == found["b expected"]
    assert engine.batches == [1, 8]


def test_a_file_that_is_not_sound_is_judged_by_the_host(queue: JpegQueue) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(CUT)
    found = later(queue, CUT).result()
    assert isinstance(found, ImageError)
    assert str(found) == str(caught.value)
    (again,) = queue.decode([file_of(CUT)])
    assert str(again) == str(caught.value)


def test_an_error_of_the_hosts_reader_that_is_not_ours_reaches_whoever_waits(
    queue: JpegQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = MemoryError("on purpose")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(jpeg_queue, "read_image", fail)
    assert later(queue, CUT).result() is failure
    assert queue.decode([file_of(CUT)]) == [failure]


def test_files_for_the_host_are_read_also_while_the_process_ends_and_no_pool_takes_work(
    queue: JpegQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("concurrent.futures.thread._shutdown", True)  # as the end of the main thread sets it
    assert isinstance(later(queue, CUT).result(), ImageError)
    assert is_on_gpu(later(queue).result())


def test_files_for_the_host_are_read_once_each_if_no_thread_can_be_started(
    queue: JpegQueue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    engine.has_given_up = True
    monkeypatch.setattr(jpeg_queue, "usable_cores", lambda: 2)
    assert isinstance(later(queue, CUT).result(), ImageError)  # by the first of two threads
    monkeypatch.setattr(threading.Thread, "start", start)
    together.clear()
    for future in [later(queue, CUT) for _ in range(8)]:
        assert isinstance(future.result(), ImageError)
    queue.close()
    assert together == [1] * 8


def test_waiting_for_a_file_gives_its_image_or_raises_its_error(queue: JpegQueue) -> None:
    assert is_on_gpu(QueuedJpeg(file_of(SOUND), queue).decode_soon())
    with pytest.raises(ImageError, match="JPEG is damaged"):
        QueuedJpeg(file_of(CUT), queue).decode_soon()


def test_files_wait_while_memory_is_in_use_and_keep_their_order(queue: JpegQueue, engine: Engine) -> None:
    engine.memory.room = 3
    futures = [later(queue) for _ in range(10)]
    done: list[int] = []
    for number, future in enumerate(futures):
        found = future.result()
        done.append(number)
        engine.memory.give(found[1])
    assert done == list(range(10))
    assert max(engine.batches) <= 3
    assert engine.memory.used == 0


def test_without_any_memory_the_host_decodes(queue: JpegQueue, engine: Engine) -> None:
    engine.memory.room = 0
    for found in (later(queue).result(), queue.decode([file_of(SOUND)])[0]):
        np.testing.assert_array_equal(found, read_image(SOUND))
    assert engine.batches == []


def test_a_batch_that_fills_the_device_is_decoded_by_the_host(queue: JpegQueue, engine: Engine) -> None:
    engine.failure = CudaError("out of memory", code=2, name="CUDA_ERROR_OUT_OF_MEMORY")
    for found in (later(queue).result(), *queue.decode([file_of(SOUND)] * 2)):
        np.testing.assert_array_equal(found, read_image(SOUND))


def test_a_device_that_fails_fails_the_files_of_that_batch_only(queue: JpegQueue, engine: Engine) -> None:
    engine.failure = CudaError("launch failed", code=719, name="CUDA_ERROR_LAUNCH_FAILED")
    assert later(queue).result() is engine.failure
    with pytest.raises(CudaError, match="launch failed"):
        queue.decode([file_of(SOUND)])
    engine.failure = None
    assert is_on_gpu(later(queue).result())


def test_an_engine_that_has_given_up_is_not_asked(queue: JpegQueue, engine: Engine) -> None:
    engine.has_given_up = True
    for found in (later(queue).result(), queue.decode([file_of(SOUND)])[0]):
        np.testing.assert_array_equal(found, read_image(SOUND))
    assert engine.batches == []


def test_what_nobody_wants_any_more_is_not_decoded(queue: JpegQueue, engine: Engine) -> None:
    first, _ = one_that_nobody_wants(queue, engine)
    last = later(queue)
    engine.may_decode.set()
    assert is_on_gpu(first.result())
    assert is_on_gpu(last.result())
    assert sum(engine.batches) == 2


def test_what_nobody_wants_any_more_is_not_kept_until_the_next_file_comes(queue: JpegQueue, engine: Engine) -> None:
    first, unwanted = one_that_nobody_wants(queue, engine)
    kept = weakref.ref(unwanted)
    del unwanted
    engine.may_decode.set()
    assert is_on_gpu(first.result())
    while kept() is not None:  # its callback would keep the detector, whose threads would never end
        threading.Event().wait(0.01)


def test_more_files_than_may_wait_block_their_caller_but_not_the_queues_own_thread(
    queue: JpegQueue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_queue, "_WAITING", 1)
    engine.may_decode.clear()
    first = later(queue)
    while not engine.batches:
        threading.Event().wait(0.01)
    second = later(queue)
    blocked = threading.Thread(target=later, args=(queue,))
    blocked.start()
    blocked.join(0.1)
    assert blocked.is_alive()
    without_waiting = later(queue, may_wait=False)
    engine.may_decode.set()
    blocked.join()
    assert not blocked.is_alive()
    assert all(is_on_gpu(future.result()) for future in (first, second, without_waiting))
    from_inside: Future[Any] = Future()

    def again(_: object) -> None:
        for _ in range(3):
            last = later(queue)
        last.add_done_callback(lambda future: from_inside.set_result(future.result()))

    queue.put_all([(QueuedJpeg(file_of(SOUND), queue), Future())], again)
    assert is_on_gpu(from_inside.result())


def test_closing_finishes_the_batch_in_progress_and_fails_the_rest(queue: JpegQueue, engine: Engine) -> None:
    engine.may_decode.clear()
    begun = later(queue)
    while not engine.batches:
        threading.Event().wait(0.01)
    waiting = [later(queue) for _ in range(3)]
    closing = threading.Thread(target=queue.close)
    closing.start()
    engine.may_decode.set()
    closing.join()
    assert not closing.is_alive()
    assert is_on_gpu(begun.result())
    for future in waiting:
        assert str(future.result()) == "model.onnx: the detector is closed"
    calls: list[Callable[[], Any]] = [lambda: later(queue), lambda: queue.decode([file_of(SOUND)])]
    for call in calls:
        with pytest.raises(SessionError, match="the detector is closed"):
            call()
    queue.close()


def test_closing_ends_the_wait_for_memory(queue: JpegQueue, engine: Engine) -> None:
    engine.memory.room = 1
    first, second = later(queue), later(queue)
    assert is_on_gpu(first.result())
    queue.close()
    assert str(second.result()) == "model.onnx: the detector is closed"


def test_an_abandoned_queue_decodes_what_waits_and_then_closes_the_engine(engine: Engine) -> None:
    queue_of: Any = JpegQueue
    queue = queue_of(engine, "model.onnx")
    engine.may_decode.clear()
    futures = [later(queue) for _ in range(5)]
    queue.abandon()
    engine.may_decode.set()
    assert all(is_on_gpu(future.result()) for future in futures)
    queue._thread.join()
    assert engine.closed
