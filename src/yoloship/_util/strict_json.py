"""JSON of strangers, by the letter of its standard: `parse_strict_json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_strict_json(text: str | bytes) -> Any:
    """Read a JSON document in which nothing can be taken in two ways.

    Raises:
        ValueError: it is not one, has NaN or an infinity, or has a key twice.
        RecursionError: it is too deep.
    """
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found
