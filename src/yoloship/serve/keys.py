"""API keys from a file, compared in constant time: `ApiKeys`."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from yoloship._util.reading import read_text
from yoloship.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

MIN_CHARS: Final = 16
MAX_KEYS: Final = 1000
_MAX_FILE_BYTES: Final = 1 << 20


class ApiKeys:
    """Keys, of which only SHA-256 digests are kept.

    Args:
        keys: The keys.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._digests = tuple(map(_digest, keys))

    @classmethod
    def read(cls, path: Path) -> ApiKeys:
        """Read one key from each line of a file. Empty lines and lines that begin with ``#`` are left out.

        Raises:
            InputError: the file cannot be read, has no keys, or a key is short or has characters that a header cannot
                have.
        """
        text = read_text(path, _MAX_FILE_BYTES, error=InputError, wanted="a list of API keys")
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
        keys = [(number, line) for number, line in lines if line and not line.startswith("#")]
        for number, key in keys:
            if len(key) < MIN_CHARS or not key.isascii() or not key.isprintable() or " " in key:
                raise InputError(
                    f"line {number} is not an API key",
                    subject=str(path),
                    expected=f"at least {MIN_CHARS} ASCII characters without spaces",
                    hint="create one with: openssl rand -hex 32",
                )
        if not keys or len(keys) > MAX_KEYS:
            raise InputError(
                "wrong number of API keys", subject=str(path), expected=f"1 to {MAX_KEYS}", got=str(len(keys))
            )
        return cls(tuple(key for _, key in keys))

    def accept(self, key: str) -> bool:
        """Whether a key is one of these. It takes the same time for every key, however much of it is right."""
        given = _digest(key)
        found = False
        for digest in self._digests:
            found |= hmac.compare_digest(digest, given)
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
