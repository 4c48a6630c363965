"""What a plan asks of the network's ends; that batches run is tested in tests/gpu/test_detector.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from helpers.models import info
from yoloship.detect.gpu.batch_plan import _canvas_form, _outputs
from yoloship.errors import SessionError
from yoloship.model import TensorSpec


@pytest.mark.parametrize(
    ("input_form", "dtype", "form"),
    [
        ("image", "uint8", "uint8_bgr_hwc"),
        ("float", "float32", "float32_rgb_chw"),
        ("float", "float16", "float16_rgb_chw"),
    ],
)
def test_the_letterbox_writes_what_the_network_takes(input_form: Any, dtype: str, form: str) -> None:
    feed: Any = SimpleNamespace(name="images", dtype=dtype)
    assert _canvas_form(feed, info(input_form=input_form)) == form


@pytest.mark.parametrize(("input_form", "dtype"), [("image", "float32"), ("float", "uint8"), ("float", "int32")])
def test_an_input_of_another_type_than_the_record_says_is_refused(input_form: Any, dtype: str) -> None:
    feed: Any = SimpleNamespace(name="images", dtype=dtype)
    with pytest.raises(SessionError, match=f"images: the model's input does not match its metadata: .* got {dtype}"):
        _canvas_form(feed, info(input_form=input_form))


def context(batch: int, *output_batches: int) -> Any:
    outputs = {f"head{n}": SimpleNamespace(name=f"head{n}", shape=(b, 24, 8, 12)) for n, b in enumerate(output_batches)}
    return SimpleNamespace(inputs={"images": SimpleNamespace(shape=(batch, 64, 96, 3))}, outputs=outputs)


def model() -> Any:
    specs = tuple(TensorSpec(f"head{n}", "float32", ("batch", 24, 8, 12)) for n in range(3))
    return SimpleNamespace(session=SimpleNamespace(outputs=specs), info=info(batch=None))


def test_the_outputs_are_those_that_the_form_reads_in_its_order() -> None:
    assert [tensor.name for tensor in _outputs(context(2, 2, 2, 2), model())] == ["head0", "head1", "head2"]


def test_a_network_that_answers_for_another_batch_is_refused() -> None:
    with pytest.raises(SessionError, match="head1: the model's output has another batch size: expected 2, got "):
        _outputs(context(2, 2, 1, 2), model())
