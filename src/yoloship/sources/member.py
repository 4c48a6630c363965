"""One entry of an archive: `Member`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

MemberKind: TypeAlias = Literal["file", "folder", "link", "special file"]
_DRIVE: Final = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """An entry of an archive.

    Attributes:
        name: A path without ``..`` and without a root, whatever the archive says.
        kind: What it is. Links are not followed.
        read: Reads its bytes; to be called before the next member is asked for. It raises an `InputError` if it
            cannot be read.
        is_encrypted: Whether it can be read only with a password.
    """

    name: str
    kind: MemberKind
    read: Callable[[], bytes]
    is_encrypted: bool = False


def safe_path(name: str) -> str:
    r"""The plain path of a member: ``b/c.jpg`` for ``../b/./c.jpg``, ``/b/c.jpg`` and ``C:\b\c.jpg``."""
    plain = name.partition("\0")[0].replace("\\", "/")
    parts = plain[2 if _DRIVE.match(plain) else 0 :].split("/")
    return "/".join(part for part in parts if part not in {"", ".", ".."})
