"""The errors of the server, and one table from each class of error to the status of its answer.

ServeError             refusals of the server itself; each has a status of its own
├── NotFoundError      no such model or address
├── MethodError        the address does not support this method
├── BusyError          no room: try again after some seconds
├── NotReadyError      a model is still being loaded
├── LateError          the deadline passed
├── ClientLeftError    the client is gone; nobody reads the answer
├── BodyError          the body is too long, too slow, cut short or of another type than stated
├── KeyRefusedError    no API key, or a wrong one
└── FormError          the answer cannot have the form that was asked for
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import (
    DependencyError,
    DownloadError,
    ImageError,
    InputError,
    YoloshipError,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class ServeError(YoloshipError):
    """A refusal of the server.

    Attributes:
        status: The HTTP status of the answer.
        headers: Additional headers of the answer.
    """

    status = 400
    headers: Mapping[str, str] = MappingProxyType({})


class NotFoundError(ServeError):
    """There is no such model or address."""

    status = 404


class MethodError(ServeError):
    """The address does not support this method.

    Args:
        method: The method.
        allowed: The methods that it takes.
    """

    status = 405

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__("is not allowed here", subject=method, expected=allowed)
        self.headers = {"Allow": allowed}


class BusyError(ServeError):
    """There is no room for the request.

    Args:
        problem: Why there is no room.
        retry_after_s: When there will be room, in whole seconds.
    """

    status = 429

    def __init__(self, problem: str, retry_after_s: int = 1, *, subject: str | None = None) -> None:
        super().__init__(problem, subject=subject, hint=f"try again in {retry_after_s} s")
        self.headers = {"Retry-After": str(retry_after_s)}


class NotReadyError(ServeError):
    """The model is still being loaded."""

    status = 503
    headers = MappingProxyType({"Retry-After": "1"})


class LateError(ServeError):
    """The deadline of the request passed."""

    status = 504


class ClientLeftError(ServeError):
    """The client closed its connection; nobody reads this answer."""

    status = 499


class BodyError(ServeError):
    """The body of a request cannot be read.

    Args:
        problem: What is wrong with it.
        status: 400, 408, 413 or 415.
        expected: What would have been right.
        got: What came.
    """

    def __init__(self, problem: str, status: int = 400, *, expected: str | None = None, got: str | None = None) -> None:
        super().__init__(problem, subject="body", expected=expected, got=got)
        self.status = status


class KeyRefusedError(ServeError):
    """The API key is missing or wrong; RFC 6750 says how to send one."""

    status = 401
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class FormError(ServeError):
    """The answer is not available in the requested form."""

    status = 406


_STATUS: Final[Mapping[type[YoloshipError], int]] = MappingProxyType(
    {
        ImageError: 422,
        InputError: 400,
        DownloadError: 502,
        DependencyError: 501,
        YoloshipError: 500,  # a model or a device that fails is not the client's fault
    }
)
"""Class of error → status. An error gets the status of its nearest class here."""


def status_of(error: YoloshipError) -> int:
    """The status of the answer to a request that failed with this error."""
    if isinstance(error, ServeError):
        return error.status
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def error_body(kind: str, message: str, request_id: str) -> dict[str, Any]:
    """The JSON of an error. It has no traceback, and nothing that could control a terminal."""
    return {"error": {"type": kind, "message": visible(message), "request_id": request_id}}


def forget_frames(error: BaseException) -> None:
    """Release the stack frames that an error and its causes hold.

    They refer to the request's body, and often to the error, so both would stay until the garbage collector finds them.
    """
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and one.__traceback__ is not None:
            one.__traceback__ = None
            left += (one.__cause__, one.__context__)
