"""JSON as its standard defines it (RFC 8259): `parse_strict_json` reads it, `json_text` and `json_document` write it.

Python's own module also reads and writes NaN and infinities, which other programs refuse.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn

from yoloship.errors import visible_json

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
        raise ValueError("a key appears twice")
    return found


def json_text(data: object, *, indent: int | None = None) -> str:
    """Plain data as JSON that is safe to show. A number that is not finite, which JSON cannot express, becomes null."""
    try:
        text = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(with_finite_numbers(data), indent=indent, ensure_ascii=False, allow_nan=False)
    return visible_json(text)


def json_document(data: object, indent: int | None = 2) -> bytes:
    """Like `json_text`, in UTF-8 with a newline at the end."""
    return f"{json_text(data, indent=indent)}\n".encode()


def with_finite_numbers(data: Any) -> Any:
    """The same plain data with None for each number that is not finite."""
    if isinstance(data, dict):
        return {key: with_finite_numbers(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [with_finite_numbers(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
