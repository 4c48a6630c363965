from __future__ import annotations

import json

from helpers.cli import run


def test_what_works_gives_exit_code_0() -> None:
    ran = run("doctor", "--for", "export")
    assert ran.code == 0
    assert "export     works: checkpoints to ONNX" in ran.out


def test_what_was_asked_for_and_does_not_work_gives_exit_code_1(monkeypatch: object) -> None:
    from yoloship.cuda.device import find_gpu

    ran = run("doctor", "--for", "cuda", "--json")
    data = json.loads(ran.out)["capabilities"]["cuda"]
    assert ran.code == (0 if data["works"] else 1)
    if find_gpu() is None:
        assert not data["works"]
        assert data["fix"]


def test_an_unknown_capability_is_refused() -> None:
    ran = run("doctor", "--for", "flying")
    assert ran.code == 2
    assert "Invalid value for --for: 'flying' is not one of detect, export" in " ".join(ran.err.split())
