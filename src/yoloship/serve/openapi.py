"""The API of the server as an OpenAPI 3.1 document and as a page. Both are made from the table of addresses."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, Final

from yoloship._version import __version__
from yoloship.serve.kserve_openapi import KSERVE_SCHEMAS, describe_kserve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from yoloship.serve.routes import Endpoint

_FRACTION: Final = {"type": "number", "minimum": 0, "maximum": 1}
_QUERY: Final[tuple[tuple[str, Mapping[str, Any], str], ...]] = (
    ("conf", _FRACTION, "Keep only boxes with a score above this."),
    ("iou", _FRACTION, "Drop a box whose IoU with a better box of its class is above this."),
    ("max_det", {"type": "integer", "minimum": 1, "maximum": 999_999}, "Keep at most this many boxes of an image."),
    ("agnostic_nms", {"type": "boolean"}, "Whether boxes of different classes suppress each other."),
    ("classes", {"type": "string", "minLength": 1}, "Keep only these classes: names or ids, separated by commas."),
)
_DEADLINE: Final[Mapping[str, Any]] = {
    "name": "X-Deadline-Ms",
    "in": "header",
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "Milliseconds within which the answer must arrive. The server's own deadline is the upper limit.",
}
_STATUSES: Final = (
    ("400", "The request is wrong: a parameter, a field, or a body that cannot be understood."),
    ("401", "The API key is missing or wrong."),
    ("404", "There is no such model."),
    ("406", "The answer is not available in a form that Accept allows."),
    ("408", "The body came too slowly."),
    ("413", "The body is too long, or has too many images."),
    ("415", "The type of the body is not supported."),
    ("422", "The image cannot be decoded, or is outside the limits."),
    ("429", "There is no room, or the deadline could not be met; Retry-After says when to try again."),
    ("500", "The model or the server failed; the log has the id of the request."),
    ("502", "The image at an address cannot be fetched."),
    ("503", "The model is still being loaded."),
    ("504", "The deadline passed."),
)
_IMAGE: Final = {
    "oneOf": [
        {"type": "string", "contentEncoding": "base64"},
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["data"],
            "properties": {
                "data": {"type": "string", "contentEncoding": "base64"},
                "name": {"type": "string"},
            },
        },
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["url"],
            "properties": {"url": {"type": "string"}, "name": {"type": "string"}},
        },
    ]
}
_SCHEMAS: Final[Mapping[str, Any]] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["type", "message", "request_id"],
                "properties": {name: {"type": "string"} for name in ("type", "message", "request_id")},
            }
        },
    },
    "Record": {
        "description": "The record of an image. Its other fields depend on the task of the model.",
        "type": "object",
        "required": ["input", "index"],
        "properties": {
            "input": {"type": "string"},
            "index": {"type": "integer"},
            "width": {"type": "integer"},
            "height": {"type": "integer"},
            "detections": {"type": "array", "items": {"type": "object"}},
            "error": {"type": "string"},
        },
    },
    "Records": {
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}}},
    },
}


def document(endpoints: Iterable[Endpoint], names: Sequence[str] = ()) -> dict[str, Any]:
    """The OpenAPI document of these addresses.

    Args:
        endpoints: The addresses.
        names: The names of the models that are served; empty leaves them open.
    """
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": "yoloship", "version": __version__, "description": "Models over HTTP."},
        "paths": paths,
        "components": {
            "schemas": {**_SCHEMAS, **KSERVE_SCHEMAS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(one: Endpoint, names: Sequence[str] = ()) -> dict[str, Any]:
    of_model = {"type": "string", "enum": [*names]} if names else {"type": "string"}
    schemas: Mapping[str, Any] = {"name": of_model, "version": {"type": "string", "enum": ["1"]}}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schemas[name]}
        for name in re.findall(r"\{(\w+)\}", one.path)
    ]
    operation: dict[str, Any] = {"summary": one.summary, "responses": {"200": {"description": "The answer."}}}
    is_predict = one.path.endswith("/predict")
    if parameters or is_predict:
        operation["parameters"] = parameters
        operation["responses"]["404"] = _error("There is no such model.")
    if one.path == "/readyz":
        operation["responses"]["503"] = {"description": "Models are being loaded."}
    if not one.is_open:
        operation["security"] = [{}, {"bearer": []}, {"header": []}]
        operation["responses"]["401"] = _error("The API key is missing or wrong.")
    if is_predict:
        _describe_predict(operation)
    if one.path.startswith("/v2"):
        describe_kserve(one.path, operation, {**_DEADLINE}, _STATUSES)
    return operation


def _describe_predict(operation: dict[str, Any]) -> None:
    operation["parameters"] += [
        {"name": name, "in": "query", "schema": dict(schema), "description": text} for name, schema, text in _QUERY
    ]
    operation["parameters"].append({**_DEADLINE})
    binary = {"schema": {"type": "string", "format": "binary"}}
    files = {
        "type": "object",
        "additionalProperties": {"type": "array", "items": {"type": "string", "format": "binary"}},
    }
    given = {
        "oneOf": [
            {"type": "object", "additionalProperties": False, "required": [name], "properties": {name: schema}}
            for name, schema in (("image", _IMAGE), ("images", {"type": "array", "minItems": 1, "items": _IMAGE}))
        ]
    }
    operation["requestBody"] = {
        "required": True,
        "content": {
            "image/jpeg": binary,
            "image/png": binary,
            "application/octet-stream": binary,
            "multipart/form-data": {"schema": files},
            "application/json": {"schema": given},
        },
    }
    schemas = [{"$ref": f"#/components/schemas/{name}"} for name in ("Record", "Records")]
    operation["responses"] = {
        "200": {
            "description": "The record of one image, a list of records, or the annotated image.",
            "headers": {
                "Server-Timing": {"schema": {"type": "string"}, "description": "decode, queue, network, total"}
            },
            "content": {"application/json": {"schema": {"oneOf": schemas}}, "image/jpeg": binary, "image/png": binary},
        },
        **{status: _error(text) for status, text in _STATUSES},
    }


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}


def docs_page(endpoints: Iterable[Endpoint]) -> str:
    """The addresses as an HTML page without scripts that loads nothing."""
    parts = []
    for one in endpoints:
        operation = _operation(one)
        rows = "".join(
            f"<tr><td><code>{html.escape(item['name'])}</code><td>{item['in']}"
            f"<td>{html.escape(item.get('description', ''))}"
            for item in operation.get("parameters", ())
        )
        answers = "".join(
            f"<tr><td><code>{status}</code><td colspan=2>{html.escape(answer['description'])}"
            for status, answer in operation["responses"].items()
        )
        bodies = ", ".join(operation.get("requestBody", {}).get("content", ()))
        parts.append(
            f"<section><h2><code>{one.method} {html.escape(one.path)}</code></h2><p>{html.escape(one.summary)}</p>"
            + (f"<p>Body: <code>{html.escape(bodies)}</code></p>" if bodies else "")
            + f"<table>{rows}{answers}</table></section>"
        )
    return _PAGE.replace("PARTS", "".join(parts)).replace("VERSION", __version__)


_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8">
<title>yoloship: the API of this server</title><meta name="viewport" content="width=device-width"><style>
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{font-size:1.1rem;margin:2rem 0 0}table{border-collapse:collapse;width:100%}td{padding:.2rem .8rem .2rem 0;
border-top:1px solid #8885;vertical-align:top}code{font-size:.95em}</style>
<h1>The API of this server</h1><p>yoloship VERSION. <a href="openapi.json">The same as an OpenAPI document</a>.
If the server asks for API keys, send one as <code>Authorization: Bearer KEY</code> or <code>X-API-Key: KEY</code>.</p>
<pre>curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' ADDRESS/v1/models/NAME/predict?conf=0.4</pre>PARTS
"""
