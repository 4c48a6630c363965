from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from yoloship.sources.live.ring import SLOT_BYTES, Ring, make_memory

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet")


@pytest.fixture
def number() -> int:
    return make_memory(3)


def test_two_sides_see_the_same_images_and_slots_do_not_touch(number: int) -> None:
    theirs, ours = Ring(number, 3), Ring(number, 3)
    os.close(number)
    for slot in range(3):
        theirs.image(slot, (4, 6))[...] = slot + 1
    for slot in range(3):
        image = ours.image(slot, (4, 6))
        assert image.shape == (4, 6, 3)
        assert (image == slot + 1).all()


def test_a_slot_has_room_for_8k(number: int) -> None:
    ring = Ring(number, 3)
    os.close(number)
    ring.image(2, (4320, 7680))[-1, -1] = 7
    assert ring.image(2, (4320, 7680))[-1, -1].tolist() == [7, 7, 7]
    with pytest.raises(AssertionError):
        ring.image(0, (SLOT_BYTES, 1))


def test_memory_is_taken_only_where_images_are(number: int) -> None:
    ring = Ring(number, 3)
    ring.image(1, (100, 100))[...] = 1
    assert os.fstat(number).st_size == 3 * SLOT_BYTES
    assert os.fstat(number).st_blocks * 512 < 1_000_000
    os.close(number)


def test_an_image_outlives_its_ring(number: int) -> None:
    ring = Ring(number, 3)
    os.close(number)
    image = ring.image(0, (2, 2))
    image[...] = 9
    del ring
    assert np.array_equal(image, np.full((2, 2, 3), 9, np.uint8))
