"""What a server is asked to serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from yoloship.errors import InputError
from yoloship.serve.settings import ServedModel, ServeSettings

if TYPE_CHECKING:
    from pathlib import Path


def test_the_name_of_a_model_is_given_or_that_of_its_file() -> None:
    assert ServedModel.parse("runs/best.pt", {}) == ServedModel("best", "runs/best.pt", {})
    assert ServedModel.parse("day=runs/best.pt", {}) == ServedModel("day", "runs/best.pt", {})


def test_a_file_with_an_equals_sign_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1.onnx").touch()
    with pytest.raises(InputError, match="NAME=FILE"):
        ServedModel.parse("lr=1.onnx", {})
    assert ServedModel.parse("best=lr=1.onnx", {}) == ServedModel("best", "lr=1.onnx", {})


@pytest.mark.parametrize(
    "text", ["a b=x.pt", "../x=y.pt", ".hidden=x.pt", "=x.pt", "a=", "x" * 65 + "=y.pt", "模型.pt"]
)
def test_a_name_that_an_address_cannot_have_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a model"):
        ServedModel.parse(text, {})


def test_two_models_of_one_name_and_none_at_all_are_refused() -> None:
    with pytest.raises(InputError, match="best: two models have this name"):
        ServeSettings((ServedModel("best", "a"), ServedModel("best", "b")))
    with pytest.raises(InputError, match="there is no model to serve"):
        ServeSettings(())
