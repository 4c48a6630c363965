"""Damaged ONNX files through the whole build, in a process of their own: TensorRT's parser can end it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.networks import require_rtx

COUNT = 120
PROGRAM = """
import random, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from onnx import TensorProto
from helpers.networks import float_network, half_network, quantized_network
from yoloship.engine import open_flavour
from yoloship.errors import YoloshipError
from yoloship.models.building import build

flavour, path = open_flavour("rtx"), Path({path!r})
whole = [model.SerializeToString() for model in (
    float_network(), quantized_network(TensorProto.INT8), half_network(TensorProto.FLOAT16))]
built = 0
for seed in range({first}, {first} + {count}):
    chance = random.Random(seed)
    data = bytearray(chance.choice(whole))
    for _ in range(chance.randint(1, 4)):
        place, kind = chance.randrange(len(data)), chance.random()
        if kind < 0.6:
            data[place] = chance.randrange(256)
        elif kind < 0.8:
            del data[place : place + chance.randint(1, 4)]
        else:
            data[place:place] = chance.randbytes(chance.randint(1, 3))
    path.write_bytes(bytes(data))
    print(seed, flush=True)
    try:
        build(path, flavour=flavour)
        built += 1
    except YoloshipError:
        pass
assert 0 < built < {count}, built
"""


@pytest.mark.parametrize("first", [100])
def test_damaged_graphs_are_built_or_refused_and_never_end_the_process(tmp_path: Path, first: int) -> None:
    require_rtx()
    tests = str(Path(__file__).parents[1])
    program = PROGRAM.format(tests=tests, path=str(tmp_path / "m.onnx"), first=first, count=COUNT)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-2000:])
