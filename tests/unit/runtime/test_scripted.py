from __future__ import annotations

import numpy as np
import pytest

from yoloship.errors import SessionError
from yoloship.model import TensorSpec
from yoloship.runtime.scripted import ScriptedSession

SPEC = TensorSpec("x", "float32", (2,))


def test_a_list_is_answered_in_order_and_then_runs_out() -> None:
    session = ScriptedSession([SPEC], [SPEC], [[np.zeros(2)], [np.ones(2)]])
    x = np.zeros(2, np.float32)
    assert session.run({"x": x})[0].tolist() == [0, 0]
    assert session.run({"x": x})[0].tolist() == [1, 1]
    with pytest.raises(SessionError, match="the script has no answer left"):
        session.run({"x": x})


def test_it_remembers_copies_of_what_it_was_fed() -> None:
    session = ScriptedSession([SPEC], [SPEC], lambda feeds: [feeds["x"]])
    x = np.zeros(2, np.float32)
    session.run({"x": x})
    x[:] = 7
    session.run({"x": x})
    assert [call["x"].tolist() for call in session.calls] == [[0, 0], [7, 7]]


def test_it_tells_whether_it_was_closed() -> None:
    session = ScriptedSession([SPEC], [SPEC], [])
    assert not session.closed
    with session:
        pass
    assert session.closed
