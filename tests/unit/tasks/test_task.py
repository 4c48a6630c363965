from __future__ import annotations

import numpy as np
import pytest

from helpers.models import info
from yoloship.errors import SessionError
from yoloship.model import TensorSpec
from yoloship.tasks.detect import Detect

SPECS = (TensorSpec("a", "float32", (1,)), TensorSpec("b", "float32", (1,)))


def test_a_form_is_found_by_its_name_and_the_first_is_the_fields_own() -> None:
    task = Detect()
    assert task.standard.name == "raw"
    for form in task.forms:
        assert task.form(form.name, "m.onnx") is form
    with pytest.raises(SessionError) as caught:
        task.form("masks", "m.onnx")
    assert "m.onnx: " in str(caught.value)
    assert "has no such output form: expected raw, " in str(caught.value)


def test_a_session_that_gives_another_number_of_outputs_is_refused() -> None:
    form = Detect().standard
    outputs = [np.zeros(1, np.float32)]
    with pytest.raises(SessionError, match="wrong number of outputs: expected 2, got 1"):
        form.select(outputs, SPECS, info())
