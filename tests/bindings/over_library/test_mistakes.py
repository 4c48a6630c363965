"""What the bindings and the library notice if the product does it wrong: each mistake is planted in a process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from helpers.tensorrt_library.wheels import chosen

SCENARIOS = ("run_once", "run_two_at_once", "build")
SAID = {
    "arguments of set_tensor_address in the wrong order": r"^TypeError: set_tensor_address\(\): incompatible",
    "arguments of set_shape in the wrong order": r"TensorRT refuses the optimization profile$",
    "a shape that is too short": r"static dimensions of images differ$",
    "memory that is freed too early": r"the 36864 bytes of images are not allocated$",
    "memory that is too small": r"the 36864 bytes of images are not allocated$",
    "an address that is not set": r"no address for output0$",
    "a profile that is not set": r"no optimization profile is set$",
    "a stream of another device": r"the stream is not one of the engine's device$",
    "the default stream": r"the stream is not one of the engine's device$",
    "a pool written as a number": r"set_memory_pool_limit\(\): incompatible function arguments",
    "a network that dies before its parser reads": r"IParser::parse, on its network: called on an object that has been",
    "an engine that dies before its context": r"VCudaEngine was destroyed before 1 made by it",
}
AS_A_NUMBER = "a flag written as a number"


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "helpers.tensorrt_library.mistakes"],
        env={**os.environ, "STAND_IN_DEVICES": "2"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, dict[str, Any]] = json.loads(done.stdout)
    assert {*outcomes} == {*SCENARIOS, "run_on_another_device", *SAID, AS_A_NUMBER}
    return outcomes


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_a_mistake_nothing_is_said(found: dict[str, dict[str, Any]], scenario: str) -> None:
    assert found[scenario] == {"status": 0, "said": ""}


def test_the_product_refuses_a_stream_of_another_device_itself(found: dict[str, dict[str, Any]]) -> None:
    assert "is a stream of another device: expected cuda:0, got cuda:1" in found["run_on_another_device"]["said"]


@pytest.mark.parametrize("mistake", SAID)
def test_a_mistake_is_noticed(found: dict[str, dict[str, Any]], mistake: str) -> None:
    assert found[mistake]["status"] != 0
    assert re.search(SAID[mistake], found[mistake]["said"], re.MULTILINE), found[mistake]


def test_a_flag_written_as_a_number_is_noticed_where_the_number_is_another(found: dict[str, dict[str, Any]]) -> None:
    """STRONGLY_TYPED is 1 in 10.x and 0 from 11 on."""
    is_11 = (chosen() or "").startswith("11")
    assert (found[AS_A_NUMBER]["status"] != 0) is is_11
    assert ("cannot make its network" in found[AS_A_NUMBER]["said"]) is is_11
