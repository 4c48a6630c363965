"""The OpenAPI document and the page say what the server does."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from yoloship.serve.openapi import docs_page, document
from yoloship.serve.queries import PARAMETERS
from yoloship.serve.routes import ENDPOINTS


def test_every_address_is_in_the_document_and_every_reference_leads_somewhere() -> None:
    made = document(ENDPOINTS)
    assert {(one.method.lower(), one.path) for one in ENDPOINTS} == {
        (method, path) for path, methods in made["paths"].items() for method in methods
    }
    text = json.dumps(made)
    for part in text.split('"$ref": "#/components/schemas/')[1:]:
        assert part.partition('"')[0] in made["components"]["schemas"]


def test_the_parameters_of_the_document_are_those_that_are_read() -> None:
    predict = document(ENDPOINTS)["paths"]["/v1/models/{name}/predict"]["post"]
    assert {one["name"] for one in predict["parameters"] if one["in"] == "query"} == set(PARAMETERS)


def test_the_names_of_the_models_that_are_served_are_in_the_document() -> None:
    predict = document(ENDPOINTS, ["day", "night"])["paths"]["/v1/models/{name}/predict"]["post"]
    assert predict["parameters"][0]["schema"] == {"type": "string", "enum": ["day", "night"]}


def test_the_page_has_every_address_and_fetches_nothing() -> None:
    page = docs_page(ENDPOINTS)
    fetched: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            fetched.extend(value or "" for name, value in attrs if name == "src" or (tag == "link" and name == "href"))
            assert tag != "script"

    Reader().feed(page)
    assert fetched == []
    assert all(one.path in page for one in ENDPOINTS)
