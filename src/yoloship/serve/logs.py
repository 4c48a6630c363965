"""The log of the server on stderr: a line of text or of JSON for each request and event."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Final, Literal

from yoloship._util.strict_json import json_text
from yoloship.errors import visible

LogForm = Literal["json", "text", "none"]
_NAME: Final = "yoloship.serve"
_OTHERS: Final = (("uvicorn.error", logging.WARNING), ("asyncio", logging.ERROR))
"""Loggers of libraries, whose lines would otherwise have a different form, and the lowest level written from each."""


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One JSON object."""
        facts: dict[str, Any] = getattr(record, "facts", None) or {"message": record.getMessage()}
        line = {"time": _time(record), "level": record.levelname.lower(), **facts}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json_text(line)


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One line of text, followed by the traceback of an error."""
        line = f"{_time(record)} {record.levelname.lower()} {visible(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def begin_log(form: LogForm) -> None:
    """Write what the server logs to stderr, and nowhere else.

    Args:
        form: ``json``, ``text``, or ``none``, which writes errors only, as text.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _TextLines())
    for name, level in ((_NAME, logging.INFO), *_OTHERS):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.ERROR if form == "none" else level)


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
