"""The page of a validation: whole, self-contained, and the same numbers as the record."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from helpers.pages import Page
from helpers.validated import BOX, FAR, NAMES, OTHER, dataset, found, sample
from yoloship.datasets.dataset import Dataset, Fault, Sample
from yoloship.validate.choices import ValOptions
from yoloship.validate.classification import judge_classes
from yoloship.validate.objects import judge_objects
from yoloship.validate.record import Validation
from yoloship.validate.report.page import report_html


def validation(folder: Path) -> Validation:
    samples = [sample("a.png", [BOX, OTHER], [0, 1], folder), sample("b.png", [FAR], [0], folder)]
    seen = [found([BOX, OTHER], [0.9, 0.8], [0, 2]), found([FAR], [0.7], [0])]
    fault = Fault(folder / "labels" / "a.txt", 3, "repeats line 1", "row dropped")
    return replace(
        judge_objects(samples, seen, dataset(samples, faults=(fault,)), ValOptions()),
        model="best.pt",
        model_sha256="ab" * 32,
        speed_ms=MappingProxyType({"read": 1.0, "network": 9.0}),
        settings=MappingProxyType({"evaluator": "hotcoco 1", "input": "640×640", "runtime": "onnxruntime 1"}),
        versions=MappingProxyType({"python": "3.11", "versions": {"numpy": "2"}}),
        notes=("classes are matched by name",),
    )


def read(*found_: Validation) -> Page:
    return Page(report_html(found_).decode())


def test_the_page_has_every_number_and_needs_nothing_else(tmp_path: Path) -> None:
    one = validation(tmp_path)
    page = read(one)
    for value in (one.map50_95, one.map50, one.precision, one.recall):
        assert f"{value:.3f}" in page.words
    for words in (
        "best.pt on zoo.yaml, val",
        "COCO",
        "classes are matched by name",
        "repeats line 1",
        "ab" * 32,
        "b.png",
    ):
        assert words in page.words or words == "b.png"
    assert {"script", "link", "iframe", "object", "embed", "form"}.isdisjoint(page.tags)
    assert page.handlers == []
    assert all(address.startswith(("#", "data:image/jpeg;base64,")) for address in page.addresses)
    assert len(set(page.ids)) == len(page.ids)


def test_the_page_says_nothing_about_the_machines_folders(tmp_path: Path) -> None:
    html = report_html([validation(tmp_path)]).decode()
    assert str(tmp_path) not in html
    assert str(Path.home()) not in html
    away = replace(validation(tmp_path), dataset="/home/ann/sets/zoo/data.yaml (val)")
    assert "best.pt on zoo/data.yaml (val)" in read(away).words
    assert "ann" not in read(away).words


def test_the_page_may_load_nothing_even_if_it_wanted_to(tmp_path: Path) -> None:
    html = report_html([validation(tmp_path)]).decode()
    assert "default-src &#x27;none&#x27;; img-src data:; style-src &#x27;unsafe-inline&#x27;" in html


def test_several_models_are_compared_and_each_has_its_part(tmp_path: Path) -> None:
    one = validation(tmp_path)
    assert one.map50_95 is not None
    page = read(one, replace(one, model="best.onnx", map50_95=one.map50_95 - 0.125))
    assert "2 models on zoo.yaml, val" in page.words
    assert "-0.1250" in page.words
    assert "Mean F1 by confidence" in page.words
    assert len(set(page.ids)) == len(page.ids)
    assert "details" in page.tags


def test_nothing_found_is_a_page_too() -> None:
    samples = [sample("a.png", [BOX], [0])]
    page = read(replace(judge_objects(samples, [found([], [], [])], dataset(samples), ValOptions()), model="m.pt"))
    assert "nothing found" in page.words


def test_a_classifier_has_accuracy_and_its_surest_mistakes() -> None:
    samples = [Sample(Path("x.jpg"), "x.jpg", (9, 9), None, 1), Sample(Path("y.jpg"), "y.jpg", (9, 9), None, 0)]
    rows = [np.array([0.75, 0.25, 0], np.float32), np.array([1, 0, 0], np.float32)]
    one = judge_classes(samples, rows, Dataset("kinds", "folders", "classify", NAMES, ()), ValOptions())
    page = read(replace(one, model="r18.pt"))
    assert "top-1" in page.words
    assert "cat 0.75, is dog (0.25)" in page.words
    assert "mAP" not in page.words


def test_a_report_is_saved_and_never_over_another_file(tmp_path: Path) -> None:
    from yoloship.errors import OutputError

    one = validation(tmp_path)
    one.save_report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == report_html([one])
    with pytest.raises(OutputError, match="exists"):
        one.save_report(tmp_path / "report.html")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser (chromium) on this machine")
def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    validation(tmp_path).save_report(tmp_path / "report.html")
    browser = str(shutil.which("chromium"))
    command = [
        browser, "--no-sandbox", "--headless=new", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=1000", "--dump-dom", (tmp_path / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "<h1>best.pt on zoo.yaml, val</h1>" in done.stdout
    assert done.stdout.count("<image ") == done.stdout.count('<figure id="m0-w')
