"""Each error has a status, and one form."""

from __future__ import annotations

import pytest

from yoloship import errors
from yoloship.serve.errors import (
    BodyError,
    BusyError,
    KeyRefusedError,
    LateError,
    MethodError,
    NotFoundError,
    NotReadyError,
    error_body,
    status_of,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InputError("x"), 400),
        (errors.ImageError("x"), 422),
        (errors.SessionError("x"), 500),
        (errors.CudaError("x", code=2), 500),
        (errors.DependencyError("x"), 501),
        (errors.DownloadError("x"), 502),
        (BodyError("x", 413), 413),
        (BusyError("x"), 429),
        (LateError("x"), 504),
        (NotFoundError("x"), 404),
    ],
)
def test_the_status_is_that_of_the_nearest_class(error: errors.YoloshipError, status: int) -> None:
    assert status_of(error) == status


def test_headers_say_what_to_do() -> None:
    assert BusyError("x", 7).headers == {"Retry-After": "7"}
    assert NotReadyError("x").headers == {"Retry-After": "1"}
    assert KeyRefusedError("x").headers == {"WWW-Authenticate": "Bearer"}
    assert MethodError("PUT", "GET").headers == {"Allow": "GET"}


def test_the_message_cannot_control_a_terminal() -> None:
    body = error_body("ImageError", str(errors.ImageError("is bad", subject="a\x1b[31m")), "id-1")
    assert body == {"error": {"type": "ImageError", "message": "a\\x1b[31m: is bad", "request_id": "id-1"}}
