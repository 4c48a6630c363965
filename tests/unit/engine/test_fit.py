from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from helpers.engine_records import ADA, HERE, MODEL, VERSION, plan_bytes, record_of
from yoloship.cuda.device import GpuInfo
from yoloship.engine import BuildConfig, Installation, Range, Recipe, place_name, rebuild_command, runs_on
from yoloship.engine.file import PlanHeader
from yoloship.engine.fit import check_fit
from yoloship.errors import EngineError

PLAN = plan_bytes()
RTX = PlanHeader("rtx", VERSION)
FULL = PlanHeader("tensorrt", None)


def on(compute_capability: tuple[int, int], **versions: str) -> Installation:
    device = replace(ADA, name="NVIDIA GPU", compute_capability=compute_capability)
    return Installation(MappingProxyType(versions or {"rtx": VERSION}), device)  # type: ignore[arg-type]


def refusal(installation: Installation, header: PlanHeader = RTX, **changes: Any) -> str:
    with pytest.raises(EngineError) as caught:
        check_fit(record_of(PLAN, **changes), header, installation, subject="best.engine", engine_name="best.engine")
    return str(caught.value)


def fits(installation: Installation, header: PlanHeader = RTX, **changes: Any) -> str:
    return check_fit(record_of(PLAN, **changes), header, installation, subject="best.engine", engine_name="best.engine")


def test_an_engine_of_another_version_is_refused_with_the_command_that_rebuilds_it() -> None:
    installation = Installation(MappingProxyType({"rtx": "1.8.0.1"}), ADA)
    assert refusal(installation) == (
        "best.engine: was built by another version of TensorRT: expected tensorrt_rtx 1.7.1.116, got tensorrt_rtx "
        "1.8.0.1; build it again: yoloship build best.onnx -o best.engine --overwrite --flavour rtx --batch 1:4:8"
    )


def test_an_engine_of_a_flavour_that_is_not_installed_is_refused_with_the_command_that_installs_it() -> None:
    assert refusal(on((8, 9), tensorrt="10.9.0")) == (
        "best.engine: needs tensorrt_rtx, which is not installed: expected tensorrt_rtx 1.7.1.116, got tensorrt; "
        "install it with: pip install 'yoloship[rtx]'"
    )


def test_an_engine_without_a_gpu_is_refused_before_tensorrt_is_asked() -> None:
    assert refusal(Installation(HERE.versions, None)).startswith(
        "best.engine: needs an NVIDIA GPU to run (tensorrt_rtx): got no driver, or no GPU; 'yoloship doctor"
    )


@pytest.mark.parametrize("found", [(8, 6), (8, 9), (12, 0), (12, 1), (13, 0)])
def test_a_portable_engine_runs_on_every_gpu_that_rtx_serves_by_default(found: tuple[int, int]) -> None:
    assert fits(on(found)) == "rtx"


@pytest.mark.parametrize("found", [(7, 5), (8, 0), (9, 0), (10, 0)])
def test_a_portable_engine_is_refused_on_the_others(found: tuple[int, int]) -> None:
    text = refusal(on(found))
    assert "was built for another GPU: expected sm86, sm89, sm120 or newer, got NVIDIA GPU (sm" in text


def test_an_engine_in_fp8_needs_a_gpu_that_has_it() -> None:
    assert "expected sm89, sm120 or newer (it computes in FP8)" in refusal(on((8, 6)), dtypes=("float8_e4m3fn",))
    assert fits(on((8, 9)), dtypes=("float8_e4m3fn",)) == "rtx"


def test_an_engine_with_targets_runs_on_those_alone() -> None:
    config = BuildConfig(targets=("sm75", "sm89"))
    assert fits(on((7, 5)), config=config) == "rtx"
    assert "expected sm75 or sm89, got NVIDIA GPU (sm86)" in refusal(on((8, 6)), config=config)


def test_an_engine_for_the_gpu_at_hand_runs_on_its_like_alone() -> None:
    config = BuildConfig(targets=("current",))
    assert fits(on((8, 9)), config=config, compute_capability="sm89") == "rtx"
    assert "expected sm89, got NVIDIA GPU (sm120)" in refusal(on((12, 0)), config=config, compute_capability="sm89")


def test_the_gpu_that_rtx_refuses_is_pointed_to_the_other_flavour() -> None:
    assert refusal(on((9, 0))).endswith("--overwrite --flavour tensorrt --batch 1:4:8")


def test_an_engine_of_the_full_flavour_runs_on_its_own_compute_capability() -> None:
    known: dict[str, Any] = {"flavour": "tensorrt", "version": "10.9.0.34", "compute_capability": "sm90"}
    assert fits(on((9, 0), tensorrt="10.9.0.34"), FULL, **known) == "tensorrt"
    assert "expected sm90, got NVIDIA GPU (sm89)" in refusal(on((8, 9), tensorrt="10.9.0.34"), FULL, **known)


def test_hardware_compatibility_widens_that_to_ampere_and_newer() -> None:
    known: dict[str, Any] = {"flavour": "tensorrt", "version": "10.9", "compute_capability": "sm86"}
    config = BuildConfig(hardware_compatibility="ampere_plus")
    assert fits(on((12, 0), tensorrt="10.9"), FULL, config=config, **known) == "tensorrt"
    assert "expected sm80 or newer, got NVIDIA GPU (sm75)" in refusal(
        on((7, 5), tensorrt="10.9"), FULL, config=config, **known
    )


def test_a_version_compatible_engine_runs_on_later_versions_and_on_lean() -> None:
    known: dict[str, Any] = {"flavour": "tensorrt", "version": "10.9.0.34", "compute_capability": "sm89"}
    config = BuildConfig(version_compatible=True)
    assert fits(on((8, 9), tensorrt="10.12.0.1"), FULL, config=config, **known) == "tensorrt"
    assert fits(on((8, 9), lean="10.12.0.1"), FULL, config=config, **known) == "lean"
    assert "another version" in refusal(on((8, 9), tensorrt="11.0.0"), FULL, config=config, **known)
    assert "another version" in refusal(on((8, 9), tensorrt="10.8.0"), FULL, config=config, **known)
    assert "another version" in refusal(on((8, 9), tensorrt="10.12.0.1"), FULL, **known)


def test_an_engine_without_a_sidecar_is_judged_by_its_header() -> None:
    assert check_fit(None, RTX, HERE, subject="best.engine", engine_name="best.engine") == "rtx"
    with pytest.raises(EngineError, match=r"was built by another version.*expected tensorrt_rtx 1\.6\.0\.1"):
        check_fit(None, PlanHeader("rtx", "1.6.0.1"), HERE, subject="best.engine", engine_name="best.engine")
    with pytest.raises(EngineError, match="needs tensorrt, which is not installed"):
        check_fit(None, FULL, HERE, subject="best.engine", engine_name="best.engine")


def test_the_command_that_rebuilds_says_everything_that_was_ordered() -> None:
    config = BuildConfig(
        batch=Range(1, 1, 2),
        height=Range(320, 640, 640),
        width=Range(320, 640, 1280),
        workspace_bytes=1 << 30,
        targets=("sm86", "sm89"),
        optimization_level=3,
    )
    assert rebuild_command(record_of(PLAN, config=config, source_name="my best.onnx"), "out.engine") == (
        "yoloship build 'my best.onnx' -o out.engine --overwrite --flavour rtx --batch 1:1:2 "
        "--imgsz 320x320:640x640:640x1280 "
        "--workspace 1073741824B --target sm86 --target sm89 --optimization-level 3"
    )


def test_the_command_that_rebuilds_from_a_checkpoint_names_the_graph_too() -> None:
    record = record_of(PLAN, source_name="best.bin", recipe=Recipe(from_checkpoint=True))
    assert rebuild_command(record, "best.engine") == (
        "yoloship build best.bin -o best.engine --overwrite --flavour rtx --batch 1:4:8 --input float --output raw "
        "--imgsz 640x640"
    )


def test_a_device_names_its_compute_capability_as_targets_do() -> None:
    assert GpuInfo(0, "GPU", (12, 1), 1, (13, 0)).sm == "sm121"


def test_the_command_that_rebuilds_names_a_precision_that_was_made_on_the_way() -> None:
    half, eighth = replace(MODEL, precision="float16"), replace(MODEL, precision="int8")
    plain = rebuild_command(record_of(PLAN, model=half), "best.engine")
    assert "--precision" not in plain
    lowered = record_of(PLAN, model=half, recipe=Recipe(precision="float16"))
    assert rebuild_command(lowered, "best.engine") == f"{plain} --precision float16"
    recipe = Recipe(
        precision="int8", calibrate=("photos", "more/*.jpg"), labels="truth", calibrator="entropy", max_drop=0.003,
        other_layers="float32", renamed=True, aliases=("fork.C3=models.common.C3",),
    )  # fmt: skip
    assert rebuild_command(record_of(PLAN, model=eighth, recipe=recipe), "best.engine") == (
        f"{plain} --precision int8 --calibrate photos --calibrate 'more/*.jpg' --labels truth --calibrator entropy "
        "--max-drop 0.003 --other-layers float32 --alias fork.C3=models.common.C3 --names 'hard hat,vest'"
    )


@pytest.mark.parametrize(
    ("source", "precision", "recipe"),
    [
        ("best.pt", "float32", Recipe(from_checkpoint=True)),
        ("best.pt", "float16", Recipe(from_checkpoint=True, precision="float16")),
        ("best.onnx", "float16", Recipe()),
        ("best.onnx", "float32", Recipe()),
    ],
)
def test_the_recipe_of_an_engine_that_was_built_from_python_is_guessed(
    source: str, precision: Any, recipe: Recipe
) -> None:
    assert Recipe.guessed(source, replace(MODEL, precision=precision)) == recipe
    assert Recipe.guessed("best.onnx", None) == Recipe()


def test_class_names_that_hold_commas_need_a_file() -> None:
    model = replace(MODEL, class_names=("hat, hard", "vest"))
    record = record_of(PLAN, model=model, recipe=Recipe(renamed=True))
    assert rebuild_command(record, "best.engine").endswith(" --names NAMES.txt")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("photos", "photos"), ("../a/b/*.jpg", "../a/b/*.jpg"), ("/home/jane/secret/photos/", "photos"), ("a\nb", "a_b")],
)
def test_a_sidecar_names_folders_without_saying_where_on_a_machine_they_lie(given: str, kept: str) -> None:
    assert place_name(given) == kept


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "portable"),
        ({"compute_capability": "sm89"}, "portable"),  # where it was built is not where it is bound to
        ({"dtypes": ("float32", "float8_e4m3fn")}, "portable, from sm89 on"),
        ({"config": BuildConfig(targets=("sm89", "sm120"))}, "sm89, sm120"),
        ({"config": BuildConfig(targets=("current",)), "compute_capability": "sm120"}, "sm120"),
        ({"flavour": "tensorrt", "compute_capability": "sm90"}, "sm90"),
        (
            {
                "flavour": "tensorrt",
                "compute_capability": "sm90",
                "config": BuildConfig(hardware_compatibility="ampere_plus"),
            },
            "sm80 or newer",
        ),
    ],
)
def test_which_gpus_an_engine_is_for_is_said_in_a_few_words(changes: dict[str, Any], words: str) -> None:
    assert runs_on(record_of(plan_bytes(), **changes)) == words
