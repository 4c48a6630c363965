"""What requests share is found through the application."""

from __future__ import annotations

from starlette.requests import Request

from yoloship.serve.app import create_app
from yoloship.serve.settings import ServedModel, ServeSettings
from yoloship.serve.state import state_of


def test_a_request_finds_the_state_of_its_server() -> None:
    settings = ServeSettings((ServedModel("a", "a.onnx"),))
    # The hosts belong to an event loop from Python 3.10 on only when they are used.
    app = create_app(settings)
    state = state_of(Request({"type": "http", "app": app, "headers": []}))
    assert state.settings is settings
    assert [host.name for host in state.models] == ["a"]
    state.models.workers.close()
