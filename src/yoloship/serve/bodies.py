"""The body of a request, read within limits, and the images in it: `read_body` and `images_of`."""

from __future__ import annotations

import asyncio
import base64
import binascii
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.strict_json import parse_strict_json
from yoloship.errors import InputError, visible
from yoloship.serve.errors import BodyError, BusyError, ClientLeftError
from yoloship.serve.waiting import deadline_of, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from yoloship.serve.engine import ModelHost
    from yoloship.serve.settings import RequestLimits
    from yoloship.serve.state import ServerState

_NAME_CHARS: Final = 255
_UNSTATED: Final = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})
"""Types that say nothing about an image. The last one is what ``curl --data-binary`` sends for any file."""


@dataclass(frozen=True, slots=True)
class GivenImage:
    """An image of a request.

    Attributes:
        name: What the client calls it, without folders.
        data: The bytes of its file; empty if it is at an address.
        url: Its address, if it is to be fetched.
    """

    name: str
    data: bytes
    url: str | None = None


class BodyBudget:
    """The bytes of all bodies in memory. It belongs to the thread of the event loop.

    Args:
        limit_bytes: The most at the same time.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def hold(self, size_bytes: int) -> None:
        """Count more bytes.

        Raises:
            BusyError: they would be too many.
        """
        if self.held_bytes + size_bytes > self._limit_bytes:
            raise BusyError("the memory for request bodies is full")
        self.held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Count fewer bytes."""
        self.held_bytes -= size_bytes


def media_type(request: Request) -> str:
    """The type that a request states for its body, in lower case without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, limits: RequestLimits, budget: BodyBudget, deadline_s: float) -> bytes:
    """Read a body. The caller releases its bytes from the budget; after an error, they are already released.

    Args:
        request: The request.
        limits: How long it may be, and take.
        budget: Counts the bytes.
        deadline_s: When it must be whole, by the event loop's clock.

    Raises:
        BodyError: it is too long, too slow, empty, or encoded.
        BusyError: there is no memory for it.
        ClientLeftError: the client disconnected before its end.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise BodyError("must not be encoded", 415, expected="no Content-Encoding")
    stated = request.headers.get("content-length", "")
    too_long = BodyError("is too long", 413, expected=f"at most {limits.max_body_bytes:,} bytes")
    if stated and (not stated.isdecimal() or len(stated) > 18 or int(stated) > limits.max_body_bytes):
        raise too_long
    parts: list[bytes] = []
    held = 0
    try:
        async with until(deadline_s, BodyError("came too slowly", 408)):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeftError("the client disconnected before the end of the body")
                part = message.get("body", b"")
                if held + len(part) > limits.max_body_bytes:
                    raise too_long
                budget.hold(len(part))
                held += len(part)
                parts.append(part)
                if not message.get("more_body", False):
                    break
        if not held:
            raise BodyError("is empty", expected="an image")
    except BaseException:
        budget.release(held)
        raise
    return b"".join(parts) if len(parts) > 1 else parts[0]


@asynccontextmanager
async def body_with_room(request: Request, state: ServerState, host: ModelHost) -> AsyncIterator[tuple[bytes, float]]:
    """The body of a request for a model, and when its answer must be there, by the event loop's clock.

    Without room for an image, the body is not read. Its memory is given back at the end.
    """
    limits = state.settings.limits
    deadline_s = deadline_of(request, limits.deadline_s)
    host.admission.check(deadline_in_s=deadline_s - asyncio.get_running_loop().time())
    body = await read_body(request, limits, state.bodies, request.state.came_s + limits.body_timeout_s)
    try:
        yield body, deadline_s
    finally:
        state.bodies.release(len(body))


def images_of(
    request: Request, body: bytes, limits: RequestLimits, *, with_urls: bool
) -> tuple[list[GivenImage], bool]:
    """The images of a body.

    Args:
        request: Has the type of the body.
        body: An image; a form (multipart/form-data) of images; or JSON, as `_images_of_json` describes it.
        limits: How many there may be.
        with_urls: Whether JSON may have addresses.

    Returns:
        The images, and whether they came as a list, so that the answer is one too.

    Raises:
        BodyError: it is damaged, or its type is not supported.
        InputError: it has other fields or too many images.
    """
    kind = media_type(request)
    if kind == "application/json":
        images, is_list = _images_of_json(body, with_urls=with_urls)
    elif kind == "multipart/form-data":
        from yoloship.serve.forms import files_of_form

        images = [
            GivenImage(clean_name(name, index), data)
            for index, (name, data) in enumerate(
                files_of_form(request.headers["content-type"], body, max_parts=limits.max_images)
            )
        ]
        is_list = True
    elif kind in _UNSTATED or kind.startswith("image/"):
        return [GivenImage("image", body)], False
    else:
        raise BodyError(
            "has a type that is not known", 415,
            expected="image/*, application/octet-stream, multipart/form-data or application/json", got=kind[:60],
        )  # fmt: skip
    if not images or len(images) > limits.max_images:
        raise InputError("wrong number of images", expected=f"1 to {limits.max_images}", got=str(len(images)))
    return images, is_list


def clean_name(name: object, index: int) -> str:
    """A file's name as a client gave it, without folders and control characters; ``image 0`` and so on without one."""
    text = visible(name).replace("\\", "/").rpartition("/")[2][:_NAME_CHARS] if isinstance(name, str) else ""
    return text or f"image {index}"


def _images_of_json(body: bytes, *, with_urls: bool) -> tuple[list[GivenImage], bool]:
    """The images of ``{"image": IMAGE}`` or ``{"images": [IMAGE, …]}``.

    IMAGE is base64, or an object of ``data`` (base64) or ``url``, and perhaps ``name``.
    """
    data = parse_json(body)
    if not isinstance(data, dict) or set(data) not in ({"image"}, {"images"}):
        got = sorted(data)[:5] if isinstance(data, dict) else type(data).__name__
        raise BodyError(
            "does not have the expected form", expected='{"image": …} or {"images": […]}', got=str(got)[:100]
        )
    is_list = "images" in data
    items = data["images"] if is_list else [data["image"]]
    if not isinstance(items, list):
        raise BodyError("does not have the expected form", expected="a list of images", got=type(items).__name__)
    return [_image_of_json(item, index, with_urls=with_urls) for index, item in enumerate(items)], is_list


def _image_of_json(item: Any, index: int, *, with_urls: bool) -> GivenImage:
    given = {"data": item} if isinstance(item, str) else item
    is_known = (
        isinstance(given, dict) and len(given.keys() & {"data", "url"}) == 1 and given.keys() <= {"data", "url", "name"}
    )
    if not is_known or not all(isinstance(value, str) for value in given.values()):
        raise BodyError(
            f"image {index} does not have the expected form",
            expected="base64, or an object with data or url, and optionally name",
        )
    name = clean_name(given.get("name"), index)
    if "url" in given:
        if not with_urls:
            raise InputError(
                "this server does not fetch images by URL",
                subject=f"image {index}",
                hint="send their bytes, or start it with --allow-urls",
            )
        return GivenImage(name, b"", given["url"])
    text = given["data"]
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return GivenImage(name, base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise BodyError(f"image {index} is not valid base64", got=str(error)[:60]) from error


def parse_json(body: bytes) -> Any:
    """Read a JSON document.

    Raises:
        BodyError: it is not one: it has NaN or a key twice, is too deep, or is not JSON at all.
    """
    try:
        return parse_strict_json(body)
    except (ValueError, RecursionError) as error:
        raise BodyError("is not valid JSON", got=str(error)[:100]) from error
