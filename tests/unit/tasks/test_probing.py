from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from yoloship.errors import SessionError
from yoloship.model import TensorSpec
from yoloship.tasks.probing import Probe, are_scores, are_whole, check_corners, check_ids, same_levels, usual_hw

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


def probe(names: tuple[str, ...] | None = ("a", "b"), runs: list[npt.NDArray[Any] | None] | None = None) -> Probe:
    def run(images: Any, _: Any) -> Sequence[npt.NDArray[Any]]:
        if runs is not None:
            runs.append(images)
        return [np.ones(3)]

    specs = [TensorSpec("first", "float32", (3,)), TensorSpec("second", "float32", (3,))]
    return Probe(specs, [np.zeros(3), np.full(3, 2)], {}, (2, 1, 64, 96), names, run, False, "x.onnx")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("[640, 480]", (640, 480)), ("(640,480)", (640, 480)), ("320", (320, 320)), (" [64, 64] ", (64, 64)),
        ("[0, 64]", None), ("[99999, 64]", None), ("[1280, 1280]", (1280, 1280)),
        ("[1280, 1281]", None), ("[-64, 64]", None), ("[64]", None), ("[1e3, 64]", None),
        ("9" * 100_000, None), ("", None), ("__import__('os')", None),
    ],
)  # fmt: skip
def test_the_size_in_the_metadata_is_read_as_numbers_within_limits(text: str, size: tuple[int, int] | None) -> None:
    assert usual_hw({"imgsz": text}) == size
    assert usual_hw({"imgsz": text, "task": "classify"}) == (size or (224, 224))


def test_noise_has_the_shape_of_the_images_and_is_run_only_if_it_is_asked_for() -> None:
    runs: list[npt.NDArray[Any] | None] = []
    answers = probe(runs=runs).answers((1.0, 8.0))
    assert next(answers)[0].tolist() == [0, 0, 0]
    assert not runs
    assert next(answers)[0].tolist() == [1, 1, 1]
    next(answers)
    assert len(runs) == 2
    for noise, loudness in zip(runs, (1, 8), strict=True):
        assert noise is not None
        assert noise.shape == (2, 1, 64, 96)
        assert noise.dtype == np.float32
        assert abs(noise.std() / loudness - 1) < 0.05


def test_outputs_are_found_by_name() -> None:
    model = probe()
    assert [array.tolist() for array in model.by_name(model.arrays, ["second", "first"])] == [[2, 2, 2], [0, 0, 0]]


def test_names_are_numbers_if_nobody_gives_any_and_must_fit_otherwise() -> None:
    assert probe(None).names_for(2, "(B, 6, N)") == ("0", "1")
    assert probe().names_for(2, "(B, 6, N)") == ("a", "b")
    with pytest.raises(SessionError, match=r"2 class names beside an output \(B, 7, N\)"):
        probe().names_for(3, "(B, 7, N)")
    with pytest.raises(SessionError, match="give them with --names"):
        probe(None).needed_names()


def test_scores_and_whole_numbers() -> None:
    assert are_scores(np.array([0, 1, 1.0005]))
    assert are_whole(np.array([0.0, 3.0, -1.0]))
    for wrong in (1.1, -0.1, np.nan, np.inf):
        assert not are_scores(np.array([0.5, wrong]))
    for wrong in (0.5, np.nan, np.inf):
        assert not are_whole(np.array([1, wrong]))


def test_ids_are_those_of_the_class_names() -> None:
    check_ids(probe(), np.array([0, 1]), ("a", "b"))
    check_ids(probe(), np.empty(0), ("a", "b"))
    for ids in ([0, 2], [-1]):
        with pytest.raises(SessionError, match="class ids up to"):
            check_ids(probe(), np.array(ids), ("a", "b"))


BOXES = np.array([[10, 20, 30, 40], [50, 5, 90, 60.0]])


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (BOXES / 96, "normalised"),
        (BOXES[:, [2, 3, 0, 1]], "not corners"),
        (BOXES * np.nan, "not finite"),
        (BOXES + 200, "outside the 64×96 image: of another size, or y before x"),
        (np.tile([1, 1, 3, 3.0], (30, 1)), "all in one corner of the image"),
    ],
)
def test_boxes_that_are_not_corners_in_pixels_are_refused(boxes: npt.NDArray[Any], words: str) -> None:
    check_corners(probe(), BOXES)
    with pytest.raises(SessionError, match=words):
        check_corners(probe(), boxes)


def test_another_run_fits_if_its_centres_lie_on_the_same_grids() -> None:
    rows, columns = np.indices((4, 6))
    boxes = np.stack([columns.ravel() * 8 + 4, rows.ravel() * 8 + 4, *[np.full(24, 9)] * 2], axis=1)[None]
    fits = same_levels(1, (8,))
    assert fits([np.zeros(1), boxes], 1, (32, 48))
    assert not fits([np.zeros(1), boxes], 2, (32, 48))
    assert not fits([np.zeros(1), boxes + 30], 1, (32, 48))
    assert not fits([np.zeros(1), boxes[0]], 1, (32, 48))
