from __future__ import annotations

import pytest

from yoloship.sources.live.states import CHANGES, Counts, State


def reachable(state: State) -> set[State]:
    found, waiting = {state}, [state]
    while waiting:
        for following in CHANGES[waiting.pop()] - found:
            found.add(following)
            waiting.append(following)
    return found


def test_every_state_says_what_may_follow_and_all_can_be_reached() -> None:
    assert set(CHANGES) == set(State)
    assert reachable(State.NOT_STARTED) == set(State)


@pytest.mark.parametrize("state", [state for state in State if not state.is_over])
def test_a_stream_can_be_ended_in_every_state(state: State) -> None:
    assert State.ENDED in CHANGES[state]


@pytest.mark.parametrize("state", [State.ENDED, State.FAILED])
def test_nothing_follows_an_end(state: State) -> None:
    assert state.is_over
    assert reachable(state) == {state}


def test_frames_come_only_after_a_connection() -> None:
    assert [state for state in State if State.RUNNING in CHANGES[state]] == [State.CONNECTING]


def test_counts_are_told_in_words() -> None:
    assert str(Counts(12345, 6, 7, 8)) == "12345 frames, 6 dropped, 7 damaged, 8 reconnects"
    assert str(Counts(1, 0, 0, 1)) == "1 frame, 0 dropped, 0 damaged, 1 reconnect"
