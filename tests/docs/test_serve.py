"""The examples of the page on serving that ask a server for tensors run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from helpers.models import finds_a_cat
from helpers.serving import listening, settings_of

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"


def test_the_examples_of_clients_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = PAGE.read_text(encoding="utf-8").split("## KServe v2", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    path = tmp_path / "best.onnx"
    onnx.save(finds_a_cat((640, 640)), str(path))
    with listening(settings_of(path)) as port:
        for block in blocks:
            assert "127.0.0.1:8000" in block
            names: dict[str, object] = {}
            exec(block.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), names)
            names["client"].close()  # type: ignore[attr-defined]  # both have one
    assert capsys.readouterr().out == "(1, 25200, 7)\n{'output0': (1, 25200, 7)}\n"
