"""The small files in `../shared/cases`, each after a public report: refused by name, or exact."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import pytest

from helpers.cli import run
from helpers.shared import SHARED, require

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

CASES = SHARED / "cases"
HW = (128, 192)
ROWS = (0, 700, 1300, 1500)
"""Rows of the second image's output that the references hold."""

# Computed once by PyTorch 2.13 on a CPU, in float32, by a forward pass that was written for this purpose from the
# architecture's description and shares no code with yoloship. The input is that of `random_images`.
PLAIN = (
    (2.18953, 6.54216, 12.9496, 11.065, 0.519741, 0.523676, 0.32209, 0.204994),
    (35.1654, 105.245, 8.05886, 64.9574, 0.535082, 0.480895, 0.361682, 0.535557),
    (70.4303, 65.8685, 87.8121, 39.5211, 0.557389, 0.740686, 0.470512, 0.260299),
    (47.9802, 50.1045, 655.108, 1175.65, 0.614617, 0.329422, 0.00635394, 0.0322917),
)
ACON = (
    (-3.2431, 10.7617, 0.182391, 0.635201, 0.0869945, 0.115069, 0.038389, 0.386375),
    (38.498, 103.522, 0.126253, 20.4756, 0.651339, 0.463112, 0.515545, 0.388888),
    (76.398, 64.3319, 69.0282, 38.3404, 0.51934, 0.908253, 0.688127, 0.165152),
    (48.0, 48.0086, 1491.9, 1301.95, 0.990389, 0.991402, 7.71229e-05, 0.00095232),
)
GELU = (
    (2.76364, 6.16808, 15.0191, 14.3109, 0.60363, 0.54635, 0.351062, 0.207118),
    (35.5022, 105.174, 9.06109, 59.2009, 0.542638, 0.466706, 0.374388, 0.480468),
    (70.1445, 65.5445, 101.96, 42.409, 0.542181, 0.78677, 0.576269, 0.276679),
    (47.9971, 49.0242, 1021.14, 1119.43, 0.655438, 0.473921, 0.00195031, 0.00914703),
)
GREY = (
    (-1.16033, 1.18439, 2.02151, 8.32278, 0.870887, 0.55921, 0.128449, 0.409856),
    (42.4222, 100.093, 0.116952, 0.000103372, 0.758379, 0.995007, 0.826867, 0.945406),
    (87.4941, 87.9768, 180.933, 0.0491535, 0.861931, 0.999522, 0.754061, 0.150887),
    (48.0, 48.0724, 1.35446e-28, 1304.0, 0.0, 1.17738e-12, 0.0, 0.0),
)
PRUNED = (
    (-2.22061, 10.2065, 1.20624, 1.06308, 0.0253135, 0.2551, 0.0501278, 0.396499),
    (32.299, 100.568, 0.495288, 93.2495, 0.0336529, 0.42227, 0.797351, 0.568789),
    (64.1746, 67.2618, 136.874, 24.9, 0.461005, 0.797601, 0.656469, 0.233255),
    (47.9973, 48.0116, 1301.9, 1233.12, 0.929454, 0.111064, 0.000101882, 0.00403828),
)
ONE_CLASS = (
    (3.04921, 4.43461, 18.0755, 10.9231, 0.398728, 0.333887),
    (37.7673, 108.562, 13.3889, 65.4379, 0.665902, 0.664216),
    (64.6466, 69.9213, 54.1615, 0.96273, 0.195973, 0.174059),
    (-14.5008, 62.287, 44.9488, 513.096, 0.43539, 0.0930278),
)

EXACT = {
    "act-AconC": ACON,
    "act-GELU": GELU,
    "autoshape": PLAIN,
    "channels-1": GREY,
    "conv-padding-same": PLAIN,
    "ddp": PLAIN,
    "dmb": PLAIN,
    "names-np-str": PLAIN,
    "names-str-keys": PLAIN,
    "optimizer-object": PLAIN,
    "prune-mask": PRUNED,
    "torch-version": PLAIN,
    "weight-norm": PLAIN,
}

NAMED = {"names-gap": ("a,b,c", PLAIN), "names-more": ("a,b,c", PLAIN), "names-text": ("person", ONE_CLASS)}
"""Files whose class names need others, or may have others."""


def case(name: str) -> Path:
    return require(CASES / name)


def random_images(channels: int) -> npt.NDArray[np.float32]:
    """(2, channels, 128, 192) float32, RGB in [0, 1)."""
    return np.random.default_rng(7).random((2, channels, *HW), dtype=np.float32)


def outputs_of(model: Path) -> npt.NDArray[np.float32]:
    """The (2, N, 5 + classes) float32 output of an exported graph for `random_images`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options)
    (entry,) = session.get_inputs()
    values: npt.NDArray[np.float32] = session.run(None, {entry.name: random_images(entry.shape[1])})[0]
    return values


def assert_rows(found: npt.NDArray[np.float32], expected: tuple[tuple[float, ...], ...]) -> None:
    want = np.array(expected)
    rows = found[1, ROWS]
    assert rows.shape == want.shape
    assert np.abs(rows[:, 4:] - want[:, 4:]).max() <= 1e-4
    sides = want[:, [2, 3, 2, 3]]
    assert (np.abs(rows[:, :4] - want[:, :4]) <= 0.01 + 1e-3 * sides).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("c3-in-place-se", ("models.common.C3", "'se'")),
        ("conv-in-place-se", ("models.common.Conv", "'att'")),
        ("detect-implicit", ("models.yolo.Detect", "'ia'")),
    ],
)
def test_what_was_added_to_an_official_class_is_named_and_nothing_is_written(
    name: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    message = run("export", case(f"{name}.pt"), "-o", out).error
    assert message.startswith(f"{name}.pt"), message
    assert "model." in message, message
    for word in words:
        assert word in message, message
    assert not out.exists()


@pytest.mark.parametrize("name", EXACT)
def test_a_good_model_is_exported_exactly(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = run("export", case(f"{name}.pt"), "-o", out, "--imgsz", "128x192", "--batch", "2")
    assert ran.code == 0, ran
    assert_rows(outputs_of(out), EXACT[name])


@pytest.mark.parametrize("name", NAMED)
def test_names_that_cannot_be_used_are_replaced_by_the_users(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    names, expected = NAMED[name]
    arguments = ("export", case(f"{name}.pt"), "-o", out, "--imgsz", "128x192", "--batch", "2")
    ran = run(*arguments, "--names", names)
    assert ran.code == 0, ran
    assert_rows(outputs_of(out), expected)
    without = run(*arguments, "--overwrite")
    if name == "names-text":  # of one class, so a text is unambiguous
        assert without.code == 0, without
    else:
        assert "--names" in without.error


def test_a_grey_network_takes_grey_and_colour_images(tmp_path: Path) -> None:
    import cv2

    for name, shape in (("grey", (64, 96)), ("colour", (64, 96, 3))):
        file = tmp_path / f"{name}.png"
        assert cv2.imwrite(str(file), np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8))
        ran = run("detect", case("channels-1.pt"), file, "--no-draw")
        assert ran.code == 0, ran


@pytest.mark.parametrize("name", ["half", "fake-dynamic", "single-level", "three-level-4-8-16"])
def test_a_good_foreign_graph_finds_what_is_there(name: str, photos: Path) -> None:
    ran = run("detect", case(f"{name}.onnx"), photos / "bus.jpg", "--no-draw", "--conf", "0.01", "--json", "-")
    assert ran.code == 0, ran
    assert json.loads(ran.out)[0]["detections"]


def test_axes_that_are_dynamic_in_name_only_are_tried_at_the_size_that_was_asked_for(photos: Path) -> None:
    assert run("detect", case("fake-dynamic.onnx"), photos / "bus.jpg", "--no-draw", "--imgsz", "640").code == 0
    message = run("detect", case("fake-dynamic.onnx"), photos / "bus.jpg", "--no-draw", "--imgsz", "320").error
    assert "320" in message


@pytest.mark.parametrize("name", ["yolox", "xyxy"])
def test_an_output_that_is_not_decoded_boxes_is_refused(name: str, photos: Path) -> None:
    message = run("detect", case(f"{name}.onnx"), photos / "bus.jpg", "--no-draw").error
    assert message.startswith((str(CASES / f"{name}.onnx"), f"{name}.onnx")), message


def test_float16_inputs_and_outputs_work_in_every_command(tmp_path: Path, photos: Path) -> None:
    half = case("half.onnx")
    assert run("inspect", half).code == 0
    bench = run("bench", half, "--source", photos / "bus.jpg", "--rounds", "1", "--seconds", "0")
    assert bench.code == 0, bench
    assert run("verify", half, half, "--images", photos / "bus.jpg").code == 0


@pytest.mark.parametrize("name", ["cls.onnx", "cos4g.onnx", "exp4g.onnx", "loop.onnx"])
@pytest.mark.timeout(120)
def test_a_hostile_graph_is_refused_before_it_runs(name: str, photos: Path) -> None:
    file = require(CASES / "hostile" / name)
    for arguments in (
        ("detect", file, photos / "bus.jpg", "--no-draw"),
        ("verify", file, file, "--images", photos / "bus.jpg"),
    ):
        assert run(*arguments).error


@pytest.mark.timeout(120)
def test_a_hostile_image_fails_alone(tmp_path: Path, photos: Path) -> None:
    results = tmp_path / "found.json"
    checkpoint = require(SHARED / "checkpoints" / "trained" / "coco-yolov5n.pt")
    ran = run("detect", checkpoint, case("hostile/claim.jpg"), photos / "bus.jpg", "--no-draw", "--json", results)
    entries = json.loads(results.read_text())
    assert len(entries) == 2
    assert "its data is too short for its size" in entries[0]["error"]
    assert entries[1]["detections"]
    assert ran.code == 1
