"""``yoloship triton check`` ends with 0 or 1, and says why in one line."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from helpers.cli import run
from helpers.images import saved, smooth
from helpers.serving import cat_model, listening, settings_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(smooth(48, 64), "JPEG"))
    return path


def test_equal_answers_end_with_0_and_a_table(tmp_path: Path, photo: Path) -> None:
    model = cat_model(tmp_path)
    with listening(settings_of(model)) as port:
        ran = run("triton", "check", f"127.0.0.1:{port}", "--model", model, photo, "--json", tmp_path / "r.json")
        again = run("triton", "check", f"127.0.0.1:{port}", "--model", model, photo, "--json", tmp_path / "r.json")
        none = run("triton", "check", f"127.0.0.1:{port}", "--model", model, photo, "--conf", "0.99")
    assert ran.code == 0, ran
    assert "pass" in ran.out
    assert json.loads((tmp_path / "r.json").read_bytes())["passed"] is True
    assert again.error.startswith(f"{tmp_path / 'r.json'}: ")
    assert none.code == 1
    assert none.err == (
        f"error: neither {model} nor the server detects anything with a score above 0.99 (--conf), so nothing was "
        "compared\n"
    )


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, photo: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        ran = run("triton", "check", f"127.0.0.1:{port}", "--model", cat_model(tmp_path), photo)
    assert ran.error.startswith(f"http://127.0.0.1:{port}: cannot be reached: ")


@pytest.mark.timeout(60)
def test_a_server_that_says_nothing_is_waited_for_no_longer_than_the_timeout(tmp_path: Path, photo: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        ran = run("triton", "check", address, "--model", cat_model(tmp_path), photo, "--timeout", "0.2")
    assert ran.error == f"http://{address}: cannot be reached: timed out; is the server started?"


@pytest.mark.parametrize("url", ["ftp://a", "http://", "http://a b", "http://u@h:1"])
def test_what_is_no_address_is_refused(tmp_path: Path, photo: Path, url: str) -> None:
    ran = run("triton", "check", url, "--model", cat_model(tmp_path), photo)
    assert ran.error == f"{url}: is not the address of a server: expected http://HOST:PORT"


def test_the_model_is_asked_for(tmp_path: Path, photo: Path) -> None:
    ran = run("triton", "check", "localhost:8000", photo)
    assert ran.code == 2
    assert "Usage: yoloship triton check" in ran.err
    assert "Missing option '--model'" in ran.err
