"""Room for images: taken before they wait, given back afterwards, refused at once."""

from __future__ import annotations

import asyncio

import pytest

from yoloship.serve.admission import Admission
from yoloship.serve.errors import BusyError


def test_a_permit_takes_room_and_gives_it_back_also_after_an_error() -> None:
    admission = Admission(2, lambda images: 0.1 * images, "m")
    with admission.permit(2):
        assert admission.held == 2
        with pytest.raises(BusyError, match="m: 2 images waiting or running; try again in 1 s"), admission.permit():
            pass
        assert admission.held == 2
    with pytest.raises(ValueError, match="x"), admission.permit():
        raise ValueError("x")
    assert admission.held == 0


def test_the_time_to_wait_follows_from_what_is_before_it() -> None:
    admission = Admission(10, lambda images: 2.0 * images, "m")
    with admission.permit(10), pytest.raises(BusyError) as caught:
        admission.check()
    assert caught.value.headers == {"Retry-After": "11"}


def test_what_would_be_late_is_refused_at_once_but_a_lone_image_is_tried() -> None:
    admission = Admission(10, lambda images: 2.0 * images, "m")
    admission.check(1, deadline_in_s=1.0)
    with admission.permit(), pytest.raises(BusyError, match=r"would take 4\.0 s, and the deadline is in 1\.0 s"):
        admission.check(1, deadline_in_s=1.0)


def test_images_that_came_in_this_turn_of_the_loop_take_room_until_they_have_had_time_to_take_a_permit() -> None:
    async def found() -> list[bool]:
        admission = Admission(3, lambda images: 0.1 * images, "m")
        rooms = []
        with admission.permit():
            for _ in range(3):
                rooms.append(admission.has_room)
                admission.expect()
            await asyncio.sleep(0)  # they leave, or take their permits
            rooms.append(admission.has_room)
            with admission.permit(2):
                rooms.append(admission.has_room)
        return rooms

    assert asyncio.run(found()) == [True, True, False, True, False]
