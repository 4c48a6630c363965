"""The measurements on a GPU run on stand-ins, so that they do not fail for trifles when a GPU is there."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from yoloship.demo.run import checkpoint_bytes

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")


def test_a_part_runs_alone_and_leaves_its_figures(tmp_path: Path) -> None:
    (tmp_path / "coco-yolov5n.pt").write_bytes(checkpoint_bytes())
    for number, name in enumerate(("bus.jpg", "zidane.jpg", "street.jpg")):
        noise = np.random.default_rng(number).integers(0, 256, (9, 12, 3), np.uint8)
        cv2.imwrite(str(tmp_path / name), cv2.resize(noise, (640, 480)))
    written = tmp_path / "figures.json"
    command = [sys.executable, "bench/gpu_media.py", "--data", str(tmp_path), "--stand-ins", "--smoke"]
    packed = tmp_path / "figures.tar.gz"
    done = subprocess.run(
        [*command, "--parts", "folder", "--before", ".", "--json", str(written), "--pack", str(packed)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not written.exists()
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    report = json.loads(written.read_text())
    assert {name: part["ended"] for name, part in report["parts"].items()} == {"folder": "done"}
    assert report["device"].startswith("2 × stand-in")
    rows = {row["name"]: row for part in report["parts"].values() for row in part["rows"]}
    assert rows["who decodes"]["unit"] == "gpu"
    assert rows["folder: images with another number of boxes"]["value"] == 0
    before = rows["folder, the way before, round 1"]["facts"]
    assert before["place"] == str(ROOT / "src" / "yoloship" / "__init__.py")
    assert before["agreed"] == 24
    text = written.with_suffix(".md").read_text()
    assert "| folder of JPEGs, over the way before | ≥ 3.5 | " in text
    assert "not judged" in text
    assert "| first folder run over the second |  |  | not measured |" in text
    lines = [json.loads(line) for line in written.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines if "name" in line] == list(rows)
