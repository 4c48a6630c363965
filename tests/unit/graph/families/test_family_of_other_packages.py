"""Which family a checkpoint's network belongs to, when other packages add families."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from helpers.plugins import install
from helpers.shared import GENERATED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import DependencyError, GraphError
from yoloship.graph.families import family_of

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.checkpoint import Checkpoint

GREEDY = """
from yoloship.graph.families.yolov5 import Yolov5
class Greedy(Yolov5):
    name = "greedy"
    def owns(self, module):
        return True
    def tasks(self):
        return {"Detect": "tag"}
"""


def unknown() -> Checkpoint:
    """A network of a task that no family of ours has."""
    checkpoint = read_checkpoint(require(GENERATED / "v6.2-yolov5n.pt"))
    return replace(checkpoint, task="tag", module=replace(checkpoint.module, class_path="acme.Net"))


def add(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, source: str) -> None:
    place = {name: f"{name}_mine:Greedy"}
    install(monkeypatch, folder / name, "yoloship.families", place, package=name, modules={f"{name}_mine": source})


def test_a_family_that_wants_everything_does_not_get_our_models(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(require(GENERATED / "v6.2-yolov5n.pt"))
    add(monkeypatch, tmp_path, "aaa", GREEDY)
    assert family_of(checkpoint).name == "yolov5"


def test_a_family_that_cannot_be_loaded_stops_no_model_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add(monkeypatch, tmp_path, "broken", "raise RuntimeError('at import')")
    assert family_of(read_checkpoint(require(GENERATED / "v6.2-yolov5n.pt"))).name == "yolov5"
    with pytest.raises(DependencyError, match="broken: the family that broken adds cannot be imported: RuntimeError"):
        family_of(unknown())


def test_a_model_that_two_packages_claim_is_given_to_neither(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checkpoint = unknown()
    add(monkeypatch, tmp_path, "first", GREEDY)
    assert family_of(checkpoint).name == "greedy"
    add(monkeypatch, tmp_path, "second", GREEDY)
    with pytest.raises(GraphError, match="belongs to several families from installed packages: got") as caught:
        family_of(checkpoint)
    assert {"first", "second"} <= set(str(caught.value).replace(",", " ").replace(";", " ").split())
