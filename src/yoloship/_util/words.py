"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number and its noun: `1 image`, `2 images`.

    Args:
        count: How many.
        one: The noun for one of them.
        many: The noun for any other number. Default: with an s.
    """
    return f"{count} {one if count == 1 else many or one + 's'}"
