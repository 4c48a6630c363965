"""``yoloship serve`` in a process of its own: ready, answers, and ends with its requests answered."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from helpers.cli import run
from helpers.serving import JPEG, PHOTO, PREDICT, cat_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process at once there")
def test_the_server_says_where_it_listens_answers_and_ends_with_0_when_it_is_asked_to(tmp_path: Path) -> None:
    model = cat_model(tmp_path)
    command = [sys.executable, "-m", "yoloship", "serve", str(model), "--port", "0", "--log", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            first = process.stderr.readline()
            address = re.fullmatch(r"serve: (http://127\.0\.0\.1:\d+)/\n", first)
            assert address is not None, first
            line = first
            while "is ready" not in line:
                line = process.stderr.readline()
                assert line, "it ended"
            answer = httpx.post(address[1] + PREDICT, content=PHOTO, headers=JPEG, timeout=None)
            assert answer.json()["detections"][0]["class_name"] == "cat"
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait() == 0
        finally:
            process.kill()
    assert '"status": 200' in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nothing.onnx", "--port", "0"], 1, "error: nothing.onnx: no such file"),
        (["a.onnx", "--tls-key", "k.pem"], 2, "--tls-key is for --tls-cert"),
        (["a.onnx", "b/a.onnx"], 1, "a: two models have this name"),
        (["a.onnx", "--deadline", "nan"], 2, "not a valid number"),
        (["a.onnx", "--api-keys", "nothing.txt"], 1, "nothing.txt"),
        (["bad name=a.onnx"], 1, "cannot be the name of a model"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(arguments: list[str], code: int, words: str) -> None:
    done = run("serve", *arguments)
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err
