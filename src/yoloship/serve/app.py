"""The server as an ASGI application: `create_app`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from yoloship.serve.bodies import BodyBudget
from yoloship.serve.errors import MethodError, NotFoundError
from yoloship.serve.guard import Guard
from yoloship.serve.metrics import Metrics
from yoloship.serve.reloading import ModelTable
from yoloship.serve.routes import ENDPOINTS
from yoloship.serve.state import ServerState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from yoloship.serve.settings import ServeSettings


def create_app(
    settings: ServeSettings,
    failed: Callable[[Exception], None] = lambda _: None,
    loaded: Callable[[], None] | None = None,
) -> Starlette:
    """Make the application. It loads the models in the background as soon as it is started.

    Args:
        settings: What to serve.
        failed: Called with the error of a model that cannot be loaded at the start.
        loaded: Called in a thread when all models are loaded; the application counts as started when it returns. None
            does not wait for them.
    """
    metrics = Metrics()
    state = ServerState(
        settings, ModelTable(settings, metrics, failed), metrics, BodyBudget(settings.limits.held_body_bytes)
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        state.models.start()
        try:
            if loaded is not None and await state.models.are_loaded():
                await asyncio.to_thread(loaded)
            yield
        finally:
            await state.models.stop()

    guard = Guard(
        state,
        [one.path for one in ENDPOINTS if one.is_open],
        [one.path for one in ENDPOINTS if one.method == "POST" and "{name}" in one.path],
    )
    by_use = sorted(ENDPOINTS, key=lambda one: one.method == "GET")  # the router tries one address after the other
    app = Starlette(
        routes=[Route(one.path, one.handler, methods=[one.method]) for one in by_use],
        middleware=[Middleware(guard.around)],
        exception_handlers={HTTPException: _refuse},
        lifespan=lifespan,
    )
    app.state.server, app.state.guard = state, guard
    app.router.redirect_slashes = False
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    """Give the router's refusals the same form as all other errors."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        raise MethodError(request.method, ", ".join(sorted(allowed.split(", "))))
    raise NotFoundError("there is no such endpoint", subject=request.url.path[:200])
