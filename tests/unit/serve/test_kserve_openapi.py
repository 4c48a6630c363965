"""The addresses of KServe's protocol are described as they are."""

from __future__ import annotations

import json
from typing import Any

from yoloship.kserve.datatypes import NUMPY_TYPES
from yoloship.serve.kserve_openapi import KSERVE_SCHEMAS
from yoloship.serve.openapi import document
from yoloship.serve.routes import ENDPOINTS

PATHS: dict[str, Any] = document(ENDPOINTS, ["cat"])["paths"]


def test_the_schema_of_a_tensor_has_all_datatypes() -> None:
    tensor = KSERVE_SCHEMAS["InferRequest"]["properties"]["inputs"]["items"]
    assert tensor["properties"]["datatype"]["enum"] == list(NUMPY_TYPES)


def test_infer_takes_json_and_bytes_and_the_length_of_the_json() -> None:
    for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        operation = PATHS[path]["post"]
        assert list(operation["requestBody"]["content"]) == ["application/json", "application/octet-stream"]
        named = {one["name"]: one["in"] for one in operation["parameters"]}
        assert named["Inference-Header-Content-Length"] == named["X-Deadline-Ms"] == "header"
        assert {"400", "404", "413", "429", "503", "504"} <= operation["responses"].keys()
        assert "422" not in operation["responses"]


def test_errors_there_have_the_form_of_the_protocol() -> None:
    for path, methods in PATHS.items():
        assert ("schemas/KServeError" in json.dumps(methods)) <= path.startswith("/v2")
        if path.startswith("/v2"):
            assert "schemas/Error" not in json.dumps(methods)


def test_the_only_version_is_named() -> None:
    (version,) = [
        one for one in PATHS["/v2/models/{name}/versions/{version}"]["get"]["parameters"] if one["name"] == "version"
    ]
    assert version["schema"]["enum"] == ["1"]
