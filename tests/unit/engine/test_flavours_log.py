from __future__ import annotations

import pytest

from yoloship.engine import Flavour
from yoloship.engine.flavours import Messages, listening, tidy


@pytest.mark.parametrize(
    ("said", "tidied"),
    [
        (
            "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Network has dynamic or shape inputs, but "
            "no optimization profile has been defined. In validate at /_src/optimizer/api/network.cpp:4023)",
            "Network has dynamic or shape inputs, but no optimization profile has been defined.",
        ),
        ("ModelImporter.cpp:140: While parsing node number 1", "While parsing node number 1"),
        ("two\nlines", "two lines"),
        ("x" * 500, "x" * 397 + "..."),
    ],
)
def test_messages_are_told_without_places_in_foreign_sources(said: str, tidied: str) -> None:
    assert tidy(said) == tidied


def test_the_first_error_counts_and_each_warning_once() -> None:
    messages = Messages([("WARNING", "a"), ("ERROR", "first"), ("WARNING", "a"), ("INTERNAL_ERROR", "second")])
    assert messages.first_error == "first"
    assert messages.warnings == ("a",)
    assert Messages().first_error is None


def test_warnings_that_every_quantized_graph_gives_are_not_passed_on() -> None:
    said = "(foreignNode) Converting conv activation scales to fp32."
    assert Messages([("WARNING", said), ("WARNING", "a"), ("ERROR", said)]).warnings == ("a",)


def test_one_logger_serves_all_who_listen_at_that_moment(rtx: Flavour) -> None:
    severity = rtx.module.ILogger.Severity
    with listening(rtx) as (logger, outer):
        with listening(rtx) as (same, inner):
            assert same is logger
            logger.log(severity.ERROR, "both")
            logger.log(severity.INFO, "nobody asked")
        logger.log(severity.WARNING, "one")
    logger.log(severity.ERROR, "none")
    assert outer.heard == [("ERROR", "both"), ("WARNING", "one")]
    assert inner.heard == [("ERROR", "both")]


def test_a_builder_hears_its_own_errors_while_a_runtime_lives(rtx: Flavour) -> None:
    """TensorRT ignores a second logger while an object of the first lives; there is no second one."""
    with listening(rtx) as (logger, _):
        runtime = rtx.module.Runtime(logger)
        with listening(rtx) as (_, messages):
            assert runtime.deserialize_cuda_engine(b"vtrt" + bytes(100)) is None
        assert messages.first_error
