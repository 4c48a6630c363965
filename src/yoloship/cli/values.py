"""Option values with a form of their own."""

from __future__ import annotations

import re

import typer

DYNAMIC = "dynamic"


def image_size(text: str) -> tuple[int, int] | None:
    """``640`` → (640, 640); ``384x640`` → (384, 640), height first; ``dynamic`` → None.

    Raises:
        typer.BadParameter: anything else.
    """
    if text.lower() == DYNAMIC:
        return None
    match = re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", text.strip())
    if match is None or not int(match[1]) or (match[2] and not int(match[2])):
        raise typer.BadParameter(f"{text!r} is not a size: give 640, HxW such as 384x640, or {DYNAMIC}")
    height = int(match[1])
    return height, int(match[2]) if match[2] else height


def batch_size(text: str) -> int | None:
    """``4`` → 4; ``dynamic`` → None.

    Raises:
        typer.BadParameter: anything else.
    """
    if text.lower() == DYNAMIC:
        return None
    if not re.fullmatch(r"\d{1,5}", text.strip()) or not int(text):
        raise typer.BadParameter(f"{text!r} is no batch size: give 1 or more, or {DYNAMIC}")
    return int(text)


def class_list(text: str | None) -> tuple[int | str, ...] | None:
    """``person,car,2`` → ("person", "car", "2"); names win over ids; None where nothing was asked for.

    Raises:
        typer.BadParameter: no class between the commas.
    """
    if text is None:
        return None
    classes = tuple(part.strip() for part in text.split(",") if part.strip())
    if not classes:
        raise typer.BadParameter("no class given: write names or ids, such as person,car,2")
    return classes
