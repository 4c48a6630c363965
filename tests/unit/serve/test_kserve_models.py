"""What the protocol says of a model."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest

import yoloship
from helpers.serving import cat_model, loaded_of, segment_model
from yoloship.errors import InputError
from yoloship.kserve.datatypes import NUMPY_TYPES
from yoloship.model import DTYPES, TensorSpec
from yoloship.serve.kserve_models import Counts, config_of, datatype_of, metadata_of, statistics_of
from yoloship.serve.kserve_network import Network


def described(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with yoloship.load(path) as detector:

        async def of_network() -> tuple[dict[str, Any], dict[str, Any]]:
            network = Network.of(loaded_of(detector))
            return metadata_of("m", network), config_of("m", network, detector.info)

        return asyncio.run(of_network())


@pytest.mark.parametrize("dtype", sorted(DTYPES - {"float8_e4m3fn"}))
def test_each_type_of_elements_has_a_datatype_of_the_protocol(dtype: Any) -> None:
    assert datatype_of(TensorSpec("x", dtype, (1,))) in NUMPY_TYPES


def test_a_type_of_elements_that_the_protocol_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="x: KServe's protocol has no such element type: got float8_e4m3fn"):
        datatype_of(TensorSpec("x", "float8_e4m3fn", (1,)))


def test_a_fixed_batch_is_part_of_the_shapes(tmp_path: Path) -> None:
    metadata, config = described(cat_model(tmp_path))
    assert metadata["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [1, 3, 64, 64]}]
    assert metadata["outputs"] == [{"name": "output0", "datatype": "FP32", "shape": [1, 252, 7]}]
    assert config["max_batch_size"] == 0
    assert config["input"][0]["dims"] == [1, 3, 64, 64]


def test_an_open_batch_is_that_of_the_configuration(tmp_path: Path) -> None:
    metadata, config = described(segment_model(tmp_path))
    assert [one["shape"][0] for one in metadata["inputs"] + metadata["outputs"]] == [-1, -1, -1]
    assert config["max_batch_size"] > 1
    assert config["input"][0]["dims"] == [3, 64, 64]
    assert [one["name"] for one in config["output"]] == ["output0", "output1"]
    assert {one["data_type"] for one in config["input"] + config["output"]} == {"TYPE_FP32"}


def test_the_metadata_for_ultralytics_client_is_a_python_literal(tmp_path: Path) -> None:
    _, config = described(cat_model(tmp_path))
    assert ast.literal_eval(config["parameters"]["metadata"]["string_value"]) == {
        "task": "detect",
        "stride": 32,
        "batch": 1,
        "imgsz": [64, 64],
        "names": {0: "cat", 1: "dog"},
        "channels": 3,
        "end2end": False,
    }


def test_statistics_add_up_in_nanoseconds() -> None:
    class Ran:
        counts = Counts(
            answered=3, images=4, last_s=2.5, total_s=0.3, queue_s=0.1, network_s=0.2, runs={2: (1, 0.1), 1: (2, 0.1)}
        )

    found = statistics_of("m", Ran())  # type: ignore[arg-type]  # all that it looks at
    assert (found["inference_count"], found["execution_count"], found["last_inference"]) == (4, 3, 2500)
    assert found["inference_stats"]["success"] == {"count": 3, "ns": 300_000_000}
    assert found["inference_stats"]["compute_infer"] == {"count": 3, "ns": 200_000_000}
    assert [one["batch_size"] for one in found["batch_stats"]] == [1, 2]
    assert found["batch_stats"][0]["compute_infer"] == {"count": 2, "ns": 100_000_000}


def test_a_model_that_has_done_nothing_has_statistics_of_nothing() -> None:
    found = statistics_of("m", None)
    assert (found["inference_count"], found["batch_stats"]) == (0, [])
