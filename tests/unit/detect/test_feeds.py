from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from helpers.models import image_session, info, random_heads
from yoloship.detect.detector import Detector
from yoloship.detect.feeds import feed_of, host_session
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

HEADS = random_heads(0, (64, 96), mean=0.0)
IMAGE = np.random.default_rng(5).integers(0, 256, (50, 120, 3), dtype=np.uint8)


def test_a_network_is_fed_what_the_detector_feeds_it() -> None:
    session = image_session(info(), lambda _: HEADS)
    with Detector(session) as detector:
        detector(IMAGE)
        fed: Mapping[str, npt.NDArray[Any]] = feed_of(detector, IMAGE)
    assert fed.keys() == session.calls[-1].keys()
    for name, array in fed.items():
        np.testing.assert_array_equal(array, session.calls[-1][name])


def test_only_a_network_in_the_hosts_memory_has_a_host_session() -> None:
    session = image_session(info(), lambda _: HEADS)
    with Detector(session) as detector:
        assert host_session(detector) is session

    class OnDevice:
        session = object()
        model_name = "best.engine"

    with pytest.raises(InputError, match="the outputs of its network stay on the GPU"):
        host_session(cast("Any", OnDevice()))
