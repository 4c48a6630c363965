"""Our model in Triton's Python backend, over a stand-in for the backend's module."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.images import saved, smooth
from helpers.serving import cat_model
from yoloship import load
from yoloship.errors import InputError
from yoloship.triton.python_model import MODEL_KEY, OPTIONS_KEY, TritonPythonModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PHOTO = saved(smooth(48, 64), "JPEG")
SMALL = saved(smooth(20, 30), "PNG")


class Tensor:
    """Stands for the backend's; like it, it takes arrays over as DLPack capsules, and marks them in its own way."""

    def __init__(self, name: str, array: Any) -> None:
        self._name, self.array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        raise AssertionError("arrays of a backend that was built for another NumPy are wrong")

    def __dlpack__(self, **how: Any) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    @staticmethod
    def from_dlpack(name: str, given: Any) -> Tensor:
        array = np.from_dlpack(given)
        assert array.flags.c_contiguous
        assert array.size
        return Tensor(name, array.copy())


class TritonError:
    INVALID_ARG, INTERNAL = "invalid", "internal"

    def __init__(self, text: str, code: str) -> None:
        self.text, self.code = text, code


@dataclass
class InferenceResponse:
    tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None

    @property
    def arrays(self) -> dict[str, Any]:
        assert self.error is None, self.error.text
        return {tensor.name(): tensor.array for tensor in self.tensors}


@dataclass
class Request:
    tensors: list[Tensor]
    wanted: tuple[str, ...] = ("count", "scores", "result")
    given: str = "{}"

    def inputs(self) -> list[Tensor]:
        return self.tensors

    def parameters(self) -> str:
        return self.given

    def requested_output_names(self) -> tuple[str, ...]:
        return self.wanted


def of_files(*files: bytes, **others: Any) -> Request:
    length = max(map(len, files))
    rows = np.frombuffer(b"".join(one.ljust(length, b"\0") for one in files), np.uint8).reshape(len(files), length)
    return Request([Tensor("image", rows.copy())], **others)


@pytest.fixture(autouse=True)
def _backend(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("triton_python_backend_utils")
    module.__dict__.update(Tensor=Tensor, TritonError=TritonError, InferenceResponse=InferenceResponse)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def arguments(folder: Path, options: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, str]:
    config = {
        "max_batch_size": 4,
        "instance_group": [{"count": 1}],
        "parameters": {
            MODEL_KEY: {"string_value": "cat.onnx"},
            OPTIONS_KEY: {"string_value": json.dumps(options or {})},
        },
    }
    return {
        "model_config": json.dumps({**config, **changes}), "model_repository": str(folder), "model_version": "1",
        "model_instance_kind": "CPU", "model_instance_device_id": "0", "model_instance_name": "cat_0",
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cat")
    (folder / "1").mkdir()
    cat_model(folder / "1")
    return folder


@pytest.fixture
def model(folder: Path) -> Iterator[TritonPythonModel]:
    model = TritonPythonModel()
    model.initialize(arguments(folder))
    yield model
    model.finalize()


def test_an_image_file_gets_the_answer_of_the_detector(model: TritonPythonModel, folder: Path) -> None:
    (answer,) = model.execute([of_files(PHOTO, wanted=("count", "boxes_xyxy", "scores", "result"))])
    with load(folder / "1/cat.onnx") as detector:
        expected = detector(PHOTO)
    arrays = answer.arrays
    assert list(arrays) == ["result", "count", "boxes_xyxy", "scores"]
    assert arrays["count"].tolist() == [[1]]
    assert np.array_equal(arrays["boxes_xyxy"][0, :1], expected.boxes_xyxy)
    assert json.loads(arrays["result"].tobytes())["detections"][0]["class_name"] == "cat"
    assert not arrays["boxes_xyxy"][0, 1:].any()


def test_only_what_a_client_asks_for_is_made(model: TritonPythonModel) -> None:
    (answer,) = model.execute([of_files(PHOTO, wanted=("count",))])
    assert list(answer.arrays) == ["count"]


def test_all_requests_are_one_batch_in_their_order(model: TritonPythonModel, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    detect = type(model._detector).detect_batch

    def counting(self: Any, images: Any, **how: Any) -> Any:
        batches.append(len(images))
        return detect(self, images, **how)

    monkeypatch.setattr(type(model._detector), "detect_batch", counting)
    answers = model.execute(
        [
            of_files(PHOTO, wanted=("image_hw",)),
            of_files(SMALL, PHOTO, wanted=("image_hw",)),
            of_files(SMALL, wanted=("image_hw",)),
        ]
    )
    assert batches == [4]
    assert [answer.arrays["image_hw"].tolist() for answer in answers] == [[[48, 64]], [[20, 30], [48, 64]], [[20, 30]]]


def test_a_bad_picture_is_an_error_of_its_own_request_only(model: TritonPythonModel) -> None:
    good, bad, empty, also_good = model.execute(
        [
            of_files(PHOTO),
            of_files(b"no image"),
            Request([Tensor("image", np.empty((1, 0), np.uint8))]),
            of_files(SMALL),
        ]
    )
    assert good.arrays["count"].tolist() == also_good.arrays["count"].tolist() == [[1]]
    assert bad.error.code == empty.error.code == TritonError.INVALID_ARG
    assert "is not an image" in bad.error.text
    assert "image: is empty" in empty.error.text
    assert all("\n" not in one.error.text for one in (bad, empty))


def test_if_a_batch_fails_each_request_gets_its_own_answer(
    model: TritonPythonModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect = type(model._detector).detect_batch

    def choosy(self: Any, images: Any, **how: Any) -> Any:
        if any(image.shape[0] == 20 for image in images):
            raise InputError("does not like it")
        return detect(self, images, **how)

    monkeypatch.setattr(type(model._detector), "detect_batch", choosy)
    good, bad = model.execute([of_files(PHOTO), of_files(SMALL)])
    assert good.arrays["count"].tolist() == [[1]]
    assert bad.error.text == "does not like it"


def test_a_request_without_an_image_is_refused(model: TritonPythonModel) -> None:
    (answer,) = model.execute([Request([])])
    assert answer.error.text == "a request without an image: expected image"


def test_a_request_has_thresholds_of_its_own(model: TritonPythonModel) -> None:
    requests = [
        of_files(PHOTO, given='{"score_threshold": 0.95}'), of_files(PHOTO, given='{"score_threshold": "0.5", "x": 1}'),
        of_files(PHOTO),
    ]  # fmt: skip
    assert [answer.arrays["count"].tolist() for answer in model.execute(requests)] == [[[0]], [[1]], [[1]]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('{"score_threshold": 2}', "score_threshold: out of range: expected a number from 0 to 1, got 2.0"),
        ('{"score_threshold": "nan"}', "score_threshold: out of range"),
        ('{"iou_threshold": "x"}', "parameters: is not a number"),
    ],
)
def test_a_wrong_threshold_is_an_error_of_that_request(model: TritonPythonModel, given: str, message: str) -> None:
    bad, good = model.execute([of_files(PHOTO, given=given), of_files(PHOTO)])
    assert bad.error.text.startswith(message)
    assert good.error is None


def test_pixels_are_taken_as_they_are(model: TritonPythonModel) -> None:
    pixels = np.zeros((2, 30, 50, 3), np.uint8)
    (answer,) = model.execute([Request([Tensor("pixels", pixels)], ("image_hw",))])
    assert answer.arrays["image_hw"].tolist() == [[30, 50], [30, 50]]


def test_options_of_the_configuration_are_those_of_load(folder: Path) -> None:
    model = TritonPythonModel()
    model.initialize(arguments(folder, {"score_threshold": 0.95, "max_detections": 7}))
    (answer,) = model.execute([of_files(PHOTO)])
    model.finalize()
    assert answer.arrays["count"].tolist() == [[0]]
    assert answer.arrays["scores"].shape == (1, 7)


def test_instances_share_the_cores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yoloship.triton import python_model

    monkeypatch.setattr(python_model, "usable_cores", lambda: 8)
    found = python_model._load_arguments(
        json.loads(arguments(folder, instance_group=[{"count": 3}])["model_config"]), {"model_instance_kind": "CPU"}
    )
    assert found == {"device": "cpu", "workers": 2}


def test_an_instance_on_a_gpu_loads_the_model_there(folder: Path) -> None:
    from yoloship.triton import python_model

    config = json.loads(arguments(folder)["model_config"])
    found = python_model._load_arguments(config, {"model_instance_kind": "GPU", "model_instance_device_id": "3"})
    assert found == {"device": "cuda:3"}


def test_a_configuration_without_our_parameters_is_refused(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"parameter yoloship.*: is missing in config.pbtxt; write the repository again"
    ):
        TritonPythonModel().initialize(arguments(folder, parameters={}))
