"""The fuzzer of tools/fuzz, a few cases of it: it runs, it finds nothing, and it would find something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.shared import SHARED, require

ROOT = Path(__file__).resolve().parents[2]
FUZZER = ROOT / "tools" / "fuzz" / "checkpoints.py"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits on memory are those of POSIX systems")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FUZZER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_mutated_checkpoints_are_read_or_refused_and_nothing_else_happens(tmp_path: Path) -> None:
    done = run("--count", 300, "--seed", 7, "--keep", tmp_path / "kept", require(SHARED / "cases"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["cases"] == 300
    assert report["faults"] == []
    assert report["outcomes"]["refused while reading"] > 50
    assert report["outcomes"]["refused while exporting"] > 5
    assert report["peak_mb"] < 400
    assert not (tmp_path / "kept").exists()


def test_a_kept_case_can_be_tried_again(tmp_path: Path) -> None:
    from helpers import forge

    path = tmp_path / "case.pt"
    path.write_bytes(forge.zip_bytes(forge.end(forge.call("posix.system", forge.text("id")))))
    done = run("--replay", path)
    assert (done.returncode, done.stdout) == (0, "refused while reading\n")


BROKEN = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import checkpoints, mutations, os
sound = len(mutations.forged_seeds())
calls, original = 0, checkpoints.examine
def examine(data, *, export):
    global calls
    calls += 1
    if calls <= sound:
        return original(data, export=export)
    if calls == sound + 3:
        raise KeyError("x")
    if calls == sound + 5:
        os.mkdir("canary")
    return "read"
checkpoints.examine = examine
print(*checkpoints.work((1, 40, [], None)).faults, sep="\\n")
"""


def test_a_reader_that_raises_or_does_anything_else_is_found(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, str(FUZZER.parent), str(ROOT / "tests")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    raised, heard = done.stdout.splitlines()
    assert raised.startswith("case 1-2 of ")
    assert raised.endswith(": KeyError: 'x'")
    assert heard.startswith("case 1-4 of ")
    assert ": os.mkdir ('canary'" in heard
