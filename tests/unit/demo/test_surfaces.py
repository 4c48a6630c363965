from __future__ import annotations

import cv2
import numpy as np
import pytest

from yoloship.demo import _surfaces, codes
from yoloship.demo.scene import CLASS_NAMES, HELD_OUT_SEED, make_scene


@pytest.mark.parametrize("kind", CLASS_NAMES)
def test_a_print_says_exactly_which_pixels_its_modules_fill(kind: _surfaces.Kind) -> None:
    printed = 0
    for seed in range(12):
        surface = _surfaces.blank((300, 420), 1.0, 0)
        cell, colours = (20, 20, 380, 260), ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
        if not _surfaces.print_code(np.random.default_rng(seed), surface, cell, kind, colours):
            continue  # what it should say does not fit
        printed += 1
        (item,) = surface.prints
        left, top, right, bottom = item.rect_xyxy
        ink = surface.image.min(axis=2) < 128
        if kind == "barcode":  # a caption may stand below the bars
            ink[bottom:] = False
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (left, top, right, bottom)
    assert printed >= 6


def test_corners_are_where_opencv_finds_those_of_the_markers() -> None:
    """Through perspective, light, lens and noise; an outside judge that refines to parts of a pixel."""
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detectors = {
        name.removeprefix("DICT_"): cv2.aruco.ArucoDetector(
            cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name)), parameters
        )
        for name, _, _ in codes.MARKER_DICTIONARIES
    }
    errors_px = []
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 40):
        scene = make_scene(seed)
        for quad, text, class_id in zip(scene.quads_xy, scene.texts, scene.class_ids, strict=True):
            sides = np.linalg.norm(quad - np.roll(quad, 1, axis=0), axis=1)
            if CLASS_NAMES[class_id] != "marker" or sides.min() < 70:
                continue
            name, number = text.split()
            found, ids, _ = detectors[name].detectMarkers(scene.image)
            # OpenCV counts from pixel centres, quads from pixel edges.
            errors_px += [
                float(np.abs(corners[0] + 0.5 - quad).max())
                for corners, marker_id in zip(found, [] if ids is None else ids.reshape(-1), strict=True)
                if marker_id == int(number)
            ]
    assert len(errors_px) >= 10
    assert np.median(errors_px) < 0.5, sorted(errors_px)
