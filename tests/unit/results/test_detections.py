from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

from yoloship.errors import DependencyError, InputError
from yoloship.results import Result
from yoloship.results.detection import Detection
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks

NAMES = ("person", "car", "7")


def found() -> Detections:
    return Detections(
        np.array([[1, 2, 11, 22], [0, 0, 4, 4], [5, 5, 6, 7]], np.float32),
        np.array([0.9, 0.5, 0.25], np.float32),
        np.array([1, 0, 1], np.int32),
        NAMES,
        (30, 40),
    )


def test_iteration_gives_plain_python_values_best_first() -> None:
    first = next(iter(found()))
    assert (first.box_xyxy, first.class_id, first.class_name) == ((1.0, 2.0, 11.0, 22.0), 1, "car")
    assert isinstance(first.score, float)
    assert [one.class_name for one in found()] == ["car", "person", "car"]


def test_that_boxes_may_be_missing_is_kept_and_said() -> None:
    whole = found()
    cut = Detections(whole.boxes_xyxy, whole.scores, whole.class_ids, whole.class_names, whole.image_hw, complete=False)
    assert whole.complete
    assert "complete" not in whole.to_dict()
    assert cut != whole
    assert not cut.filter(min_score=0.5).complete
    assert cut.to_dict()["complete"] is False
    assert repr(cut).endswith(", incomplete)")
    assert not repr(whole).endswith(", incomplete)")


def test_indexing_gives_the_same_as_iterating() -> None:
    assert [found()[i] for i in range(len(found()))] == list(found())


def test_slices_masks_and_lists_give_detections() -> None:
    whole = found()
    cases: list[tuple[Any, list[int]]] = [
        (slice(0, 2), [0, 1]),
        (slice(None, None, -1), [2, 1, 0]),
        (whole.scores > 0.4, [0, 1]),
        ([True, False, True], [0, 2]),
        (np.array([2, 0]), [2, 0]),
        ([], []),
        (slice(5, 9), []),
    ]
    for index, rows in cases:
        part = whole[index]
        assert isinstance(part, Detections)
        assert list(part) == [whole[row] for row in rows]
        assert (part.class_names, part.image_hw) == (whole.class_names, whole.image_hw)
        assert not part.scores.flags.writeable
    last: Any = np.int64(-1)
    assert whole[last] == whole[2]


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_outside_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError):
        found()[index]


@pytest.mark.parametrize("index", ["car", np.zeros((2, 2), int), [0.5], None, (0, 1, "x")])
def test_an_index_of_another_kind_is_refused(index: Any) -> None:
    with pytest.raises(InputError, match="Detections: cannot be indexed like that"):
        found()[index]


@pytest.mark.parametrize("way", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy, copy.copy])
def test_copies_are_equal_and_read_only(way: Any) -> None:
    whole = found()
    cut = Detections(whole.boxes_xyxy, whole.scores, whole.class_ids, whole.class_names, whole.image_hw, complete=False)
    again = way(cut)
    assert again == cut
    for array in (again.boxes_xyxy, again.scores, again.class_ids):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_arrays_cannot_be_written_through() -> None:
    boxes = np.zeros((0, 4), np.float32)
    detections = Detections(boxes, np.zeros(0, np.float32), np.zeros(0, np.int32), NAMES, (1, 1))
    with pytest.raises(ValueError, match="read-only"):
        found().scores[0] = 1
    assert boxes.flags.writeable, "the caller's own array stays as it was"
    assert len(detections) == 0


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.zeros((2, 4), np.float32), r"Detections.boxes_xyxy: wrong array: expected float32\(1, 4\)"),
        (np.zeros((1, 4), np.int64), "got int64"),
    ],
)
def test_wrong_arrays_are_refused(boxes: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Detections(boxes, np.zeros(1, np.float32), np.zeros(1, np.int32), NAMES, (1, 1))


def test_trusted_arrays_are_taken_over_and_become_read_only() -> None:
    boxes, scores, ids = np.ones((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int32)
    trusted = Detections._trusted(boxes, scores, ids, ("a",), (10, 20))
    assert trusted == Detections(boxes, scores, ids, ("a",), (10, 20))
    assert trusted.boxes_xyxy is boxes
    for array in (boxes, scores, ids):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def ramp(height: int = 30, width: int = 40) -> np.ndarray:
    """Each pixel holds its own place: row, column and 7."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((1.0, 2.0, 11.0, 22.0), (2, 22), (1, 11)),
        ((1.2, 2.9, 10.1, 21.5), (2, 22), (1, 11)),
        ((-5.0, -1.0, 50.0, 90.0), (0, 30), (0, 40)),
        ((40.0, 30.0, 40.0, 30.0), (29, 30), (39, 40)),
        ((7.0, 7.0, 7.0, 7.0), (7, 8), (7, 8)),
    ],
)
def test_a_crop_holds_the_pixels_that_the_box_touches(
    box: tuple[float, float, float, float], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image = ramp()
    np.testing.assert_array_equal(Detection(box, 0.5, 0, "a").crop(image), image[slice(*rows), slice(*columns)])


def test_a_crop_is_a_copy_of_any_kind_of_image() -> None:
    for image in (ramp(), ramp()[:, :, 0], ramp().astype(np.float32), ramp()[:, :, :1]):
        before = image.copy()
        crops = found().crops(image)
        assert [crop.shape[:2] for crop in crops] == [(20, 10), (4, 4), (2, 1)]
        for one, crop in zip(found(), crops, strict=True):
            assert crop.dtype == image.dtype
            np.testing.assert_array_equal(crop, one.crop(image))
            crop[...] = 0
        np.testing.assert_array_equal(image, before)


def test_crops_of_another_image_are_refused() -> None:
    with pytest.raises(InputError, match=r"Detections.crops: .* different size: expected height and width \(30, 40\)"):
        found().crops(ramp(40, 30))
    with pytest.raises(InputError, match=r"Detection\.crop: is not an image"):
        found()[0].crop(np.zeros(3, np.uint8))
    nothing: Any = "photo.jpg"
    with pytest.raises(InputError, match=r"Detections\.crops: is not an image: .* got str"):
        found().crops(nothing)
    with pytest.raises(InputError, match="the box is not finite"):
        Detection((0, 0, float("nan"), 5), 0.5, 0, "a").crop(ramp())


def test_areas_are_those_of_the_boxes() -> None:
    assert found().area_px.tolist() == [200, 16, 2]
    assert found().area_px.dtype == np.float32
    assert [one.area_px for one in found()] == [200, 16, 2]
    assert Detections.empty((3, 4)).area_px.shape == (0,)


def test_merging_sorts_by_score_and_keeps_the_order_of_equals() -> None:
    whole = found()
    merged = Detections.merge([whole[1:], whole[:1]])
    assert merged == whole
    twice = Detections.merge(iter([whole, whole[::-1]]))
    assert twice.scores.tolist() == [np.float32(score) for score in (0.9, 0.9, 0.5, 0.5, 0.25, 0.25)]
    assert len(Detections.merge([Detections.empty((30, 40), NAMES)])) == 0
    equal = Detections.merge([whole[[1, 1]], Detections.empty((30, 40), NAMES), whole[[1]]])
    assert equal.class_ids.tolist() == [0, 0, 0]


def test_merged_results_are_complete_if_every_part_is() -> None:
    whole = found()
    cut = Detections(whole.boxes_xyxy, whole.scores, whole.class_ids, NAMES, (30, 40), complete=False)
    assert Detections.merge([whole, whole]).complete
    assert not Detections.merge([whole, cut]).complete


def test_what_does_not_belong_together_is_not_merged() -> None:
    with pytest.raises(InputError, match="nothing to merge: expected at least one"):
        Detections.merge([])
    with pytest.raises(InputError, match=r"images of different sizes: expected .*\(30, 40\), got \(40, 30\)"):
        Detections.merge([found(), Detections.empty((40, 30), NAMES)])
    with pytest.raises(InputError, match="different class names"):
        Detections.merge([found(), Detections.empty((30, 40), ("person",))])


def test_filtering_by_class_score_and_area_keeps_the_order() -> None:
    assert found().filter(classes=["car"]).scores.tolist() == [np.float32(0.9), np.float32(0.25)]
    assert found().filter(classes=[0, "car"], min_score=0.5).class_ids.tolist() == [1, 0]
    assert found().filter(min_area_px=16).class_ids.tolist() == [1, 0]


def test_the_plain_form_is_ready_for_json() -> None:
    data = json.loads(json.dumps(found().to_dict()))
    assert data["width"] == 40
    assert data["height"] == 30
    assert data["detections"][1] == {"class_id": 0, "class_name": "person", "score": 0.5, "box_xyxy": [0, 0, 4, 4]}


def test_counts_name_the_most_frequent_first() -> None:
    assert found().counts() == {"car": 2, "person": 1}
    assert repr(found()) == "Detections(2 car, 1 person in 40×30)"
    assert repr(Detections.empty((30, 40))) == "Detections(nothing in 40×30)"


def test_equality_is_by_value() -> None:
    assert found() == found()
    assert found() != found().filter(min_score=0.3)
    assert found() != "found"


def test_a_class_without_a_name_shows_its_number() -> None:
    assert found().class_name(9) == "9"


def test_supervision_is_asked_for_by_name_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(DependencyError, match=r"supervision: is not installed; pip install 'yoloship\[supervision\]'"):
        found().to_supervision()


def test_drawing_on_another_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"a different size: expected height and width \(30, 40\), got \(40, 30\)"):
        found().draw(np.zeros((40, 30, 3), np.uint8))


def test_drawing_leaves_the_image_as_it_is() -> None:
    image = np.full((30, 40, 3), 90, np.uint8)
    assert (found().draw(image) != image).any()
    assert (image == 90).all()


def test_they_are_a_result_as_every_task_gives() -> None:
    assert isinstance(found(), Result)
    assert (found().task, found().image_hw) == ("detect", (30, 40))
    assert not hasattr(found(), "__dict__"), "a result is no larger than its fields"

    class Half(Result):
        def to_dict(self) -> dict[str, Any]:
            return {}

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


@pytest.mark.parametrize(
    "index",
    [np.ones(2, bool), np.ones(4, bool), np.zeros(0, bool), [True], True, np.array(True), np.zeros((0, 2), int)],
)
def test_a_mask_has_one_boolean_for_each_object(index: Any) -> None:
    with pytest.raises(InputError, match=r"cannot be indexed like that: expected .* a mask of as many booleans"):
        found()[index]
    assert len(found()[[]]) == len(found()[np.zeros(3, bool)]) == len(Detections.empty((1, 1))[np.zeros(0, bool)]) == 0


def test_one_name_is_not_taken_for_its_letters() -> None:
    with pytest.raises(InputError, match="classes: wrong type: expected several ids or names, got 'person'"):
        found().filter(classes="person")


@pytest.mark.parametrize("parts", [["x"], [found(), None], found()])
def test_only_results_are_merged(parts: Any) -> None:
    with pytest.raises(InputError, match="merge: wrong type: expected several Detections"):
        Detections.merge(parts)


def test_a_result_made_of_other_sequences_equals_one_made_of_tuples() -> None:
    one = found()
    other = Detections(one.boxes_xyxy, one.scores, one.class_ids, list(NAMES), np.array([30, 40]))  # type: ignore[arg-type]
    assert other == one
    with pytest.raises(InputError, match=r"Detections.scores: wrong array: expected float32\(1,\), got list"):
        Detections(one.boxes_xyxy[:1], [0.5], one.class_ids[:1], NAMES, (30, 40))  # type: ignore[arg-type]


def with_extras(count: int = 2, seed: int = 0) -> Detections:
    random = np.random.default_rng(seed)
    return Detections(
        random.random((count, 4), np.float32),
        np.sort(random.random(count, np.float32))[::-1].copy(),
        np.arange(count, dtype=np.int32),
        ("a", "b", "c"),
        (30, 40),
        masks=Masks.from_array(random.random((count, 30, 40)) > 0.5),
        keypoints=random.random((count, 17, 3), np.float32),
        boxes_xywhr=random.random((count, 5), np.float32),
    )


def test_masks_keypoints_and_rotated_boxes_follow_their_objects() -> None:
    found = with_extras(3)
    assert found.masks is not None
    assert found.keypoints is not None
    assert found.boxes_xywhr is not None
    for rows in (slice(1, None), [2, 0], found.scores > 0.5):
        picked = found[rows]
        assert picked.masks == found.masks[rows]
        assert np.array_equal(picked.keypoints, found.keypoints[rows])  # type: ignore[arg-type]
        assert np.array_equal(picked.boxes_xywhr, found.boxes_xywhr[rows])  # type: ignore[arg-type]
    assert found != found[[1, 0, 2]]
    assert copy.deepcopy(found) == pickle.loads(pickle.dumps(found)) == found


def test_a_merged_result_has_each_objects_own_extras() -> None:
    parts = [with_extras(2, seed=1), with_extras(3, seed=2)]
    merged = Detections.merge(parts)
    for row, score in enumerate(merged.scores):
        part = next(part for part in parts if score in part.scores)
        at = part.scores.tolist().index(score)
        assert merged[row : row + 1] == part[at : at + 1]


def test_results_of_different_tasks_are_not_merged() -> None:
    plain = Detections.empty((30, 40), ("a", "b", "c"))
    with pytest.raises(InputError, match="different tasks"):
        Detections.merge([with_extras(), plain])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("masks", Masks.from_array(np.zeros((2, 3, 4), np.bool_)), r"expected 2 of \(30, 40\), got 2 of \(3, 4\)"),
        ("masks", Masks.from_array(np.zeros((1, 30, 40), np.bool_)), "got 1 of"),
        ("keypoints", np.zeros((2, 17, 3)), r"expected float32\(2, K, 2 or 3\), got float64"),
        ("keypoints", np.zeros((2, 17, 4), np.float32), "2 or 3"),
        ("boxes_xywhr", np.zeros((2, 4), np.float32), r"expected float32\(2, 5\)"),
        ("boxes_xywhr", "text", "got str"),
    ],
)
def test_extras_that_do_not_fit_the_objects_are_refused(name: str, value: object, message: str) -> None:
    plain = with_extras()
    with pytest.raises(InputError, match=message):
        Detections(
            plain.boxes_xyxy,
            plain.scores,
            plain.class_ids,
            plain.class_names,
            plain.image_hw,
            **{name: value},  # type: ignore[arg-type]
        )


@pytest.mark.parametrize(
    ("kept", "task"), [((), "detect"), (("masks",), "segment"), (("keypoints",), "pose"), (("boxes_xywhr",), "obb")]
)
def test_the_extras_tell_the_task(kept: tuple[str, ...], task: str) -> None:
    full = with_extras()
    extras = {name: getattr(full, name) for name in kept}
    found = Detections(full.boxes_xyxy, full.scores, full.class_ids, full.class_names, full.image_hw, **extras)
    assert found.task == task
