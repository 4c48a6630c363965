"""The files of the page: a closed table, and the answer that gives one of them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from yoloship.serve.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

_HTML, _CSS, _SVG = "text/html", "text/css", "image/svg+xml"
_SCRIPT: Final = "text/javascript"

ASSETS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "/": ("index.html", _HTML),
        "/page/style.css": ("style.css", _CSS),
        "/page/icon.svg": ("icon.svg", _SVG),
        **{
            f"/page/{name}.js": (f"{name}.js", _SCRIPT)
            for name in (
                "main", "client", "comparison", "controls", "drawing", "pane", "place", "record", "saving", "sources",
                "strip", "table", "elements",
            )
        },
    }
)  # fmt: skip
"""Address → the name of its file beside this module, and its type."""

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src blob: mediastream:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # text can never become markup, whatever a script does
        "trusted-types 'none'",
    )
)
"""The page loads nothing but these files, and speaks to nobody but its server."""

_HEADERS: Final = MappingProxyType(
    {
        "Cache-Control": "no-cache",  # a browser keeps the file, and asks whether it is still the same
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    }
)


async def asset(request: Request) -> Response:
    """The file of the page at this address; only its tag if the browser has the same already."""
    path = request.scope["path"]
    if path not in ASSETS:  # the router also takes an address with a newline after it
        raise NotFoundError("there is no such endpoint", subject=path[:200])
    body, tag = _read(path)
    headers = {"ETag": tag, **_HEADERS}
    if _is_known(tag, request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=ASSETS[path][1])


def _is_known(tag: str, header: str) -> bool:
    """Whether If-None-Match (RFC 9110, section 13.1.2) names this tag. A proxy that compresses makes tags weak."""
    return any(one.strip().removeprefix("W/") in {tag, "*"} for one in header.split(","))


@lru_cache(len(ASSETS))
def _read(path: str) -> tuple[bytes, str]:
    """The bytes of a file, and the tag that changes with them."""
    body = (files("yoloship.serve.page") / ASSETS[path][0]).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
