"""The log's lines, as text and as JSON."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest

from yoloship.serve.logs import begin_log

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("yoloship.serve", "uvicorn.error", "asyncio")]
    before = [(logger, logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_a_line_of_json_has_the_facts_of_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    begin_log("json")
    logging.getLogger("yoloship.serve.requests").info("x", extra={"facts": {"id": "1", "path": "/a\x1b"}})
    line = json.loads(capsys.readouterr().err)
    assert (line["id"], line["path"], line["level"]) == ("1", "/a\x1b", "info")


def test_a_line_of_text_is_safe_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    begin_log("text")
    logging.getLogger("yoloship.serve").warning("path %s", "/a\x1b[31m\n")
    assert capsys.readouterr().err.endswith("warning path /a\\x1b[31m\\x0a\n")


def test_without_a_log_errors_are_still_said(capsys: pytest.CaptureFixture[str]) -> None:
    begin_log("none")
    logging.getLogger("yoloship.serve").info("hello")
    logging.getLogger("yoloship.serve").error("broken")
    err = capsys.readouterr().err
    assert "hello" not in err
    assert "broken" in err


def test_a_fault_has_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    begin_log("json")
    try:
        raise ValueError("deep")
    except ValueError:
        logging.getLogger("yoloship.serve").exception("failed")
    assert "ValueError: deep" in json.loads(capsys.readouterr().err)["trace"]


@pytest.mark.parametrize("name", ["uvicorn.error", "asyncio"])
def test_lines_of_libraries_have_the_same_form(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    begin_log("json")
    logging.getLogger(name).error("broken \x1b[31m")
    logging.getLogger(name).info("shutting down")
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["broken \x1b[31m"]
