"""Who uses a thing: let go of it once it is closed and its last user is gone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from yoloship.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable


class Lifetime:
    """Counts users.

    Args:
        release: Called once, by the thread that ends the last use after `close`, or by `close` itself.
        subject: What is used, for the message.
    """

    def __init__(self, release: Callable[[], None], subject: str) -> None:
        self._release = release
        self._subject = subject
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether new users are refused."""
        return self._closed

    def enter(self) -> None:
        """Count a user.

        Raises:
            SessionError: it is closed.
        """
        with self._lock:
            if self._closed:
                raise SessionError("the session is closed", subject=self._subject)
            self._users += 1

    def leave(self) -> None:
        """Count a user as gone."""
        with self._lock:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            self._release()

    def close(self) -> None:
        """Refuse new users. Closing twice is no error."""
        with self._lock:
            last = not self._closed and self._users == 0
            self._closed = True
        if last:
            self._release()
