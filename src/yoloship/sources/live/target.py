"""A camera or an address as the user wrote it: how it is opened, and how it is shown without its secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from yoloship._util.secrets import HIDDEN, SECRET, USER, without_secrets
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOCOLS: Final = MappingProxyType(
    {
        "rtsp": "rtsp,rtp,tcp,udp",
        "rtsps": "rtsps,rtsp,rtp,tls,tcp,udp",
        "rtmp": "rtmp,tcp",
        "rtmps": "rtmps,tls,tcp",
        "http": "http,https,tls,tcp",
        "https": "https,tls,tcp",
        "tcp": "tcp",
        "udp": "udp",
        "rtp": "rtp,udp",
    }
)
"""Scheme → the protocols that FFmpeg may use, so that a stream cannot send it to files or other places."""

_CAMERA_DIGITS: Final = 3
_OWN_OPTIONS: Final = MappingProxyType(
    {
        "rtsp": {"rtsp_flags": "prefer_tcp", "allowed_media_types": "video"},
        "rtsps": {"rtsp_flags": "prefer_tcp", "allowed_media_types": "video"},
        "udp": {"overrun_nonfatal": "1"},
    }
)
_TIMEOUTS: Final = MappingProxyType({"rtsp": "timeout", "rtsps": "timeout", "tcp": "timeout", "udp": "timeout"})
_HOST: Final = re.compile(r"[\w.-]+|[0-9a-fA-F:.]+(%\w+)?")
_LEAST_SECRET: Final = 3
"""Characters of a text that is hidden wherever it stands; hiding shorter ones would make messages unreadable."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something live to read.

    Attributes:
        name: For messages and results: without user names, passwords and keys.
        camera: The number of a camera of this machine; None for an address.
        address: The address with its secrets, which no message shows; empty for a camera.
    """

    name: str
    camera: int | None = None
    address: str = field(default="", repr=False)

    @property
    def scheme(self) -> str:
        """The protocol of the address, in lower case; empty for a camera."""
        return self.address.partition("://")[0].lower()

    def options(self, timeout_s: float) -> Mapping[str, str]:
        """The options with which FFmpeg opens the address.

        Args:
            timeout_s: After this much silence, a connection is given up.
        """
        scheme = self.scheme
        return {
            "protocol_whitelist": PROTOCOLS[scheme],
            "fpsprobesize": "0",  # nobody waits for a second of frames to be counted
            _TIMEOUTS.get(scheme, "rw_timeout"): str(round(timeout_s * 1_000_000)),
            **_OWN_OPTIONS.get(scheme, {}),
        }

    def hide(self, text: str) -> str:
        """A text, such as a message of FFmpeg, without the secrets of the address."""
        text = text.replace(self.address, self.name) if self.address else text
        for secret in self._secrets():
            text = text.replace(secret, HIDDEN)
        return without_secrets(text)

    def _secrets(self) -> list[str]:
        user = USER.search(self.address)
        parts = [] if user is None else [user[0][:-1], *user[0][:-1].split(":", 1)]
        parts += [match[0][len(match[1]) :] for match in SECRET.finditer(self.address)]
        spellings = {spelling for part in parts for spelling in (part, unquote(part))}
        return sorted((one for one in spellings if len(one) >= _LEAST_SECRET), key=len, reverse=True)


def target_of(text: str) -> Target:
    """Read what the user wrote.

    Args:
        text: The number of a camera, or an address with one of the schemes of `PROTOCOLS`.

    Raises:
        InputError: it is neither.
    """
    if text.isascii() and text.isdecimal() and len(text) <= _CAMERA_DIGITS:
        return Target(f"camera {int(text)}", int(text))
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() not in PROTOCOLS:
        raise InputError(
            "is not a live source",
            subject=without_secrets(text),
            expected=f"the number of a camera, such as 0, or an address that begins with {', '.join(PROTOCOLS)}",
        )
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
        is_whole = bool(_HOST.fullmatch(host) or (not host and scheme.lower() in {"udp", "rtp"} and port))
    except ValueError:  # a port that is not a number, or a broken IPv6 address
        is_whole = False
    if not is_whole or any(letter.isspace() or not letter.isprintable() for letter in rest):
        place = text.rpartition("@")[2].rpartition("://")[2]  # what is before may be secret
        subject = f"{scheme}://{without_secrets(place)}"
        raise InputError("is not a valid address", subject=subject, expected=f"{scheme}://HOST[:PORT]/PATH")
    return Target(without_secrets(text), None, text)


def targets_of(texts: list[str]) -> list[Target]:
    """Read several; those that look alike without their secrets get a number.

    Raises:
        InputError: one is not a live source, or is given twice.
    """
    found: list[Target] = []
    for text in texts:
        target = target_of(text)
        if any((one.camera, one.address) == (target.camera, target.address) for one in found):
            raise InputError("is given twice", subject=target.name, hint="name each camera once")
        alike = sum(one.name.split(" (", 1)[0] == target.name for one in found)
        found.append(Target(f"{target.name} ({alike + 1})", target.camera, target.address) if alike else target)
    return found
