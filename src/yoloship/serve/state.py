"""What all requests of a server share: `ServerState`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from starlette.requests import Request

    from yoloship.serve.bodies import BodyBudget
    from yoloship.serve.metrics import Metrics
    from yoloship.serve.reloading import ModelTable
    from yoloship.serve.settings import ServeSettings


@dataclass(frozen=True, slots=True, eq=False)
class ServerState:
    """What all requests of a server share.

    Attributes:
        settings: What is served, and the limits.
        models: The models by name.
        metrics: What is counted.
        bodies: The memory of bodies.
    """

    settings: ServeSettings
    models: ModelTable
    metrics: Metrics
    bodies: BodyBudget


def state_of(request: Request) -> ServerState:
    """The state of the server that a request came to."""
    return cast("ServerState", request.app.state.server)
