"""A small network for each head of each family, for the suites that run over all of them.

It stands as `SAMPLES` in the head's own test file, tests/unit/graph/heads/test_NAME.py, so that a new head with its
tests is all that the suites need.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from yoloship.graph.families import FAMILIES

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint

HEADS = Path(__file__).resolve().parents[1] / "unit" / "graph" / "heads"


def sample(family: str, task: str) -> Checkpoint:
    """The network of a family for a task: three classes, at least two levels, and objects in an image of noise."""
    head = FAMILIES.load(family)().head_for(task)
    assert head is not None
    file = HEADS / f"test_{head.__module__.rpartition('.')[2]}.py"
    spec = importlib.util.spec_from_file_location(f"samples_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (family, task) in module.SAMPLES, f"SAMPLES in {file} has no network of {family!r} for {task!r}"
    made: Checkpoint = module.SAMPLES[family, task]()
    return made
