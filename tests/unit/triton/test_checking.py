"""A model on a server is compared with the model here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from helpers.canned_server import answer_of, canned
from helpers.images import saved, smooth
from helpers.models import finds_a_cat
from helpers.serving import cat_model, listening, settings_of
from yoloship import load
from yoloship.errors import ImageError, InputError, SessionError
from yoloship.evaluate.verification import Tolerances
from yoloship.kserve import Client, RemoteError
from yoloship.model import METADATA_KEY
from yoloship.triton.answers import answer_specs, to_tensors
from yoloship.triton.checking import Expected, check_server

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.triton.checking import ServerCheck

PATH = "/v2/models/cat"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(smooth(48, 64), "JPEG"))
    return path


def check(url: str, model: Path, *images: Path, name: str = "cat", **how: Any) -> ServerCheck:
    with Client(url) as client:
        return check_server(client, name, Expected(str(model), {}, **how), images)


def test_yoloship_serve_is_such_a_server(tmp_path: Path, photo: Path) -> None:
    model = cat_model(tmp_path)
    with listening(settings_of(model)) as port:
        found = check(f"http://127.0.0.1:{port}", model, photo, photo)
    assert found.passed
    assert found.verification.agreement.share == 1
    assert [picture.here for picture in found.pictures] == [1, 1]
    assert found.differing == ()
    assert "a network of the form" in found.server


def test_yoloship_serve_with_other_classes_is_refused(tmp_path: Path, photo: Path) -> None:
    onnx.save(finds_a_cat((64, 64), "{0: 'cow', 1: 'dog'}"), str(tmp_path / "cat.onnx"))
    other = cat_model(tmp_path, "other.onnx")
    with (
        listening(settings_of(tmp_path / "cat.onnx")) as port,
        pytest.raises(
            InputError, match="cat: has different classes: expected 2 classes: cat, dog, got 2 classes: cow, dog"
        ),
    ):
        check(f"http://127.0.0.1:{port}", other, photo)


class Ours:
    """A server with our model in the Python backend, whose answers a test can spoil."""

    def __init__(self, model: Path, options: str = "{}") -> None:
        self.detector = load(model)
        self.specs = answer_specs(self.detector.info, 300)
        record = {METADATA_KEY: self.detector.info.to_json(), "yoloship.options": options}
        self.answers = {
            PATH: {
                "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, -1]}],
                "outputs": [
                    {"name": one.name, "datatype": "UINT8" if one.dtype == "uint8" else "FP32" if one.dtype == "float32"
                     else "INT32", "shape": [-1 if isinstance(axis, str) else axis for axis in one.shape]}
                    for one in self.specs
                ],
            },
            f"{PATH}/config": {"parameters": {key: {"string_value": text} for key, text in record.items()}},
        }  # fmt: skip

    def arrays(self, photo: Path) -> dict[str, Any]:
        return to_tensors([self.detector(photo)], self.specs[1:])


@pytest.fixture
def ours(tmp_path: Path) -> Ours:
    return Ours(cat_model(tmp_path))


def test_equal_answers_pass(ours: Ours, tmp_path: Path, photo: Path) -> None:
    with canned(ours.answers, lambda _: answer_of(ours.arrays(photo))) as url:
        found = check(url, tmp_path / "cat.onnx", photo)
    assert found.passed
    assert dict(found.facts())["pictures"] == "1"
    assert found.to_dict()["passed"] is True


def test_the_request_asks_for_what_is_somewhat_below_the_threshold(ours: Ours, tmp_path: Path, photo: Path) -> None:
    bodies: list[bytes] = []

    def answer(body: bytes) -> Any:
        bodies.append(body)
        return answer_of(ours.arrays(photo))

    with canned(ours.answers, answer) as url:
        check(url, tmp_path / "cat.onnx", photo, score_threshold=0.5)
    assert photo.read_bytes() in bodies[0]
    assert b'"score_threshold"' in bodies[0]


def test_a_box_elsewhere_fails_and_its_picture_is_named(ours: Ours, tmp_path: Path, photo: Path) -> None:
    arrays = ours.arrays(photo)
    arrays["boxes_xyxy"] = np.zeros_like(arrays["boxes_xyxy"])
    arrays["boxes_xyxy"][0, 0] = (0, 0, 3, 3)
    with canned(ours.answers, lambda _: answer_of(arrays)) as url:
        found = check(url, tmp_path / "cat.onnx", photo)
    assert not found.passed
    assert [picture.name for picture in found.differing] == [str(photo)]
    assert ("differs", f"{photo}: 1 detection here, 1 detection there, 0.00 in both") in list(found.facts())


def test_a_score_that_is_off_fails_within_its_tolerance_only(ours: Ours, tmp_path: Path, photo: Path) -> None:
    arrays = ours.arrays(photo)
    arrays["scores"] = arrays["scores"] - np.float32(0.1) * (arrays["scores"] > 0)
    with canned(ours.answers, lambda _: answer_of(arrays)) as url:
        assert not check(url, tmp_path / "cat.onnx", photo).passed
        assert check(url, tmp_path / "cat.onnx", photo, tolerances=Tolerances(score=0.2)).passed


def spoil(arrays: dict[str, Any], **changes: Any) -> Any:
    return answer_of({**arrays, **changes})


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda a: spoil(a, scores=np.full((1, 300), np.nan, np.float32)), SessionError, "finite numbers, got NaN"),
        (
            lambda a: spoil(a, count=np.array([[999]], np.int32)),
            SessionError,
            "wrong count: expected 0 to 300, got 999",
        ),
        (lambda a: spoil(a, image_hw=np.array([[1, 1]], np.int32)), SessionError, "wrong image_hw: expected 48x64"),
        (lambda a: answer_of({"count": a["count"]}), SessionError, "does not have this output"),
        (
            lambda a: (*answer_of(a)[:2], answer_of(a)[2][:-9]),
            SessionError,
            r"photo.jpg: its answer is broken: class_ids: .* bytes that are left",
        ),
        (lambda _: b"garbage \x1b[2J", SessionError, r"photo.jpg: its answer is broken: the JSON is not valid"),
        (lambda _: (400, {}, b'{"error": "cannot be read"}'), RemoteError, r"photo.jpg: POST .*400: cannot be read"),
        (lambda _: (500, {}, b"<html>"), RemoteError, "500"),
        (lambda a: (200, {"Content-Length": "9999999"}, b"{}"), RemoteError, "its answer is broken"),
    ],
)
def test_whatever_a_server_answers_is_one_line(
    ours: Ours, tmp_path: Path, photo: Path, answer: Any, error: Any, message: str
) -> None:
    given = answer(ours.arrays(photo))
    with canned(ours.answers, lambda _: given) as url, pytest.raises(error, match=message) as caught:
        check(url, tmp_path / "cat.onnx", photo)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("options", ['{"iou_threshold": "x"}', '{"max_detections": -1}', '{"iou_threshold": NaN}'])
def test_options_that_cannot_be_are_said_to_be_damaged(tmp_path: Path, photo: Path, options: str) -> None:
    ours = Ours(cat_model(tmp_path), options)
    with canned(ours.answers) as url, pytest.raises(SessionError, match="its options are damaged"):
        check(url, tmp_path / "cat.onnx", photo)


def test_the_servers_own_threshold_counts(tmp_path: Path, photo: Path) -> None:
    ours = Ours(cat_model(tmp_path), '{"score_threshold": 0.5}')
    with canned(ours.answers, lambda _: answer_of(ours.arrays(photo))) as url:
        assert check(url, tmp_path / "cat.onnx", photo).verification.score_threshold == 0.5
        assert check(url, tmp_path / "cat.onnx", photo, score_threshold=0.6).verification.score_threshold == 0.6


def test_no_images_and_images_that_are_none_are_refused(ours: Ours, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"text")
    with canned(ours.answers) as url:
        with pytest.raises(InputError, match="no images to compare on"):
            check(url, tmp_path / "cat.onnx")
        with pytest.raises(ImageError, match=r"no.jpg"):
            check(url, tmp_path / "cat.onnx", tmp_path / "no.jpg")
