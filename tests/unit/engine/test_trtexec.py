"""The command of NVIDIA's tool that is equal to a build, and that no option is left out of it."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest

from helpers.engine_records import MODEL, plan_bytes, record_of
from yoloship.engine import BuildConfig, InputProfile
from yoloship.engine.sidecar import Recipe
from yoloship.engine.trtexec import equal_commands, trtexec_command

PROFILE = InputProfile("images", (1, 3, 64, 64), (4, 3, 64, 64), (16, 3, 64, 64))


def test_a_build_with_every_option_has_each_of_them() -> None:
    config = BuildConfig(
        workspace_bytes=3 << 29,
        hardware_compatibility="ampere_plus",
        version_compatible=True,
        optimization_level=5,
        timing_cache=Path("my timings.bin"),
    )
    found = trtexec_command("tensorrt", config, [PROFILE], onnx="best.onnx", engine="best.engine")
    assert found == (
        "trtexec --onnx=best.onnx --saveEngine=best.engine --stronglyTyped --minShapes=images:1x3x64x64 "
        "--optShapes=images:4x3x64x64 --maxShapes=images:16x3x64x64 --memPoolSize=workspace:1536 "
        "--hardwareCompatibilityLevel=ampere+ --versionCompatible --builderOptimizationLevel=5 "
        "'--timingCacheFile=my timings.bin' --profilingVerbosity=detailed --skipInference"
    )


def test_a_static_build_has_no_shapes() -> None:
    assert trtexec_command("tensorrt", BuildConfig(), [], onnx="a.onnx", engine="a.engine") == (
        "trtexec --onnx=a.onnx --saveEngine=a.engine --stronglyTyped --profilingVerbosity=detailed --skipInference"
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BuildConfig(), ""),
        (BuildConfig(targets=("portable",)), ""),
        (BuildConfig(targets=("current",)), "--useGpu "),
        (BuildConfig(targets=("sm89", "sm120")), "--computeCapabilities=89,120 "),
    ],
)
def test_targets_are_those_of_tensorrt_rtx_and_its_networks_are_always_strongly_typed(
    config: BuildConfig, words: str
) -> None:
    assert trtexec_command("rtx", config, [], onnx="a.onnx", engine="a.engine") == (
        f"tensorrt_rtx --onnx=a.onnx --saveEngine=a.engine {words}--profilingVerbosity=detailed --skipInference"
    )


def test_a_name_with_a_colon_is_quoted_as_the_tool_takes_it() -> None:
    profile = InputProfile("in:0", (1, 2), (1, 2), (3, 2))
    found = trtexec_command("tensorrt", BuildConfig(), [profile], onnx="a.onnx", engine="a.engine")
    assert "--maxShapes='in:0':3x2" in shlex.split(found)


def test_a_fraction_of_a_mebibyte_is_kept() -> None:
    found = trtexec_command("tensorrt", BuildConfig(workspace_bytes=(1 << 20) + 1024), [], onnx="a", engine="b")
    assert "--memPoolSize=workspace:1.0009765625 " in found


def test_no_option_of_a_build_is_without_a_word() -> None:
    """Batch, height and width are in the profiles; every other field must be handled above."""
    assert {field.name for field in fields(BuildConfig)} == {
        "batch", "height", "width", "input_profiles", "workspace_bytes", "targets", "hardware_compatibility",
        "version_compatible", "optimization_level", "timing_cache",
    }  # fmt: skip


def test_an_onnx_file_that_the_build_has_changed_is_not_claimed_to_be_equal() -> None:
    record = record_of(plan_bytes())
    (build,) = equal_commands(record, "cam.engine", changed=False)
    assert build.startswith("tensorrt_rtx --onnx=best.onnx --saveEngine=cam.engine --minShapes=images:1x3x640x640 ")
    said, same = equal_commands(record, "cam.engine", changed=True)
    assert said == "# build changed the graph of best.onnx; export its checkpoint with the same options instead"
    assert same == build


def test_the_graph_of_a_checkpoint_is_exported_first() -> None:
    recipe = Recipe(from_checkpoint=True, precision="float16", renamed=True)
    dynamic = replace(MODEL, input_hw=(None, None))
    record = record_of(plan_bytes(), source_name="best.pt", recipe=recipe, model=dynamic)
    export, build = equal_commands(record, "cam.engine", changed=True)
    assert export == (
        "yoloship export best.pt -o cam.onnx --precision float16 --input float --output raw --imgsz dynamic "
        "--batch dynamic --names 'hard hat,vest'"
    )
    assert "--onnx=cam.onnx" in build
