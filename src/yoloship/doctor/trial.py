"""Run one trial in a process of its own: some libraries end the process that tries them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 90.0
MARK = "yoloship-trial:"
"""What the line with the answer begins with; libraries print lines of their own."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How a trial ended.

    Attributes:
        works: Whether what was tried did what it should.
        facts: What it found out: versions, names, numbers.
        problem: Why it does not work; empty where it does.
        elapsed_s: Start of the process included.
    """

    works: bool
    facts: Mapping[str, Any]
    problem: str
    elapsed_s: float


PROGRAM = (
    "import sys; sys.path[:] = filter(None, sys.path); from yoloship.doctor import trials; trials.main(sys.argv[1])"
)
"""Without the working directory on the path: a file of the user's that is named like a library is not run."""


def run_trial(name: str, *, timeout_s: float = TIMEOUT_S, program: str = PROGRAM) -> TrialResult:
    """Try something and live to tell.

    Args:
        name: Of a function in `yoloship.doctor.trials`.
        timeout_s: After which it is ended; some calls without a driver hang for ever.
        program: That runs a trial, as Python text.
    """
    started_s = time.monotonic()
    command = [sys.executable, "-c", program, name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603 - our own
    except subprocess.TimeoutExpired:
        return TrialResult(False, MappingProxyType({}), f"did not answer within {timeout_s:g} s", timeout_s)
    except OSError as error:
        return TrialResult(False, MappingProxyType({}), f"cannot be started: {error}", 0.0)
    elapsed_s = time.monotonic() - started_s
    for line in reversed(done.stdout.decode("utf-8", "replace").splitlines()):
        if line.startswith(MARK) and done.returncode == 0:
            answer = json.loads(line.removeprefix(MARK))
            return TrialResult(
                not answer["problem"], MappingProxyType(answer["facts"]), str(answer["problem"]), elapsed_s
            )
    return TrialResult(False, MappingProxyType({}), _ending(done.returncode, done.stderr), elapsed_s)


def _ending(code: int, stderr: bytes) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the process that tried it crashed ({name})"
    last = stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
    return f"the process that tried it ended with code {code}: {last[0][:200]}"
