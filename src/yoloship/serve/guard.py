"""What every request goes through first: its id, its host, its key, its error and its log line: `Guard`."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from yoloship.errors import InputError, YoloshipError
from yoloship.serve.answers import json_response
from yoloship.serve.errors import ClientLeftError, KeyRefusedError, ServeError, error_body, forget_frames, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
        app: The application inside.
        state: The server.
        open_paths: Addresses that need no key.
    """

    def __init__(self, app: ASGIApp, state: ServerState, open_paths: Iterable[str]) -> None:
        self._app, self._state, self._open = app, state, frozenset(open_paths)
        self._models = frozenset(host.name for host in state.models)
        self._first_id, self._numbers = secrets.token_hex(6), itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._new_id)
        try:
            try:
                self._admit(scope, exchange.headers)
                await self._app(scope, receive, exchange.send)
            except YoloshipError as error:
                await self._refuse(scope, receive, exchange, error)
                forget_frames(error)
            except Exception as error:
                _logger.exception("request %s failed", exchange.id)
                fault = "InternalError", "this is a fault of the server; its log has the id"
                await exchange.fail(scope, receive, 500, fault)
                forget_frames(error)
        finally:
            self._note(scope, exchange)

    def _new_id(self) -> str:
        """An id that no other request has. To ask the system for each would let other threads in."""
        return f"{self._first_id}{next(self._numbers):08x}"

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        settings = self._state.settings
        if settings.hosts is not None and _host(headers.get(b"host", b"")) not in settings.hosts:
            raise InputError(
                "this server does not answer to this host name", subject="Host",
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

    async def _refuse(self, scope: Scope, receive: Receive, exchange: _Exchange, error: YoloshipError) -> None:
        status = status_of(error)
        if status >= 500 and not isinstance(error, ServeError):
            _logger.error("request %s failed: %s", exchange.id, error)
        headers = dict(error.headers) if isinstance(error, ServeError) else {}
        if status in {408, 413} or b"expect" in exchange.headers:
            headers["Connection"] = "close"  # or the rest of the body, sent or not, would be read as the next request
        if not isinstance(error, ClientLeftError):
            await exchange.fail(scope, receive, status, (type(error).__name__, str(error)), headers)
        exchange.status = exchange.status or status

    def _note(self, scope: Scope, exchange: _Exchange) -> None:
        route = getattr(scope.get("route"), "path", "other")
        name = (scope.get("path_params") or {}).get("name")
        model = name if name in self._models else ""  # each name in a metric is kept for ever
        self._state.metrics.requests.labels(route, model, str(exchange.status)).inc()
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
    """A request and its answer."""

    def __init__(self, scope: Scope, send: Send, new_id: Callable[[], str]) -> None:
        self._send = send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"")
        self.id = given.decode("ascii") if _ID.fullmatch(given) else new_id()
        self.came_s = asyncio.get_running_loop().time()
        self.status = 0
        scope.setdefault("state", {}).update(request_id=self.id, came_s=self.came_s)

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on, with the headers that each answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            have = {name for name, _ in message["headers"]}
            added = [(name, value) for name, value in _HEADERS if name not in have]
            message = {**message, "headers": [*message["headers"], (b"x-request-id", self.id.encode()), *added]}
        await self._send(message)

    async def fail(
        self, scope: Scope, receive: Receive, status: int, fault: tuple[str, str], headers: dict[str, str] | None = None
    ) -> None:
        """Answer with the kind and the message of an error, in the form of the address, unless the answer has begun."""
        if not self.status:
            body = error_body(*fault, self.id)
            if scope["path"].startswith(_KSERVE):
                body = {"error": body["error"]["message"]}
            await json_response(body, status, headers)(scope, receive, self.send)


def _host(header: bytes) -> str:
    try:
        return (urlsplit(f"//{header.decode('latin-1')}").hostname or "").lower()
    except ValueError:
        return ""
