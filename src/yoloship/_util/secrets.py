"""Addresses without what is secret in them: user names, passwords, keys and tokens."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"
USER: Final = re.compile(
    r"(?<=://)(?:[^/?#\s]*@"  # to the last @, because passwords may contain one
    r"|(?!\[)[^/?#@:\s]*:(?![0-9]{1,5}(?:[/?#]|$))\S*@)"  # and those that should have been escaped are secret too
)
"""The user name and the password of an address, with the @."""
SECRET: Final = re.compile(
    r"((?:user|login|account|pass|pwd|token|key|secret|auth|sign|sig|credential)[a-z_.-]*=)"
    r"(?:(?!_[a-z]+=)[^&;/#\s])*",  # some cameras take user=NAME_password=WORD_channel=1 in the path
    re.IGNORECASE,
)
"""A part of an address that is secret by its name, which is the first group."""


def without_secrets(text: str) -> str:
    """A text in which addresses have no user names and passwords, and no values of keys and tokens."""
    return SECRET.sub(rf"\1{HIDDEN}", USER.sub("", text))
