"""A lone JPEG on a detector whose GPU decodes it: the network begins before the check of the file's data is over."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from helpers import jpegs
from helpers.canned_device import CannedSession
from helpers.damaged_jpegs import Jpegs
from helpers.device_detectors import closed_without_a_trace, some_heads
from helpers.models import info
from yoloship.cuda import jpeg_check
from yoloship.cuda.jpeg_check import JpegCheck, PendingCheck
from yoloship.cuda.nvjpeg import NvJpeg
from yoloship.detect.detector import Detector
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.gpu.transfer import CudaTuning
from yoloship.detect.pipeline import ModelInput
from yoloship.errors import CudaError, ImageError, InputError, SessionError, YoloshipError
from yoloship.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helpers.nvjpeg_standin import StandInNvJpeg
    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device

SOUND = jpegs.encoded(jpegs.picture(70, 90))
OTHER = jpegs.encoded(jpegs.picture(130, 110))
CUT = jpegs.damaged()["cut"]


class Rig:
    """A detector, and what happens in it.

    Attributes:
        detector: Its network cannot be recorded, so that its runs are seen.
        at_run: Called when the network is launched.
        events: ``run`` when the network is launched, and ``verdict`` when somebody asks for that.
    """

    def __init__(self, device: Device, kernels: KernelSet) -> None:
        self.at_run: Callable[[], None] = lambda: None
        self.events: list[str] = []
        session: Any = CannedSession(device, info(batch=None), some_heads, capturable=False, fails=self._run)
        model = ModelInput.checked(info(batch=None), None, "square", "model")
        pipeline = CudaPipeline(session, dict(kernels), model, tuning=CudaTuning(max_batch=8), decode="gpu")
        self.detector = Detector.over(pipeline)
        self.queue: Any = pipeline._jpegs.queue()

    def _run(self) -> None:
        self.events.append("run")
        self.at_run()

    def judged(self, data: bytes) -> tuple[Any, ...]:
        """What a call gives for a file: boxes, or an error."""
        return judged(self.detector, data)

    def check_whole(self) -> None:
        """Nothing is held or locked by an earlier call."""
        assert self.queue.engine.memory.used_blocks == 0
        self.at_run = lambda: None
        assert self.judged(SOUND) == self.judged_by_host(SOUND)
        assert self.judged(CUT) == self.judged_by_host(CUT)
        assert self.queue.engine.memory.used_blocks == 0

    def judged_by_host(self, data: bytes) -> tuple[Any, ...]:
        return judged(lambda file: self.detector(read_image(file)), data)


def judged(call: Callable[[bytes], Any], data: bytes) -> tuple[Any, ...]:
    try:
        found = call(data)
    except YoloshipError as error:
        return type(error), str(error)
    return plain(found)


def plain(found: Any) -> tuple[Any, ...]:
    return found.image_hw, found.boxes_xyxy.tolist(), found.scores.tolist()


@pytest.fixture
def rig(
    jpeg_engine: StandInNvJpeg | None, device: Device, kernels: KernelSet, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    del jpeg_engine
    verdicts = PendingCheck.verdicts

    def noted(check: PendingCheck) -> list[bool]:
        opened.events.append("verdict")
        return verdicts(check)

    with closed_without_a_trace(device) as made:
        opened = Rig(device, kernels)
        made.append(opened.detector)
        monkeypatch.setattr(PendingCheck, "verdicts", noted)
        opened.detector(SOUND)  # makes ready what the first run needs, which launches the network too
        opened.events.clear()
        yield opened
        memory = opened.queue.engine.memory  # which counts no more once it is closed
        assert memory.is_closed or memory.used_blocks == 0


def failure() -> CudaError:
    """A new one each time: its traceback holds what the call held."""
    return CudaError("illegal address", code=700, name="CUDA_ERROR_ILLEGAL_ADDRESS")


def failing(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


def test_the_network_runs_while_the_check_is_not_even_queued(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    is_running = threading.Event()
    queue = JpegCheck._queue

    def later(check: Any, *batch: Any) -> None:
        is_running.wait()  # for ever, if the network waited for the check
        queue(check, *batch)

    monkeypatch.setattr(JpegCheck, "_queue", later)
    monkeypatch.setattr(jpeg_check, "_ALONE_BYTES", 0)  # so that a thread queues it
    expected = [rig.judged_by_host(data) for data in (SOUND, CUT)]
    rig.at_run = is_running.set
    for data, wanted in zip((SOUND, CUT), expected, strict=True):
        is_running.clear()
        assert rig.judged(data) == wanted


def test_the_verdict_of_a_lone_file_is_asked_for_last_and_that_of_others_first(rig: Rig) -> None:
    detector = rig.detector
    detector(SOUND)
    assert rig.events == ["run", "verdict"]
    for call in (
        lambda: detector.detect_batch([SOUND, SOUND]),
        lambda: detector.submit(SOUND).result(),
        lambda: list(detector.stream([SOUND])),
        lambda: list(detector.stream([SOUND], keep_images=True)),
    ):
        rig.events.clear()
        call()
        assert rig.events[0] == "verdict"
        assert set(rig.events[1:]) == {"run"}


def test_a_damaged_file_was_in_the_network_and_gets_the_hosts_error(rig: Rig) -> None:
    with pytest.raises(ImageError) as caught:
        rig.detector(CUT)
    assert (type(caught.value), str(caught.value)) == rig.judged_by_host(CUT)
    assert rig.events == ["run", "verdict"]


def test_a_file_that_only_the_host_takes_runs_again_with_its_image(rig: Rig) -> None:
    padded = SOUND[:-2] + b"\xff\xff" + SOUND[-2:]  # fill bytes, which the check does not take
    found = rig.judged(padded)
    assert rig.events == ["run", "verdict", "run"]
    assert found == rig.judged_by_host(padded)


def test_files_with_every_fault_are_judged_as_by_the_host(rig: Rig) -> None:
    thrown_away = refused = 0
    for seed in range(4):
        made = Jpegs(seed)
        for name, data in made.damaged(made.sound()):
            expected = rig.judged_by_host(data)
            rig.events.clear()
            assert rig.judged(data) == expected, (seed, name)
            is_refused = len(expected) == 2
            refused += is_refused
            thrown_away += rig.events.count("run") > (not is_refused)
            assert rig.queue.engine.memory.used_blocks == 0
    assert refused > 20
    assert thrown_away > 20


def test_what_the_network_fails_with_counts_only_for_a_sound_file(rig: Rig) -> None:
    expected = rig.judged_by_host(CUT)
    for error in (SessionError("on purpose", subject="network"), failure(), InputError("wrong"), MemoryError()):
        rig.at_run = failing(error)
        with pytest.raises(type(error)) as caught:
            rig.detector(SOUND)
        assert caught.value is error
        assert rig.judged(CUT) == expected
        rig.check_whole()


@pytest.mark.parametrize("data", [SOUND, CUT])
@pytest.mark.parametrize(
    ("part", "name"), [(JpegCheck, "begin"), (JpegCheck, "_queue"), (PendingCheck, "verdicts"), (NvJpeg, "decode")]
)
@pytest.mark.parametrize("by_thread", [False, True])
def test_a_device_that_fails_at_any_step_fails_the_call(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, part: Any, name: str, data: bytes, by_thread: bool
) -> None:
    monkeypatch.setattr(jpeg_check, "_ALONE_BYTES", 0 if by_thread else 1 << 20)
    expected = rig.judged_by_host(data)
    error = failure()
    with monkeypatch.context() as patched:
        patched.setattr(part, name, failing(error))
        if part is NvJpeg:  # taken for a file that it refuses
            assert rig.judged(data) == expected
            patched.setattr(PendingCheck, "verdicts", failing(error))
        with pytest.raises(CudaError) as caught:
            rig.detector(data)
        assert caught.value is error
    rig.check_whole()


def test_what_the_engine_refuses_is_read_by_the_host(rig: Rig, jpeg_engine: StandInNvJpeg | None) -> None:
    if jpeg_engine is None:
        pytest.skip("nvJPEG does not fail when it is told to")
    for status in (4, 5, 6, 8):
        jpeg_engine.fail(status)
        for data in (SOUND, CUT):
            assert rig.judged(data) == rig.judged_by_host(data)
        jpeg_engine.fail(0)
        rig.check_whole()


@pytest.mark.parametrize("data", [SOUND, CUT])
@pytest.mark.parametrize(
    ("part", "name"), [(JpegCheck, "begin"), (PendingCheck, "wait"), (NvJpeg, "decode"), (CannedSession, "fails")]
)
def test_an_interrupt_at_any_step_leaves_nothing_locked_or_held(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, part: Any, name: str, data: bytes
) -> None:
    interrupt = KeyboardInterrupt()
    with monkeypatch.context() as patched:
        if part is CannedSession:
            rig.at_run = failing(interrupt)
        else:
            patched.setattr(part, name, failing(interrupt))
        with pytest.raises(KeyboardInterrupt):
            rig.detector(data)
    del interrupt  # its traceback holds what the call held
    rig.check_whole()


@pytest.mark.parametrize("data", [SOUND, CUT])
@pytest.mark.parametrize("by_thread", [False, True])
def test_a_detector_that_is_closed_meanwhile_still_judges_the_file(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, data: bytes, by_thread: bool
) -> None:
    monkeypatch.setattr(jpeg_check, "_ALONE_BYTES", 0 if by_thread else 1 << 20)
    expected = rig.judged_by_host(data)
    closing = threading.Thread(target=rig.detector.close)

    def close() -> None:
        closing.start()
        while rig.queue.engine._check._buffers is not None:  # its decoder is closed first
            threading.Event().wait(0.001)

    rig.at_run = close
    rig.events.clear()
    assert rig.judged(data) == expected
    closing.join()
    assert rig.events == ["run", "verdict"]
    with pytest.raises(SessionError, match="model: the detector is closed"):
        rig.detector(data)


@pytest.mark.parametrize("first", [SOUND, CUT])
@pytest.mark.parametrize("then", [OTHER, CUT])
def test_a_thread_gets_its_own_verdict_though_others_decode_while_its_network_runs(
    rig: Rig, first: bytes, then: bytes
) -> None:
    held: list[int] = []
    others = threading.Event()
    is_held = threading.Event()

    def hold_the_first() -> None:
        if not held:
            held.append(threading.get_ident())
            is_held.set()
            others.wait()

    wanted, other = rig.judged_by_host(first), rig.judged_by_host(then)
    listed = [rig.judged_by_host(SOUND), rig.judged_by_host(OTHER)]
    rig.at_run = hold_the_first
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rig.judged, first)
        is_held.wait()
        for _ in range(3):
            assert rig.judged(then) == other
        assert list(map(plain, rig.detector.detect_batch([SOUND, OTHER]))) == listed
        assert not waiting.done()
        others.set()
        assert waiting.result() == wanted


def test_many_threads_get_their_own_answers(rig: Rig) -> None:
    files = [*jpegs.for_the_engine().values(), *jpegs.damaged().values(), *jpegs.for_the_host().values()] * 3
    expected = [rig.judged_by_host(data) for data in files]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(rig.judged, files)) == expected
    rig.check_whole()
