"""The addresses of KServe's protocol in the OpenAPI document: `describe_kserve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from yoloship.kserve.codec import HEAD_LENGTH
from yoloship.kserve.datatypes import NUMPY_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PARAMETERS: Final = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_TENSOR: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": list(NUMPY_TYPES)},
        "parameters": _PARAMETERS,
        "data": {"type": "array"},
    },
}
KSERVE_SCHEMAS: Final[Mapping[str, Any]] = {
    "KServeError": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "InferRequest": {
        "description": "A tensor has data, or the parameter binary_data_size and its bytes after the JSON.",
        "type": "object",
        "additionalProperties": False,
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "items": _TENSOR},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["name"],
                    "properties": {"name": {"type": "string", "minLength": 1}, "parameters": _PARAMETERS},
                },
            },
        },
    },
    "InferAnswer": {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": _TENSOR},
        },
    },
}
_LEFT_OUT: Final = frozenset({"406", "422", "502"})
"""Statuses that only requests with images have."""


def describe_kserve(
    path: str, operation: dict[str, Any], deadline: Mapping[str, Any], statuses: Sequence[tuple[str, str]]
) -> None:
    """Complete the description of an address of the protocol.

    Args:
        path: The address.
        operation: Its description so far, which is changed.
        deadline: The header for a deadline.
        statuses: Status and meaning of what can go wrong with a prediction.
    """
    responses = operation["responses"]
    for status in set(responses) - {"200"}:
        responses[status] = _error(responses[status]["description"])
    if path.endswith("/ready"):
        responses["503"] = {"description": "Not yet."}
    elif path.endswith("/index"):
        responses["400"] = _error("The body is not one that is known.")
        asked = {"type": "object", "additionalProperties": False, "properties": {"ready": {"type": "boolean"}}}
        operation["requestBody"] = {"content": {"application/json": {"schema": asked}}}
    elif "{name}" in path:
        responses["503"] = _error("The model is still being loaded.")
    if not path.endswith("/infer"):
        return
    length = {"type": "integer", "minimum": 1}
    operation["parameters"] += [
        {
            "name": HEAD_LENGTH,
            "in": "header",
            "schema": length,
            "description": "The length of the JSON, if the bytes of tensors follow it.",
        },
        dict(deadline),
    ]
    schema, binary = "#/components/schemas/InferRequest", {"schema": {"type": "string", "format": "binary"}}
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": schema}}, "application/octet-stream": binary},
    }
    operation["responses"] = {
        "200": {
            "description": "The outputs.",
            "headers": {HEAD_LENGTH: {"schema": length}, "Server-Timing": {"schema": {"type": "string"}}},
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/InferAnswer"}},
                "application/octet-stream": binary,
            },
        },
        **{status: _error(text) for status, text in statuses if status not in _LEFT_OUT},
    }


def _error(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/KServeError"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}
