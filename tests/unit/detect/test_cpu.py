"""What only the CPU's pipeline does: its memory, its warming up, its stages, and when its session is closed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from helpers.models import image_session, info, random_heads
from yoloship.detect.detector import Detector
from yoloship.errors import InputError, SessionError

HW = (64, 96)
HEADS = random_heads(0, HW, mean=0.0)
IMAGE = np.random.default_rng(5).integers(0, 256, (50, 120, 3), dtype=np.uint8)


def detector(record: Any = None, script: Any = None, **arguments: Any) -> Any:
    session = image_session(record or info(), script or (lambda _: HEADS))
    return Detector(session, **arguments), session


def test_a_session_that_gives_another_number_of_outputs_is_refused() -> None:
    one, session = detector()
    session.run_as_computed = lambda _: HEADS[:2]
    with pytest.raises(SessionError, match="wrong number of outputs: expected 3, got 2"):
        one(IMAGE)


@pytest.mark.timeout(10)
def test_a_session_is_closed_only_when_its_last_run_has_ended() -> None:
    begun, gate = threading.Event(), threading.Event()

    def held(_: Any) -> Any:
        begun.set()
        gate.wait()
        return HEADS

    one, session = detector(script=held)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(one, IMAGE)
        begun.wait()
        one.close()
        assert not session.closed
        gate.set()
        assert len(run.result()) > 0
    assert session.closed


def test_preparing_runs_the_network_once_for_each_run_that_may_be_under_way() -> None:
    one, session = detector(info(batch=None), lambda feeds: random_heads(0, HW, len(feeds["images"])), parallel_runs=2)
    one.prepare()
    assert [len(call["images"]) for call in session.calls] == [1, 1]
    one.prepare([3])
    assert [len(call["images"]) for call in session.calls[2:]] == [3, 3]


def test_the_stages_of_a_batch_are_those_of_a_call_and_give_the_same_boxes() -> None:
    one, session = detector(info(batch=None), lambda feeds: random_heads(0, HW, len(feeds["images"]), mean=0.0))
    images = [IMAGE, IMAGE[:20]]
    placed = [one._pipeline.place(image, "bgr") for image in images]
    assert one._pipeline.run_timed(placed, one.options)[0] == one.detect_batch(images)
    times = one.profile(images)
    assert list(times.stages_ms) == ["letterbox", "network", "decode", "suppress"]
    assert sum(times.stages_ms.values()) == pytest.approx(times.total_ms)
    assert len(session.calls) == 3
    with pytest.raises(InputError, match="no images to time"):
        one.profile([])


def test_a_frame_to_be_filled_has_the_channels_of_the_model() -> None:
    assert detector()[0].pinned_frame((4, 6)).shape == (4, 6, 3)
    assert Detector(image_session(info(channels=1), lambda _: HEADS)).pinned_frame((4, 6)).shape == (4, 6, 1)


def test_too_few_runs_at_once_are_refused() -> None:
    with pytest.raises(InputError, match="parallel_runs: too few runs: expected 1 or more, got 0"):
        detector(parallel_runs=0)


def test_a_run_that_begins_after_closing_is_refused_whatever_the_session_says() -> None:
    one, _ = detector()
    placed = [one._pipeline.place(IMAGE, "bgr")]
    one.close()
    with pytest.raises(SessionError, match="model: the detector is closed"):
        one._pipeline.run(placed, one.options)


def test_a_graph_of_a_fixed_batch_is_submitted_to_in_batches_up_to_it() -> None:
    assert detector()[0]._pipeline.batches == (1,)
    assert detector(info(batch=None))[0]._pipeline.batches == (1,)
    assert detector(info(batch=3))[0]._pipeline.batches == (1, 2, 3)
