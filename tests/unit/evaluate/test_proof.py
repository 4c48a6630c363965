"""The report that a user sends: what it contains, and that its reader takes nothing else.

tests/gpu/test_verify_engine.py writes one with an engine through the command.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from helpers.engine_records import plan_bytes, record_of, write
from yoloship.errors import InputError
from yoloship.evaluate.matching import Agreement, LevelDifference
from yoloship.evaluate.proof import MAX_BYTES, proof_of, proof_rows, read_proof
from yoloship.evaluate.verification import Side, Tolerances, Verification, judge


@pytest.fixture
def proof(tmp_path: Path) -> dict[str, Any]:
    plan = plan_bytes()
    engine = write(tmp_path / "my-secret.engine", plan, record_of(plan, compute_capability="sm89"))
    onnx = tmp_path / "my-secret.onnx"
    onnx.write_bytes(b"\x08\x08\x12\x00")
    sides = tuple(
        Side(
            name=str(path), session="onnxruntime 1.32.0 (CPU)", precision="float32", output_form="raw", detections=3,
            run_ms=1.25, total_ms=2.5, map50_95=None, top1=None, top5=None, head=None, input_hw=(640, 640),
        )
        for path in (onnx, engine)
    )  # fmt: skip
    found = Verification(
        (sides[0], sides[1]), 4, 0.25, (LevelDifference(8, 100, 0.1, 0.01, 5, 0.5, 0.1),), Agreement(3, 3, 3, 3),
        (0.99, 1.0, 0.98), ((0.5, 0.51), (0.9, 0.9), (0.3, 0.29)),
    )  # fmt: skip
    return proof_of(judge(found, Tolerances()), (onnx, engine))


def written(folder: Path, proof: Any) -> Path:
    path = folder / "proof.json"
    path.write_text(json.dumps(proof), encoding="utf-8")
    return path


def test_a_report_is_read_back_as_it_was_written(proof: dict[str, Any], tmp_path: Path) -> None:
    assert read_proof(written(tmp_path, proof)) == proof
    assert proof["sides"][1]["engine"]["built_on"] == "sm89"
    assert proof["score_differences"] == pytest.approx(
        {"count": 3, "mean": 0.00667, "tail": 0.01, "worst": 0.01}, abs=1e-4
    )


def test_it_names_no_file_class_or_hash(proof: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(proof)
    for word in (str(tmp_path), "secret", "hard hat", "sha256", "best.onnx", "images"):
        assert word not in text.replace('"images": 4', ""), word


def test_its_rows_say_what_ran(proof: dict[str, Any]) -> None:
    proof["machine"]["gpus"] = [
        {"name": "Orin", "compute_capability": "sm87", "memory_gib": 30.0, "cuda": "12.6", "integrated": True}
    ]
    rows = dict(proof_rows(proof))
    assert rows["gpu"] == "Orin, sm87, 30.0 GiB, memory shared with the CPU, CUDA 12.6"
    assert rows["engine B"] == "built by rtx 1.7.1.116, on sm89, for portable"
    assert rows["versions"].startswith("yoloship ")


def edited(proof: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(proof)
    *parents, last = path.split(".")
    place: Any = made
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("host", "my-laptop", "report has other fields: got host"),
        ("machine.user", "me", r"report\.machine has other fields: got user"),
        ("passed", KeyError, "report has other fields: got passed"),
        ("images", "4", r"report\.images has a wrong type: got str"),
        ("images", True, r"report\.images has a wrong type: got bool"),
        ("passed", 1, r"report\.passed has a wrong type: got int"),
        ("sides.0.path", "/home/me", r"report\.sides\[0\] has other fields: got path"),
        ("sides.1.engine.flavour", "x" * 501, r"report\.sides\[1\]\.engine\.flavour is too long: got 501"),
        ("sides.0.run_ms", 10**400, r"report\.sides\[0\]\.run_ms is too large: expected at most 9007199254740992"),
        ("levels", [{}] * 1001, r"report\.levels is too long: got 1001"),
        ("sides.0.input_hw", [640, None], r"report\.sides\[0\]\.input_hw\[1\] has a wrong type: got NoneType"),
        ("machine.packages", {"numpy": 2}, r"report\.machine\.packages\.numpy has a wrong type: got int"),
        ("sides", [], r"report\.sides has a wrong length: expected 2, got 0"),
        ("sides.0.run_ms", float("1e999"), "is not valid JSON"),
        ("format", "yoloship proof 9", "is not a report of yoloship verify: expected yoloship proof 1, got yoloship"),
    ],
)
def test_a_field_that_is_odd_is_refused_by_name(
    proof: dict[str, Any], tmp_path: Path, path: str, value: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_proof(written(tmp_path, edited(proof, path, value)))


def test_a_report_of_broken_numbers_can_be_read(proof: dict[str, Any], tmp_path: Path) -> None:
    broken = edited(proof, "sides.1.run_ms", None)
    assert read_proof(written(tmp_path, broken)) == broken


def test_what_json_leaves_open_is_refused(proof: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    text = json.dumps(proof)
    path.write_text(text[:-1] + ', "passed": true}')
    with pytest.raises(InputError, match="is not valid JSON"):
        read_proof(path)
    path.write_text(json.dumps(edited(proof, "score_threshold", "?")).replace('"?"', "1e999"))
    with pytest.raises(InputError, match=r"report\.score_threshold is not a finite number: got inf"):
        read_proof(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON|is not a report"),
        (b"[]", "is not a report of yoloship verify: expected yoloship proof 1, got list"),
        (b"\xff\xfe", "is not valid JSON"),
        (b" " * (MAX_BYTES + 1), "proof.json"),
    ],
)
def test_what_is_no_report_is_an_error(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "proof.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_proof(path)


def test_the_documented_list_has_reports_that_can_be_read() -> None:
    """Empty today; a report that is added beside the page is read."""
    folder = Path(__file__).resolve().parents[3] / "docs" / "proofs"
    for path in sorted(folder.glob("*.json")):
        read_proof(path)
