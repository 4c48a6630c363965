"""What every request goes through first: its id, its host, its key, its error and its log line: `Guard`."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from yoloship.errors import InputError, YoloshipError
from yoloship.serve.answers import json_response
from yoloship.serve.errors import (
    BusyError,
    ClientLeftError,
    KeyRefusedError,
    LateError,
    ServeError,
    error_body,
    forget_frames,
    status_of,
)
from yoloship.serve.kserve_models import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from yoloship.serve.engine import ModelHost
    from yoloship.serve.state import ServerState

_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)
_KSERVE: Final = "/v2"
"""Where addresses of KServe's protocol begin."""
_logger = logging.getLogger("yoloship.serve.requests")


class Guard:
    """An ASGI application around another one.

    A request gets an id, which is that of its client if it has one. It needs an API key if the server has any, unless
    its address is open to all. Whatever fails becomes an answer in the one form of errors, never a traceback.

    Args:
        state: The server.
        open_paths: Addresses that need no key.
        image_paths: Addresses that images of a model are sent to, with ``{name}`` for its name.
    """

    def __init__(self, state: ServerState, open_paths: Iterable[str], image_paths: Iterable[str]) -> None:
        self._state, self._open = state, frozenset(open_paths)
        self._models = frozenset(host.name for host in state.models)
        self._taking: dict[str, tuple[str, ModelHost]] = {
            path.format(name=host.name, version=VERSION): (path, host) for path in image_paths for host in state.models
        }
        self._first_id, self._numbers = secrets.token_hex(6), itertools.count()

    def around(self, app: ASGIApp) -> Guard:
        """Guard this application."""
        self._app = app
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, self._new_id)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message = {**message, "headers": exchange.headers_of_answer(message["headers"])}
            await send(message)

        try:
            self._admit(scope, exchange.headers)
            await self._app(scope, receive, answer)
        except Exception as error:
            failure = self._failure(scope, exchange, error)
            if not exchange.status and not isinstance(error, ClientLeftError):
                await failure(scope, receive, answer)
            exchange.status = exchange.status or failure.status_code
            forget_frames(error)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._note(scope, exchange, route, (scope.get("path_params") or {}).get("name"))

    def refusal(self, scope: Scope) -> Response | None:
        """The refusal of an image whose model has no room, from the head of the request; None if it may continue.

        The application would refuse it too. This takes a fraction of the time, and under overload most requests end
        here.

        Args:
            scope: Of the request, with its method, path, headers and client.
        """
        route, host = self._taking.get(scope["path"], ("", None))
        if host is None or host.admission.has_room or scope["method"] != "POST":
            return None
        exchange = _Exchange(scope, self._new_id)
        try:
            self._admit(scope, exchange.headers)
        except YoloshipError:
            return None  # it has another answer
        answer = self._failure(scope, exchange, host.admission.busy())
        answer.raw_headers = exchange.headers_of_answer(answer.raw_headers)
        exchange.status = answer.status_code
        self._note(scope, exchange, route, host.name)
        return answer

    def note_body(self, scope: Scope) -> None:
        """The body of a request that was not refused is whole. If it may have an answer, its image is expected."""
        _, host = self._taking.get(scope["path"], ("", None))
        if host is None or scope["method"] != "POST":
            return
        with suppress(YoloshipError):
            self._admit(scope, dict(scope["headers"]))
            host.admission.expect()

    def _new_id(self) -> str:
        """An id that no other request has. Asking the system for each would let other threads run."""
        return f"{self._first_id}{next(self._numbers):08x}"

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        settings = self._state.settings
        if settings.hosts is not None and _host(headers.get(b"host", b"")) not in settings.hosts:
            raise InputError(
                "this server does not answer requests for this host name", subject="Host",
                got=headers.get(b"host", b"").decode("latin-1")[:80],
                hint="use an IP address or localhost, or start it with --allow-host NAME",
            )  # fmt: skip
        if headers.get(b"sec-fetch-site") == b"cross-site" and scope["method"] != "GET":
            raise InputError("requests from other web sites are refused", subject="Sec-Fetch-Site")
        if settings.keys is None or scope["path"] in self._open:
            return
        kind, _, bearer = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        key = bearer.strip() if kind.lower() == "bearer" else headers.get(b"x-api-key", b"").decode("latin-1")
        if not key:
            raise KeyRefusedError("the API key is missing", hint="send it as: Authorization: Bearer KEY")
        if not settings.keys.accept(key):
            raise KeyRefusedError("the API key is wrong")

    def _failure(self, scope: Scope, exchange: _Exchange, error: Exception) -> Response:
        """The answer that has the kind and the message of an error, in the form of the address."""
        status, kind, message = 500, "InternalError", "the server failed; its log has the id"
        headers: dict[str, str] = {}
        if isinstance(error, YoloshipError):
            status, kind, message = status_of(error), type(error).__name__, str(error)
        if isinstance(error, (BusyError, LateError, ClientLeftError)):
            exchange.rejected_for = kind
        if isinstance(error, ServeError):
            headers.update(error.headers)
        elif status >= 500:
            is_known = isinstance(error, YoloshipError)
            _logger.error("request %s failed: %s", exchange.id, error, exc_info=None if is_known else error)
        if status in {408, 413} or b"expect" in exchange.headers:
            headers["Connection"] = "close"  # or the rest of the body, sent or not, would be read as the next request
        body = error_body(kind, message, exchange.id)
        if scope["path"].startswith(_KSERVE):
            body = {"error": body["error"]["message"]}
        return json_response(body, status, headers)

    def _note(self, scope: Scope, exchange: _Exchange, route: str, name: str | None) -> None:
        model = name if name in self._models else ""  # each name in a metric is kept for ever
        self._state.metrics.requests.labels(route, model, str(exchange.status)).inc()
        if exchange.rejected_for and model:
            self._state.metrics.rejected.labels(model, exchange.rejected_for).inc()
        if not _logger.isEnabledFor(logging.INFO):
            return
        facts: dict[str, Any] = {
            "id": exchange.id,
            "method": scope["method"],
            "path": scope["path"],
            "status": exchange.status,
            "ms": round((asyncio.get_running_loop().time() - exchange.came_s) * 1e3, 2),
            "client": (scope.get("client") or ("",))[0],
        }
        _logger.info("%(method)s %(path)s %(status)s %(ms)s ms", facts, extra={"facts": facts})


class _Exchange:
    """A request and its answer.

    Attributes:
        headers: Of the request.
        id: That of its client, or a new one.
        came_s: When it came, by the event loop's clock.
        status: Of the answer, once it has begun.
        rejected_for: The kind of error, if it ended without room, too late or without its client; empty otherwise.
    """

    def __init__(self, scope: Scope, new_id: Callable[[], str]) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"")
        self.id = given.decode("ascii") if _ID.fullmatch(given) else new_id()
        self.came_s = asyncio.get_running_loop().time()
        self.status, self.rejected_for = 0, ""
        scope.setdefault("state", {}).update(request_id=self.id, came_s=self.came_s)

    def headers_of_answer(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """These headers of an answer, and those that each answer has."""
        own = dict(headers)
        added = [(name, value) for name, value in _HEADERS if name not in own]
        return [*headers, (b"x-request-id", self.id.encode()), *added]


def _host(header: bytes) -> str:
    try:
        return (urlsplit(f"//{header.decode('latin-1')}").hostname or "").lower()
    except ValueError:
        return ""
