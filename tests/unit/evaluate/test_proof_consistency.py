"""Reports whose fields are of the right types, and whose values cannot be true together."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

import pytest

from yoloship.errors import InputError
from yoloship.evaluate.matching import Agreement, LevelDifference
from yoloship.evaluate.measure import Detail
from yoloship.evaluate.proof import proof_of
from yoloship.evaluate.proof_consistency import check_consistency
from yoloship.evaluate.verification import Side, Tolerances, Verification, judge

SIDE = Side(
    name="best.onnx", session="onnxruntime 1.32.0 (CPU)", precision="float32", output_form="raw", detections=3,
    run_ms=1.25, total_ms=2.5, map50_95=0.5, input_hw=(640, 640),
)  # fmt: skip
FOUND = Verification(
    (SIDE, SIDE), 4, 0.25, (LevelDifference(8, 100, 0.1, 0.01, 5, 0.5, 0.1),), Agreement(3, 3, 3, 3),
    (0.99, 1.0, 0.98), ((0.5, 0.51), (0.9, 0.9), (0.3, 0.29)),
)  # fmt: skip
ENGINE = {
    "flavour": "tensorrt", "version": "10.13.0.35", "built_on": "sm89", "runs_on": "sm89", "dtypes": ["float32"],
    "profiles": [{"minimum": [1, 3, 640, 640], "optimum": [4, 3, 640, 640], "maximum": [8, 3, 640, 640]}],
    "targets": [], "hardware_compatibility": "none", "version_compatible": False, "optimization_level": None,
}  # fmt: skip
GPU = {"name": "Orin", "compute_capability": "sm87", "memory_gib": 30.0, "cuda": "12.6", "integrated": True}


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    onnx = tmp_path_factory.mktemp("proof") / "best.onnx"
    onnx.write_bytes(b"\x08\x08\x12\x00")
    made = proof_of(judge(FOUND, Tolerances()), (onnx, onnx))
    made["sides"][1] |= {"kind": "engine", "engine": ENGINE}
    made["machine"]["gpus"] = [GPU]
    return made


def refusal(proof: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        check_consistency(proof, "proof.json")
    return str(caught.value).removeprefix("proof.json: report.")


def edited(proof: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(proof)
    *parents, last = path.split(".")
    place: Any = made
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[int(last) if last.isdigit() else last] = value
    return made


def test_a_report_as_it_is_written_is_taken(proof: dict[str, Any]) -> None:
    check_consistency(proof, "proof.json")


@pytest.mark.parametrize(
    "found",
    [
        FOUND,
        Verification((SIDE, SIDE), 4, 0.25, (), Agreement(3, 3, 2, 3), (0.6,) * 3, ((0.5, 0.1),) * 3),
        Verification(
            (SIDE, SIDE), 4, 0.25, (), Agreement(3, 3, 3, 3), (float("nan"),) * 3, ((0.5, float("inf")),) * 3,
            task="segment", details=(Detail("box IoU", "", 0.9, 0.8, "iou"),),
        ),
        Verification(
            (SIDE, SIDE), 3, 0.25, (), Agreement(3, 3, 2, 2), (), ((0.5, 700.0),) * 3, task="classify",
            details=(Detail("probability difference", "", 699.5, 699.5, "score"),),
        ),
    ],
    ids=["good", "another model", "broken numbers", "broken classes"],
)  # fmt: skip
def test_a_report_of_a_bad_model_is_taken_too(proof: dict[str, Any], tmp_path: Any, found: Verification) -> None:
    onnx = tmp_path / "best.onnx"
    onnx.write_bytes(b"\x08\x08\x12\x00")
    check_consistency(proof_of(judge(found, Tolerances()), (onnx, onnx)), "proof.json")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("date", "28.11.2026", "date is not a day that has begun: got 28.11.2026"),
        ("date", "20261128", "date is not a day that has begun: got 20261128"),
        ("date", "2026-02-30", "date is not a day that has begun: got 2026-02-30"),
        ("yoloship", "the newest", "yoloship is not a version: got the newest"),
        ("yoloship", "٣", "yoloship is not a version: got ٣"),
        ("machine.packages", {"tensorrt": "/opt/trt"}, "machine.packages.tensorrt is not a version: got /opt/trt"),
        ("machine.gpus.0.cuda", "", "machine.gpus[0].cuda is not a version: got"),
        ("machine.gpus.0.compute_capability", "8.7", "machine.gpus[0].compute_capability is not of the form sm89: got"),
        ("machine.gpus.0.memory_gib", -8.0, "machine.gpus[0].memory_gib must not be negative: got -8.0"),
        ("images", 0, "images must be at least 1: got 0"),
        ("score_threshold", 25.0, "score_threshold must be between 0 and 1: got 25.0"),
        ("sides.0.run_ms", -1.0, "sides[0].run_ms must not be negative: got -1.0"),
        ("sides.1.total_ms", -0.1, "sides[1].total_ms must not be negative: got -0.1"),
        ("sides.0.kind", "png", "sides[0].kind must be one of checkpoint, engine, onnx, unknown: got png"),
        ("sides.0.input_hw", [640], "sides[0].input_hw is not a height and a width: got [640]"),
        ("sides.0.accuracy", 51.0, "sides[0].accuracy must be between 0 and 1: got 51.0"),
        ("sides.0.engine", ENGINE, "sides[0].engine describes an engine, but the file is of another kind: got onnx"),
        ("sides.1.engine.flavour", "trt", "sides[1].engine.flavour must be one of tensorrt, rtx, lean: got trt"),
        ("sides.1.engine.version", "ten", "sides[1].engine.version is not a version: got ten"),
        ("sides.1.engine.hardware_compatibility", "all", "sides[1].engine.hardware_compatibility is unknown: got all"),
        ("sides.1.engine.profiles.0.maximum", [2, 3, 640, 640], "sides[1].engine.profiles[0] is not a smallest, usual"),
        ("sides.1.engine.profiles.0.maximum", [8, 3, 640], "sides[1].engine.profiles[0] is not a smallest, usual"),
        ("levels.0.relevant", 101, "levels[0].relevant is more than the 100 cells: got 101"),
        ("levels.0.cells", -1, "levels[0].cells must not be negative: got -1"),
        ("agreement.second_seen", 4, "agreement.second_seen is more than the 3 that were found: got 4"),
        ("sides.0.detections", 2, "agreement.first_count differs from the 2 detections of sides[0]: got 3"),
        ("overlap", "mask IoU", "overlap is 'IoU' for the task detect: got mask IoU"),
        ("task", "classify", "overlap is '' for the task classify: got IoU"),
        ("overlaps.count", 4, "score_differences are of other pairs than the overlaps: got 3"),
        ("overlaps", None, "score_differences are of other pairs than the overlaps: got 3"),
        ("overlaps.mean", 1.5, "overlaps.mean must be between 0 and 1: got 1.5"),
        ("overlaps.worst", 0.995, "overlaps.mean is worse than the worst, 0.995: got 0.9"),
        ("score_differences.worst", 0.001, "score_differences.mean is worse than the worst, 0.001: got 0.006"),
        ("score_differences.mean", 0.0001, "checks[3].value differs from the report, which says 0.0001: got 0.006"),
        ("checks.0.name", "colour", "checks[0].name is not a check of this task: got colour"),
        ("checks.1.value", 0.5, "checks[1].value differs from the report, which says 1.0: got 0.5"),
        ("checks.3.limit", 0.005, "checks[3].passed contradicts the value 0.00666"),
        ("checks.3.limit", None, "checks[3].limit is missing: got None"),
        ("checks.3.passed", False, "checks[3].passed contradicts the value 0.00666"),
        ("checks.3.is_floor", True, "checks[3].is_floor is wrong for 'mean score difference': got True"),
        ("checks.4.is_floor", True, "checks[4].is_floor is wrong for 'mAP lost': got True"),
        ("checks", [], "checks have no 'agreement': got 0"),
        ("passed", False, "passed contradicts the checks: got False"),
    ],
)
def test_a_contradiction_is_refused_by_name(proof: dict[str, Any], path: str, value: Any, message: str) -> None:
    assert refusal(edited(proof, path, value)).startswith(message)


def test_a_day_that_has_not_begun_anywhere_is_refused(proof: dict[str, Any]) -> None:
    today = dt.datetime.now(dt.timezone.utc).date()
    assert refusal(edited(proof, "date", str(today + dt.timedelta(days=9)))).startswith("date is not a day that has")


def test_a_pass_with_a_difference_above_its_limit_is_refused(proof: dict[str, Any]) -> None:
    made = edited(proof, "score_differences", {"count": 3, "mean": 0.3, "tail": 0.4, "worst": 0.4})
    made["checks"][3]["value"] = 0.3
    assert refusal(made) == "checks[3].passed contradicts the value 0.3 and the limit 0.02: got True"
    made["checks"][3]["passed"] = False
    assert refusal(made) == "passed contradicts the checks: got True"
    made["passed"] = False
    check_consistency(made, "proof.json")
