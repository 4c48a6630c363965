from __future__ import annotations

import pytest

from yoloship._util.closing import Closing


class Owner(Closing):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_end_of_a_with_block_closes_whatever_ended_it() -> None:
    with Owner() as owner:
        assert owner.closed == 0
    assert owner.closed == 1
    with pytest.raises(KeyboardInterrupt), owner:
        raise KeyboardInterrupt
    assert owner.closed == 2


def test_an_owner_has_to_say_how_it_is_closed() -> None:
    with pytest.raises(TypeError, match="close"):
        type("Forgetful", (Closing,), {})()
