"""Class names and strides in the metadata that other tools write into ONNX files, as untrusted text."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from typing import Final

MAX_CHARS: Final = 1_000_000

_STRING: Final = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\""""
_LIST: Final = re.compile(rf"\s*({_STRING})\s*(?:,|$)")
_DICT: Final = re.compile(rf"\s*['\"]?(\d{{1,6}})['\"]?\s*:\s*({_STRING})\s*(?:,|$)")


def parse_names(text: str) -> tuple[str, ...] | None:
    """Class names from ``{0: 'person', 1: 'bicycle'}`` or ``['person', 'bicycle']``, as Python or as JSON.

    Other forms in which they are unambiguous are those that a checkpoint may have as well: a tuple, a table from name
    to id, names without quotes. Texts are matched item by item, so nesting and size cannot hurt; nothing is evaluated
    but a string.

    Args:
        text: The metadata's value.

    Returns:
        Names by class id, or None where the text is nothing of the kind, or ids are missing or repeated.
    """
    text = text.strip()
    if len(text) > MAX_CHARS or len(text) < 2 or (text[0], text[-1]) not in {("{", "}"), ("[", "]"), ("(", ")")}:
        return None
    return _quoted(text) or _as_in_checkpoints(text)


def _as_in_checkpoints(text: str) -> tuple[str, ...] | None:
    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.names import read_names

    return read_names(text, None, Limits()).names or None


def _quoted(text: str) -> tuple[str, ...] | None:
    """The forms that exports have, whose names are quoted and may hold any character."""
    inside, pattern = text[1:-1].strip(), _DICT if text[0] == "{" else _LIST
    names: dict[int, str] = {}
    at = 0
    while at < len(inside):
        match = pattern.match(inside, at)
        if match is None:
            return None
        class_id = int(match[1]) if pattern is _DICT else len(names)
        name = _string(match[match.lastindex or 0])
        if name is None or class_id in names:
            return None
        names[class_id] = name
        at = match.end()
    if not names or set(names) != set(range(len(names))):
        return None
    return tuple(names[class_id] for class_id in range(len(names)))


def _string(literal: str) -> str | None:
    if literal[0] == '"':  # JSON writes characters beyond 0xFFFF as two halves, which Python would not join
        with contextlib.suppress(ValueError, RecursionError):
            return str(json.loads(literal))
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, str) else None
