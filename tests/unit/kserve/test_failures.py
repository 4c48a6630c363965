"""The errors of the protocol belong to the classes by which callers catch them."""

from __future__ import annotations

from yoloship.errors import InputError, YoloshipError
from yoloship.kserve.failures import ProtocolError, RemoteError


def test_a_body_that_does_not_follow_the_protocol_is_a_wrong_request() -> None:
    assert issubclass(ProtocolError, InputError)


def test_a_refusal_of_a_server_has_its_status_and_one_line() -> None:
    error = RemoteError("said 404:\nno", status=404, subject="http://host", hint="look again")
    assert isinstance(error, YoloshipError)
    assert not isinstance(error, InputError)
    assert (error.status, str(error)) == (404, "http://host: said 404: no; look again")
