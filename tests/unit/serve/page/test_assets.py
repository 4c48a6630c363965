"""The files of the page: a closed table, small, cached by tag, and shut against everything from outside."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from helpers.serving import cat_model, served, settings_of
from yoloship.serve.keys import ApiKeys
from yoloship.serve.page.assets import ASSETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers.serving import InProcess

FOLDER = files("yoloship.serve.page")
TEXTS = {path: (FOLDER / name).read_text(encoding="utf-8") for path, (name, _) in ASSETS.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    settings = settings_of(cat_model(tmp_path_factory.mktemp("models")), keys=ApiKeys(("k" * 20,)), watch_s=0)
    running = served(settings)
    with running as one:
        yield one


def test_the_page_is_small_and_whole() -> None:
    assert sum(len(text.encode()) for text in TEXTS.values()) < 150_000
    names = {one.name for one in FOLDER.iterdir() if one.is_file() and not one.name.endswith(".py")}
    assert names == {name for name, _ in ASSETS.values()}


@pytest.mark.parametrize("path", ASSETS)
def test_each_file_is_open_although_the_server_asks_for_keys(server: InProcess, path: str) -> None:
    answer = server.ask("GET", path)
    assert (answer.status_code, answer.text) == (200, TEXTS[path])
    assert answer.headers["content-type"].startswith(ASSETS[path][1])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert server.ask("GET", "/v1/models").status_code == 401


def test_a_browser_that_has_a_file_gets_only_its_tag(server: InProcess) -> None:
    first = server.ask("GET", "/page/main.js")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    for known in (tag, f'W/{tag}, "other"', "*"):
        again = server.ask("GET", "/page/main.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert server.ask("GET", "/page/main.js", headers={"If-None-Match": '"other"'}).status_code == 200


def test_nothing_but_the_listed_files_is_served(server: InProcess) -> None:
    for path in (
        "/page/",
        "/page/assets.py",
        "/page/../keys.py",
        "/page/%2e%2e/keys.py",
        "/page/main.js%0A",
        "/page/MAIN.js",
    ):
        answer = server.ask("GET", path, headers={"X-API-Key": "k" * 20})
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "NotFoundError")


def test_the_policy_allows_no_inline_code_and_no_other_host(server: InProcess) -> None:
    policy = dict(part.split(" ", 1) for part in server.ask("GET", "/").headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in str(policy)
    assert "http" not in str(policy)


def test_the_page_names_no_other_host_and_has_no_inline_code() -> None:
    html = TEXTS["/"]
    assert re.findall(r"<script(?![^>]*src=)|<style| style=| on\w+=", html) == []
    without_namespace = "".join(TEXTS.values()).replace('"http://www.w3.org/2000/svg"', "")
    assert re.findall(r"https?://|//[a-z]+\.[a-z]", without_namespace) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", "".join(TEXTS.values())) == []


def test_every_import_of_a_script_is_served() -> None:
    imported = {f"/page/{name}" for text in TEXTS.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert imported | {"/page/main.js"} == {path for path in ASSETS if path.endswith(".js")}


def test_the_interface_describes_the_page_but_not_its_parts(server: InProcess) -> None:
    paths = server.ask("GET", "/openapi.json").json()["paths"]
    assert "/" in paths
    assert not [path for path in paths if path.startswith("/page/")]
    assert "/page/" not in server.ask("GET", "/docs").text
