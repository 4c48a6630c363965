"""Answers: the record of the sinks as JSON, or an annotated image; which of them a client accepts."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from starlette.responses import Response

from yoloship._util.strict_json import json_text
from yoloship.results.detections import Detections
from yoloship.serve.errors import FormError
from yoloship.sinks.annotated import JPEG_QUALITY
from yoloship.sinks.records import json_record
from yoloship.sinks.sink import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.errors import YoloshipError
    from yoloship.serve.engine import Answer, Times

    Outcome = tuple[str, Answer | YoloshipError]
    """The name of an image, and its answer or error."""

AnswerForm = Literal["json", "jpeg", "png"]
_FORMS: Final[Mapping[str, AnswerForm]] = MappingProxyType(
    {
        "application/json": "json",
        "application/*": "json",
        "*/*": "json",
        "image/jpeg": "jpeg",
        "image/*": "jpeg",
        "image/png": "png",
    }
)
_JSON: Final = "application/json"
_FEW_OBJECTS: Final = 10
"""Writing the JSON of this many takes up to 0.1 ms."""


def wanted_form(accept: str) -> AnswerForm:
    """The form that a client prefers.

    Args:
        accept: The header Accept, as RFC 9110, section 12.5.1, describes it; empty takes JSON.

    Raises:
        FormError: it accepts none of the available forms.
    """
    best: tuple[float, int, AnswerForm] | None = None
    for place, item in enumerate(accept.split(",")[:50] if accept.strip() else ["*/*"]):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        form = _FORMS.get(kind)
        weight = _weight(parameters)
        if form is not None and weight > 0 and (best is None or (weight, -place) > best[:2]):
            best = weight, -place, form
    if best is None:
        raise FormError(
            "cannot be given", subject="Accept", expected="application/json, image/jpeg or image/png", got=accept[:80]
        )
    return best[2]


def _weight(parameters: Sequence[str]) -> float:
    text = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0  # NaN is neither


def json_answer(outcomes: Sequence[Outcome], *, as_list: bool) -> bytes:
    """The record of one image, or ``{"results": [record, …]}``. A record of an image that failed has its error."""
    records = [
        json_record(
            Entry(name, None, outcome, index=index)
            if isinstance(outcome, Exception)
            else Entry(name, outcome.result, index=index)
        )
        for index, (name, outcome) in enumerate(outcomes)
    ]
    return b'{"results": [' + b", ".join(records) + b"]}" if as_list else records[0]


def is_quick(outcomes: Sequence[Outcome]) -> bool:
    """Whether their JSON takes less time than giving it to a thread: some objects of one image, without masks."""
    if len(outcomes) != 1 or isinstance(outcomes[0][1], Exception):
        return False
    result: Any = outcomes[0][1].result
    return not isinstance(result, Detections) or (len(result) <= _FEW_OBJECTS and result.masks is None)


def drawn_answer(answer: Answer, form: AnswerForm) -> bytes:
    """The annotated image, as a file.

    Args:
        answer: Has its image.
        form: ``jpeg`` or ``png``.
    """
    import cv2

    assert answer.image is not None, "it was asked for"
    drawn = answer.result.draw(answer.image)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if form == "jpeg" else []
    _, encoded = cv2.imencode(f".{form}", drawn, options)
    return bytes(encoded.tobytes())


def server_timing(times: Times) -> str:
    """The header Server-Timing: milliseconds of the stages (W3C Server Timing, section 2)."""
    stages = (
        ("decode", times.decode_s),
        ("queue", times.queue_s),
        ("network", times.network_s),
        ("total", times.total_s),
    )
    return ", ".join(f"{name};dur={seconds * 1e3:.2f}" for name, seconds in stages)


def json_response(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON that is safe to show."""
    return Response(json_text(data).encode(), status, headers, media_type=_JSON)
