from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.plugins import install
from yoloship.errors import SessionError
from yoloship.tasks import all_forms
from yoloship.tasks.detect import Detect

if TYPE_CHECKING:
    from pathlib import Path


def test_a_form_is_found_by_its_name_and_the_first_is_the_fields_own() -> None:
    task = Detect()
    assert task.standard.name == "raw"
    for form in task.forms:
        assert task.form(form.name, "m.onnx") is form
    with pytest.raises(SessionError) as caught:
        task.form("masks", "m.onnx")
    assert "m.onnx: " in str(caught.value)
    assert "has no such output form: expected raw, " in str(caught.value)


def test_a_task_of_another_package_that_cannot_be_loaded_takes_no_form_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forms = list(all_forms())
    modules = {"acme_task": "raise RuntimeError('at import')"}
    install(monkeypatch, tmp_path / "a", "yoloship.tasks", {"mine": "acme_task:Mine"}, modules=modules)
    assert list(all_forms()) == forms
