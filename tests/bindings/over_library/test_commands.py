"""The commands from a checkpoint to boxes, with an engine that the real bindings built and run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from helpers.cli import run
from helpers.networks import float_network, operator_network
from yoloship.demo.run import checkpoint_bytes
from yoloship.demo.scene import make_scene
from yoloship.engine import read_engine
from yoloship.sinks import write_image

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.tensorrt_library.host import Library
    from yoloship.engine import Flavour


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`codes.pt`, the engine that `build` made of it, and `scene.png`."""
    place = tmp_path_factory.mktemp("commands")
    (place / "codes.pt").write_bytes(checkpoint_bytes())
    write_image(make_scene(1).image, place / "scene.png", overwrite=True)
    options = ["--imgsz", "640", "--batch", "1:1:2", "--input", "image", "--output", "heads"]
    ran = run("build", place / "codes.pt", "--flavour", "tensorrt", *options)
    assert ran.code == 0, ran
    return place


def boxes(ran: Any) -> list[tuple[str, float]]:
    assert ran.code == 0, ran
    (image,) = json.loads(ran.out)
    return sorted((found["class_name"], round(found["score"], 3)) for found in image["detections"])


def test_an_engine_finds_what_its_checkpoint_finds(folder: Path) -> None:
    options = [str(folder / "scene.png"), "--no-draw", "--json", "-"]
    wanted = boxes(run("detect", folder / "codes.pt", *options, "--imgsz", "640"))
    assert len(wanted) > 3
    assert boxes(run("detect", folder / "codes.engine", *options)) == wanted


def test_verify_says_that_they_agree(folder: Path) -> None:
    ran = run(
        "verify", folder / "codes.pt", folder / "codes.engine", "--images", folder / "scene.png", "--imgsz", "640"
    )
    assert ran.code == 0, ran


def test_bench_measures_it(folder: Path, tensorrt: Flavour) -> None:
    ran = run("bench", folder / "codes.engine", "--rounds", "1", "--runs", "1", "--seconds", "0", "--json", "-")
    assert ran.code == 0, ran
    assert tensorrt.version in ran.out


def test_inspect_asks_tensorrt_itself(folder: Path, tensorrt: Flavour) -> None:
    ran = run("inspect", folder / "codes.engine", "--json")
    assert ran.code == 0, ran
    facts = json.loads(ran.out)
    assert facts["not_loaded"] is None
    (image,) = [tensor for tensor in facts["loaded"]["tensors"] if tensor["is_input"]]
    assert (image["dtype"], image["shape"]) == ("uint8", [-1, 640, 640, 3])
    assert image["profiles"] == [[[1, 640, 640, 3], [1, 640, 640, 3], [2, 640, 640, 3]]]
    assert len(facts["loaded"]["layers"]) > 50
    assert facts["sidecar"]["version"] == tensorrt.version


def test_doctor_finds_it_working(tensorrt: Flavour) -> None:
    ran = run("doctor", "--for", "tensorrt", "--json")
    assert ran.code == 0, ran
    assert tensorrt.version in ran.out


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(float_network().SerializeToString())
    return path


@pytest.mark.parametrize(
    ("options", "attribute", "value"),
    [
        (["--workspace", "1GB"], "workspace_bytes", 1 << 30),
        (["--optimization-level", "4"], "optimization_level", 4),
        (["--hardware-compatibility", "ampere_plus"], "hardware_compatibility", "ampere_plus"),
        (["--version-compatible"], "version_compatible", True),
    ],
)
def test_an_option_of_build_reads_back(small: Path, options: list[str], attribute: str, value: object) -> None:
    ran = run("build", small, "--flavour", "tensorrt", *options)
    assert ran.code == 0, ran
    record = read_engine(small.with_suffix(".engine")).record
    assert record is not None
    assert getattr(record.config, attribute) == value


def test_timings_are_kept_for_the_next_build_and_rubbish_is_refused(
    small: Path, tmp_path: Path, tensorrt: Flavour
) -> None:
    cache = tmp_path / "timings"
    for _ in range(2):
        ran = run("build", small, "--flavour", "tensorrt", "--timing-cache", cache, "--overwrite")
        assert ran.code == 0, ran
        assert cache.read_bytes() == b"stand-in timings\n"
    cache.write_bytes(b"rubbish")
    ran = run("build", small, "--flavour", "tensorrt", "--timing-cache", cache, "--overwrite")
    assert ran.error == f"{tensorrt.title}: cannot make its timing cache: not a timing cache"


def test_a_level_that_a_version_lacks_is_refused_by_name(small: Path, tensorrt: Flavour) -> None:
    ran = run("build", small, "--flavour", "tensorrt", "--hardware-compatibility", "same_compute_capability")
    if hasattr(tensorrt.module.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY"):
        assert ran.code == 0, ran
    else:
        assert ran.error == (
            f"{tensorrt.title}: does not know it: expected AMPERE_PLUS, NONE, got SAME_COMPUTE_CAPABILITY"
        )


def test_targets_are_refused_by_name(small: Path, tensorrt: Flavour) -> None:
    assert run("build", small, "--flavour", "tensorrt", "--target", "8.9").error == (
        f"{tensorrt.title}: option targets has no effect here: it has no IBuilderConfig.set_compute_capability; leave "
        "it out, or choose another flavour (--flavour)"
    )


@pytest.mark.parametrize(("operator", "name", "domain"), [("NonZero", "find_them", ""), ("Magic", "", "acme")])
def test_an_unsupported_operator_is_named(small: Path, operator: str, name: str, domain: str) -> None:
    onnx.save(operator_network(operator, name=name, domain=domain), small)
    error = run("build", small, "--flavour", "tensorrt").error
    assert f"cannot take operator {operator} (node 0, {name or 'without a name'}): UNSUPPORTED_NODE, false" in error


@pytest.mark.parametrize(
    ("kind", "command"), [("Builder", "build"), ("OnnxParser", "build"), ("Runtime", "inspect"), ("Runtime", "detect")]
)
def test_an_object_that_is_not_made_is_one_line_with_tensorrts_reason(
    folder: Path, small: Path, library: Library, kind: str, command: str
) -> None:
    engine = str(folder / "codes.engine")
    words = {
        "build": ["build", str(small), "--flavour", "tensorrt"], "inspect": ["inspect", engine],
        "detect": ["detect", engine, str(folder / "scene.png"), "--no-draw"],
    }[command]  # fmt: skip
    with library.without(kind, "CUDA initialization failure with error: 46"):
        ran = run(*words)
    told = " ".join((ran.out + ran.err).split())
    assert f"cannot make its {kind}: CUDA initialization failure with error: 46" in told
    assert "another process holds the GPU" in told
    assert "Traceback" not in told
