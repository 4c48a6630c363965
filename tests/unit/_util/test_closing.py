from __future__ import annotations

import threading

import pytest

from yoloship._util.closing import Closing, wait_for


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


def test_a_thread_is_waited_for_until_the_program_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, daemon=True)
    thread.start()
    with monkeypatch.context() as patch:
        patch.setattr("sys.is_finalizing", lambda: True)
        wait_for(thread)
    assert thread.is_alive()
    go.set()
    wait_for(thread)
    assert not thread.is_alive()
