"""The errors of the protocol: a body that does not follow it, and a server that does not answer as it should."""

from __future__ import annotations

from yoloship.errors import InputError, YoloshipError


class ProtocolError(InputError):
    """A request, an answer or a tensor that does not follow the open inference protocol, version 2."""


class RemoteError(YoloshipError):
    """A server that cannot be reached, or that refused a request.

    Args:
        problem: What went wrong.
        status: The HTTP status of its answer; None if it gave none.
        subject: The address.
        hint: The next step for the user.
    """

    def __init__(
        self, problem: str, *, status: int | None = None, subject: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(problem, subject=subject, hint=hint)
        self.status = status
