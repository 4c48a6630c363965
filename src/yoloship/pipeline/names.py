"""Class names and strides in the metadata that other tools write into ONNX files, as untrusted text."""

from __future__ import annotations

import ast
import re
from typing import Final

MAX_CHARS: Final = 1_000_000

_STRING: Final = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\""""
_LIST: Final = re.compile(rf"\s*({_STRING})\s*(?:,|$)")
_DICT: Final = re.compile(rf"\s*['\"]?(\d{{1,6}})['\"]?\s*:\s*({_STRING})\s*(?:,|$)")


def parse_names(text: str) -> tuple[str, ...] | None:
    """Class names from ``{0: 'person', 1: 'bicycle'}`` or ``['person', 'bicycle']``, as Python or as JSON.

    The brackets' inside is matched item by item, so nesting and size cannot hurt; nothing is evaluated but a string.

    Args:
        text: The metadata's value.

    Returns:
        Names by class id, or None where the text is nothing of the kind, or ids are missing or repeated.
    """
    text = text.strip()
    if len(text) > MAX_CHARS or len(text) < 2 or (text[0], text[-1]) not in {("{", "}"), ("[", "]")}:
        return None
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
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, str) else None
