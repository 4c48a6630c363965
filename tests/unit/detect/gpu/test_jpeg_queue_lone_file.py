"""A lone file that is used before the check of its data is over, by an engine and a check that do as told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers import jpegs
from yoloship.detect.gpu import jpeg_queue
from yoloship.detect.gpu.jpeg_engine import JpegFile, jpeg_file
from yoloship.detect.gpu.jpeg_queue import JpegQueue, QueuedJpeg
from yoloship.errors import CudaError, ImageError, InputError, SessionError
from yoloship.images import open_image, read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOUND = jpegs.encoded(jpegs.picture(64, 96))
CUT = jpegs.damaged()["cut"]
FULL = CudaError("out of memory", code=2, name="CUDA_ERROR_OUT_OF_MEMORY")
FAILED = CudaError("launch failed", code=719, name="CUDA_ERROR_LAUNCH_FAILED")
ON_GPU, VERDICT, BACK, ON_HOST = "used on the GPU", "verdict", "given back", "used on the host"


class Engine:
    """Decodes what it is given, and notes what happens."""

    def __init__(self) -> None:
        self.memory = self
        self.has_given_up = False
        self.room = 1
        self.failure: CudaError | None = None
        self.verdict: bool | CudaError = True
        self.refuses = False
        self.events: list[str] = []

    def take(self, sizes_bytes: list[int], *, urgent: bool = False) -> list[str]:
        assert urgent  # a lone file does not wait for others
        return ["a block"][: self.room]

    def decode_unchecked(self, file: JpegFile, block: str) -> tuple[Image, Check] | None:
        assert block == "a block"
        assert file.nbytes
        if self.failure is not None:
            raise self.failure
        return None if self.refuses else (Image(self.events), Check(self))

    def close(self) -> None:
        """Of the engine and its memory."""


class Image:
    def __init__(self, events: list[str]) -> None:
        self._events = events

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._events.append(BACK)


class Check:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def verdicts(self) -> list[bool]:
        self._engine.events.append(VERDICT)
        if isinstance(self._engine.verdict, CudaError):
            raise self._engine.verdict
        return [self._engine.verdict]


class Rig:
    """A queue with that engine.

    Attributes:
        raises: What using the image on the GPU raises.
    """

    def __init__(self, engine: Engine, queue: JpegQueue) -> None:
        self.engine = engine
        self.queue = queue
        self.raises: BaseException | None = None

    def use(self, found: Any) -> str:
        where = ON_GPU if isinstance(found, Image) else ON_HOST
        self.engine.events.append(where)
        if where == ON_HOST:
            np.testing.assert_array_equal(found, read_image(SOUND))
        elif self.raises is not None:
            raise self.raises
        return where

    def detect(self, data: bytes = SOUND) -> str:
        jpeg = jpeg_file(open_image(data))
        assert jpeg is not None
        return QueuedJpeg(jpeg, self.queue).decode_for(self.use)


@pytest.fixture
def rig() -> Iterator[Rig]:
    engine = Engine()
    queue_of: Any = JpegQueue
    with queue_of(engine, "model.onnx") as queue:
        yield Rig(engine, queue)


def test_the_image_is_used_before_the_verdict_is_asked_for(rig: Rig) -> None:
    assert rig.detect() == ON_GPU
    assert rig.engine.events == [ON_GPU, VERDICT, BACK]


@pytest.mark.parametrize("raises", [None, InputError("wrong"), FAILED, FULL, MemoryError()])
def test_what_was_made_of_a_file_that_is_not_sound_is_thrown_away(rig: Rig, raises: Exception | None) -> None:
    rig.engine.verdict, rig.raises = False, raises
    assert rig.detect() == ON_HOST
    assert rig.engine.events == [ON_GPU, VERDICT, BACK, ON_HOST]


@pytest.mark.parametrize("raises", [None, InputError("wrong"), FAILED, FULL, MemoryError()])
def test_a_damaged_file_gets_the_hosts_error(rig: Rig, raises: Exception | None) -> None:
    with pytest.raises(ImageError) as expected:
        read_image(CUT)
    rig.engine.verdict, rig.raises = False, raises
    with pytest.raises(ImageError) as caught:
        rig.detect(CUT)
    assert str(caught.value) == str(expected.value)
    assert rig.engine.events == [ON_GPU, VERDICT, BACK]


def test_an_error_of_the_hosts_reader_that_is_not_ours_is_raised(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("on purpose")

    monkeypatch.setattr(jpeg_queue, "read_image", fail)
    rig.engine.verdict = False
    with pytest.raises(MemoryError, match="on purpose"):
        rig.detect()


@pytest.mark.parametrize("raises", [InputError("wrong"), SessionError("closed"), FAILED, FULL, MemoryError()])
def test_what_using_a_sound_file_raises_is_raised(rig: Rig, raises: Exception) -> None:
    rig.raises = raises
    with pytest.raises(type(raises)) as caught:
        rig.detect()
    assert caught.value is raises
    assert rig.engine.events == [ON_GPU, VERDICT, BACK]


def test_a_device_that_fails_in_the_check_gives_no_result(rig: Rig) -> None:
    rig.engine.verdict = FAILED
    with pytest.raises(CudaError) as caught:
        rig.detect()
    assert caught.value is FAILED
    assert rig.engine.events == [ON_GPU, VERDICT, BACK]


def test_of_a_device_that_fails_in_both_the_first_error_is_raised(rig: Rig) -> None:
    rig.engine.verdict = FAILED
    rig.raises = CudaError("illegal address", code=700, name="CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(CudaError) as caught:
        rig.detect()
    assert caught.value is rig.raises
    assert rig.engine.events == [ON_GPU, VERDICT, BACK]


def test_a_device_that_fails_while_decoding_gives_no_result(rig: Rig) -> None:
    rig.engine.failure = FAILED
    with pytest.raises(CudaError) as caught:
        rig.detect()
    assert caught.value is FAILED
    assert rig.engine.events == []


def full_while_decoding(engine: Engine) -> None:
    engine.failure = FULL


def without_room(engine: Engine) -> None:
    engine.room = 0


def given_up(engine: Engine) -> None:
    engine.has_given_up = True


def refusing(engine: Engine) -> None:
    engine.refuses = True


@pytest.mark.parametrize("change", [full_while_decoding, without_room, given_up, refusing])
def test_what_the_engine_does_not_decode_is_decoded_by_the_host(rig: Rig, change: Callable[[Engine], None]) -> None:
    change(rig.engine)
    assert rig.detect() == ON_HOST
    assert rig.engine.events == [ON_HOST]
    with pytest.raises(ImageError, match="JPEG is damaged"):
        rig.detect(CUT)


@pytest.mark.parametrize("raises", [None, InputError("wrong")])
def test_a_device_without_memory_for_the_check_leaves_the_file_to_the_host(
    rig: Rig, raises: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    rig.engine.verdict, rig.raises = FULL, raises
    with caplog.at_level(logging.WARNING):
        assert rig.detect() == ON_HOST
    assert rig.engine.events == [ON_GPU, VERDICT, BACK, ON_HOST]
    assert caplog.messages == ["1 JPEGs are decoded on the CPU, because the memory of the GPU is full"]


def test_an_interrupt_gives_the_image_back_and_asks_for_nothing(rig: Rig) -> None:
    rig.raises = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        rig.detect()
    assert rig.engine.events == [ON_GPU, BACK]


def test_a_closed_queue_decodes_nothing(rig: Rig) -> None:
    rig.queue.close()
    with pytest.raises(SessionError, match=r"model\.onnx: the detector is closed"):
        rig.detect()
    assert rig.engine.events == []


def test_a_check_that_closing_ends_says_that_the_detector_is_closed(rig: Rig) -> None:
    rig.engine.verdict = FAILED
    use = rig.use

    def close(found: Any) -> str:
        rig.queue.close()
        return use(found)

    rig.use = close  # type: ignore[method-assign]  # closes in between
    with pytest.raises(SessionError, match=r"model\.onnx: the detector is closed"):
        rig.detect()
    assert rig.engine.events == [ON_GPU, VERDICT, BACK]
