from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from helpers.models import scale_and_shift
before = dict(os.environ)
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
with OnnxRuntimeSession.open(scale_and_shift().SerializeToString()):
    pass
assert dict(os.environ) == before
"""


@pytest.mark.parametrize("chosen", [None, "0"])
def test_a_session_leaves_nothing_in_the_home_folder_and_the_environment_as_it_was(
    tmp_path: Path, chosen: str | None
) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in {"XDG_CACHE_HOME"}}
    environment["HOME"] = str(tmp_path)
    if chosen is not None:
        environment["ORT_DISABLE_TELEMETRY"] = chosen
    tests = str(Path(__file__).parents[3])
    subprocess.run([sys.executable, "-c", PROGRAM, tests], env=environment, check=True)
    if chosen is None:
        assert not list(tmp_path.rglob("*")), "the user's own choice counts only where there is one"
