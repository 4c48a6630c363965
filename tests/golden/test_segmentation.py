"""Segmentation models of every family against the official outputs, and the masks of the photographs pixel by pixel."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from helpers.families import FOLDER, checkpoint, noise, reference, run, sizes_of
from helpers.shared import GENERATED, PHOTOS, require
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.results.mask_rules import NEWEST_RULE
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.model import HeadChoice
    from yoloship.results.detections import Detections

    Floats = npt.NDArray[np.float32]

YOLOV5 = [FOLDER / "y5-seg.pt", GENERATED / "v7-yolov5n-seg.pt"]
OTHERS = [FOLDER / f"{name}.pt" for name in ("old-8.0.43-v8-seg", "v8-seg", "y26-seg")]
CLASSES = 3

each_other = pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)


def assert_prototypes(found: Floats, want: Floats, slack: float) -> None:
    assert found.shape == want.shape
    assert np.abs(found - want).max() <= max(1e-3, slack)


@pytest.mark.parametrize("path", YOLOV5, ids=lambda path: path.stem)
@pytest.mark.parametrize("input_hw", [(128, 192), None])
def test_yolov5_gives_the_official_rows_and_prototypes(path: Path, input_hw: tuple[int, int] | None) -> None:
    require(path)
    rows, prototypes = run(path, (128, 192), GraphConfig(input_hw, None))
    want = reference(path)["pred"]
    size = np.abs(want[..., [2, 3, 2, 3]])
    assert rows.shape == want.shape
    assert (np.abs(rows[..., :4] - want[..., :4]) <= 1e-3 * size + 0.05).all()
    assert np.abs(rows[..., 4:8] - want[..., 4:8]).max() <= 1e-4
    assert np.abs(rows[..., 8:] - want[..., 8:]).max() <= 1e-3
    assert_prototypes(prototypes, reference(path)["proto"], 0)


@each_other
def test_others_give_the_official_columns_and_prototypes(path: Path) -> None:
    known = noise()[path.stem]
    for suffix, hw in sizes_of(path):
        factor = 10 if suffix else 5  # the noise is known for the first size only, see test_families
        fixed = bool(suffix)
        found, prototypes = run(path, hw, GraphConfig(hw if fixed else None, 2 if fixed else None))
        want = reference(path)[f"pred{suffix}"]
        limit = np.maximum(1e-3 * np.abs(want[:, [2, 3, 2, 3]]) + 0.01, factor * known["box"])
        assert found.shape == want.shape
        assert (np.abs(found[:, :4] - want[:, :4]) <= limit).all()
        assert np.abs(found[:, 4:7] - want[:, 4:7]).max() <= max(1e-4, factor * known["score"])
        assert np.abs(found[:, 7:] - want[:, 7:]).max() <= max(1e-3, factor * known["extra"])
        if not suffix:
            assert_prototypes(prototypes, reference(path)["proto"], 5 * known["extra"])


def test_rows_of_the_one_to_one_head_carry_their_own_coefficients() -> None:
    (path,) = (path for path in OTHERS if path.stem == "y26-seg")
    known = noise()[f"{path.stem}/one2one"]
    for suffix, hw in sizes_of(path):
        found, _ = run(path, hw, GraphConfig(hw, None, head="one2one"))
        want = reference(path)[f"pred_end2end{suffix}"]
        assert found.shape == want.shape
        score = max(1e-4, 5 * known["score"])
        for rows, expected in zip(found, want, strict=True):
            near = (np.abs(rows[:, None, 4] - expected[None, :, 4]) <= score) & (
                rows[:, None, 5] == expected[None, :, 5]
            )
            near &= (np.abs(rows[:, None, :4] - expected[None, :, :4]) <= 0.05).all(-1)
            near &= (np.abs(rows[:, None, 6:] - expected[None, :, 6:]) <= 2e-3).all(-1)
            missing = ~near.any(axis=0)
            assert (expected[missing, 4] <= expected[-1, 4] + score).all(), "only the last rows can fall out"


class Run(NamedTuple):
    """A way in which the library was run on the photographs, and how we do the same."""

    name: str
    variant: str
    photos: tuple[str, ...]


RUNS = [
    Run("y5-seg", "square_conf0.25_iou0.45", ("bus", "zidane", "street")),
    Run("y5-seg", "rect_conf0.25_iou0.45", ("bus", "street")),
    *(Run(path.stem, "square", ("bus", "zidane", "street")) for path in OTHERS),
    *(Run(path.stem, "square_retina", ("bus", "zidane", "street")) for path in OTHERS),
    Run("v8-seg", "rect", ("zidane", "street")),
    Run("y26-seg", "end2end_square", ("bus", "zidane", "street")),
]


@cache
def detector(name: str, head: HeadChoice | None, *, rect: bool) -> Detector:
    """One for all photographs and options; the graph's height and width are open."""
    network = checkpoint(FOLDER / f"{name}.pt")
    config = GraphConfig(None, 1, output_form="end2end" if head else "heads", head=head)
    session = OnnxRuntimeSession.open(graph_bytes(build_graph(network, config)))
    return Detector(session, model_info(network, config), imgsz=(640, 640), shape_mode="rect" if rect else "square")


def found_by(one: Run, photo: str) -> Detections:
    head: HeadChoice | None = "one2one" if "end2end" in one.variant else None
    model = detector(one.name, head, rect="rect" in one.variant)
    options = DetectOptions(
        iou_threshold=0.45 if one.name == "y5-seg" else 0.7,
        max_detections=1000 if one.name == "y5-seg" else 300,
        retina_masks="retina" in one.variant,
        mask_rule=NEWEST_RULE if one.name.startswith("old") else None,  # the library that ran it was the newest
    )
    found: Detections = model(PHOTOS / f"{photo}.jpg", options=options)
    return found


def partners(found: Detections, want: npt.NDArray[np.float64]) -> list[int]:
    """For each official row our object with its box, score and class."""
    places: list[int] = []
    for *box, score, class_id in want.tolist():
        far = np.abs(found.boxes_xyxy - box).max(axis=1) + 1e3 * (found.class_ids != class_id)
        far += 1e3 * (np.abs(found.scores - score) > 2e-3)
        far[places] = np.inf
        places.append(int(far.argmin()))
        assert far[places[-1]] < 0.5, (box, score, class_id)
    return places


@pytest.mark.parametrize("one", RUNS, ids=lambda one: f"{one.name}-{one.variant}")
def test_objects_of_the_photographs_have_the_official_masks(one: Run) -> None:
    stored = reference(FOLDER / f"{one.name}.pt")
    data: dict[str, Any] = json.loads(require(FOLDER / f"{one.name}.json").read_text(encoding="utf-8"))[one.variant]
    for photo in one.photos:
        expected = data[f"{photo}.jpg"]
        found = found_by(one, photo)
        assert found.masks is not None
        want = np.array(expected["xyxy_score_class"], np.float64).reshape(-1, 6)
        assert len(found) == len(want)
        places = partners(found, want)
        areas = np.array([window.pixels.sum() for window in found.masks.windows], np.int64)[places]
        official = np.array(expected.get("mask_area_input", expected.get("mask_area")) or [], np.int64)
        assert (np.abs(areas - official) <= np.maximum(3, 0.01 * official)).all()
        if f"masks_{one.variant}_{photo}" in stored:
            width = stored[f"masks_{one.variant}_{photo}_shape"][2]
            masks = np.unpackbits(stored[f"masks_{one.variant}_{photo}"], axis=-1)[..., :width].astype(bool)
            ours = found.masks[places[: len(masks)]].native_array
            both, either = (ours & masks).sum(axis=(1, 2)), (ours | masks).sum(axis=(1, 2))
            assert (both / either).min() >= 0.99


def test_the_stored_masks_are_compared_at_all() -> None:
    keys = [
        (one.name, photo)
        for one in RUNS
        for photo in one.photos
        if f"masks_{one.variant}_{photo}" in reference(FOLDER / f"{one.name}.pt")
    ]
    assert len(keys) == 13


def test_masks_in_source_pixels_are_the_official_ones_brought_there() -> None:
    """A mask at the size of the image and one that was enlarged cover the same object."""
    coarse = found_by(Run("v8-seg", "square", ()), "bus")
    fine = found_by(Run("v8-seg", "square_retina", ()), "bus")
    assert coarse.masks is not None
    assert fine.masks is not None
    places = {tuple(box): place for place, box in enumerate(coarse.boxes_xyxy.tolist())}
    overlaps = []
    for place, box in enumerate(fine.boxes_xyxy.tolist()):
        if fine.masks.windows[place].pixels.sum() > 20_000:
            one, other = fine.masks[place], coarse.masks[places[tuple(box)]]
            overlaps.append((one & other).sum() / (one | other).sum())
    assert len(overlaps) > 20
    assert np.median(overlaps) > 0.9  # a random network has masks of many specks
