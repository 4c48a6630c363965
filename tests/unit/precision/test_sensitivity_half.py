"""Half precision that is tried before it is trusted."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.graphs import HUGE, HW, kept_layers, ours, scaled
from helpers.models import image_session, info
from yoloship.detect.detector import Detector
from yoloship.detect.feeds import feed_of
from yoloship.errors import GraphError, InputError
from yoloship.graph.onnx_file import read_metadata
from yoloship.graph.passes.half import emulate
from yoloship.precision.lowering import in_precision
from yoloship.precision.sensitivity import convert_and_try, run_model

FEEDS = [{"images": np.random.default_rng(0).random((1, 3, *HW), np.float32)}]


def test_nothing_is_kept_where_nothing_overflows() -> None:
    for precision in ("float16", "bfloat16"):
        assert convert_and_try(ours(), precision, FEEDS)[1] == ()


def test_layers_whose_activations_overflow_stay_float32_and_the_numbers_stay_right() -> None:
    feeds = [{"images": FEEDS[0]["images"] * 50}]
    model, kept = convert_and_try(scaled(HUGE), "float16", feeds)
    assert kept
    assert set(kept) <= set(kept_layers(read_metadata(model)))
    (have,), (want,) = (run_model(one, feeds)[0] for one in (emulate(model), scaled(HUGE)))
    np.testing.assert_allclose(np.asarray(have, float)[..., 4:], np.asarray(want, float)[..., 4:], rtol=0, atol=0.02)


def test_a_network_that_is_broken_in_float32_is_refused() -> None:
    broken = scaled({"model.1.conv.weight": 1e30, "model.2.cv1.conv.weight": 1e30})
    with pytest.raises(GraphError, match="gives numbers that are not finite, even in float32"):
        convert_and_try(broken, "float16", FEEDS)


def test_int8_without_images_and_unknown_precisions_are_refused() -> None:
    with pytest.raises(InputError, match="int8 needs images to calibrate with"):
        in_precision(ours(), "int8")
    with pytest.raises(InputError, match="expected float32, float16, bfloat16, int8, float8, got 'int4'"):
        in_precision(ours(), "int4")  # type: ignore[arg-type]
    assert in_precision(ours(), "float32").model is ours()


@pytest.mark.parametrize("form", ["image", "float"])
def test_a_feed_is_what_the_detector_itself_feeds(form: str) -> None:
    seen: list[np.ndarray] = []

    def answer(feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        seen.append(feeds["images"].copy())
        return (np.zeros((1, 189, 8), np.float32),)

    record = info("raw", input_form=form)
    session = image_session(record, answer)
    if form == "float":
        from yoloship.model import METADATA_KEY, TensorSpec
        from yoloship.runtime.scripted import ScriptedSession

        spec = TensorSpec("images", "float32", (1, 3, 64, 96))
        session = ScriptedSession([spec], session.outputs, answer, metadata={METADATA_KEY: record.to_json()})  # type: ignore[arg-type]
    detector = Detector(session)
    image = np.random.default_rng(1).integers(0, 256, (50, 40, 3), np.uint8)
    detector(image)
    (feed,) = feed_of(detector, image).values()
    np.testing.assert_array_equal(feed, seen[-1])
