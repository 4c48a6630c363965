"""Damaged foreign ONNX files through `load` and a detection, in a process of their own: a runtime can end it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 400
PROGRAM = """
import random, resource, sys
sys.path.insert(0, {tests!r})
import numpy as np
from helpers.graphs import ours
from helpers.models import constant_raw, empty_rows
from yoloship.errors import YoloshipError
from yoloship.models.loading import load

resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
constant = constant_raw(empty_rows((64, 96)), (64, 96), {{"names": "['a', 'b', 'c']"}})
del ours().metadata_props[:]
whole = [model.SerializeToString() for model in (constant, ours())]
graphs = [whole[0].index(b"ReduceMax"), whole[1].index(b"Conv")]
image, ran = np.zeros((64, 96, 3), np.uint8), 0
for seed in range({first}, {first} + {count}):
    chance = random.Random(seed)
    which = chance.randrange(2)
    data = bytearray(whole[which])
    for _ in range(chance.randint(1, 4)):
        near = chance.random() < 0.7  # where the nodes are, not among the weights
        place = min(len(data) - 1, graphs[which] + chance.randrange(4000)) if near else chance.randrange(len(data))
        kind = chance.random()
        if kind < 0.6:
            data[place] = chance.randrange(256)
        elif kind < 0.8:
            del data[place : place + chance.randint(1, 4)]
        else:
            data[place:place] = chance.randbytes(chance.randint(1, 3))
    print(seed, flush=True)
    try:
        with load(bytes(data)) as detector:
            detector(image)
        ran += 1
    except YoloshipError as error:
        assert "\\n" not in str(error), seed
assert 0 < ran < {count}, ran
"""


FEW_THREADS = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""So that the address space that a process takes does not grow with the cores."""


@pytest.mark.skipif(sys.platform == "win32", reason="limits on memory are those of POSIX systems")
@pytest.mark.parametrize("first", [0, 10_000])
def test_damaged_detectors_run_or_are_refused_and_never_end_the_process(first: int) -> None:
    program = PROGRAM.format(tests=str(Path(__file__).parents[1]), first=first, count=COUNT)
    environment = {**os.environ, **FEW_THREADS}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-2000:])
