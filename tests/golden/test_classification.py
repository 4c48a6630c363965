"""Every classification checkpoint against what its own library computes from it, on noise and on the photos.

Networks of the real size are compared once, with fixed and open sizes in turn, so that the suite stays quick.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from helpers.shared import CHECKPOINTS, GENERATED, PHOTOS, require
from yoloship import load
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import InputError
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.transforms import transform_of
from yoloship.transforms.crop import Crop

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.checkpoint import Checkpoint

    Floats = npt.NDArray[np.float32]

FAMILIES = CHECKPOINTS / "families"
GREY = "tv-gray"
RESNETS = (
    "tv-basic-1111", "tv-cifar-stem", "tv-dataparallel", "tv-fc-sequential", GREY, "tv-half", "tv-resnext-4x16",
    "timm-resnet-basic", "timm-resnet-d", "sd-model_state_dict-classes", "sd-resnet50-thin-module", "sd-resnet18",
    "sd-resnet50",
)  # fmt: skip
YOLO = ("y5-cls", "v7-yolov5n-cls")
ULTRALYTICS = ("v8-cls", "y11-cls", "old-8.0.43-v8-cls", "old-8.0.100-v8-cls")
"""Their references are probabilities."""
LARGE = frozenset({"sd-resnet18", "sd-resnet50"})
"""Networks of the real size: they meet one shape each, so that the suite stays quick."""
SIZES = (((128, 192), "pred"), ((160, 160), "pred_160x160"))
RELATIVE = 1e-4
"""Of the largest logit. The references' own README allows 1e-3."""
SHOTS = ("bus", "zidane", "street")


@cache
def checkpoint(name: str) -> Checkpoint:
    folder = GENERATED if name.startswith("v7") else FAMILIES
    return read_checkpoint(require(folder / f"{name}.pt"))


def reference(name: str) -> Any:
    return np.load(require((GENERATED if name.startswith("v7") else FAMILIES) / f"{name}.npz"))


def noise(name: str, hw: tuple[int, int]) -> Floats:
    return np.random.default_rng(7).random((2, 1 if name == GREY else 3, *hw), dtype=np.float32)


def scores(name: str, images: npt.NDArray[Any], config: GraphConfig) -> Floats:
    session = ort.InferenceSession(graph_bytes(build_graph(checkpoint(name), config)))
    found: Floats = session.run(None, {"images": images})[0]
    return found


def cases() -> list[Any]:
    return [
        pytest.param(name, hw, key, dynamic, id=f"{name}-{key}-{'any' if dynamic else 'fixed'}")
        for name in (*RESNETS, *YOLO, *ULTRALYTICS)
        for hw, key in (SIZES[:1] if name in LARGE or name.startswith("v7") else SIZES)
        for dynamic in ((True,) if name in LARGE else (False, True))
    ]


@pytest.mark.parametrize(("name", "hw", "key", "dynamic"), cases())
def test_its_logits_are_those_of_its_own_library(name: str, hw: tuple[int, int], key: str, dynamic: bool) -> None:
    config = GraphConfig(None, None, transform="none") if dynamic else GraphConfig(hw, 2, transform="none")
    want = reference(name)[key]
    found = scores(name, noise(name, hw), config)
    assert np.abs(found - want).max() <= RELATIVE * np.abs(want).max()


@pytest.mark.parametrize("name", [name for name in (*RESNETS, "y5-cls", "y11-cls") if name not in LARGE])
def test_images_give_what_the_normalised_tensor_gives(name: str) -> None:
    """The graph that takes uint8 images normalises them itself, around the zeros with which convolutions pad."""
    text = "torchvision-v1:mean=0.485,std=0.229" if name == GREY else "torchvision-v1"
    channels = 1 if name == GREY else 3
    images = np.random.default_rng(9).integers(0, 256, (2, 96, 96, channels), np.uint8)
    transform = transform_of(text, (96, 96))
    planes = images[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (transform.mean, transform.std))
    want = scores(name, (planes - mean) / std, GraphConfig((96, 96), 2, transform=text))
    for config in (
        GraphConfig((96, 96), 2, "image", transform=text),
        GraphConfig(None, None, "image", transform=text),
    ):
        assert np.abs(scores(name, images, config) - want).max() <= RELATIVE * np.abs(want).max()


@pytest.mark.parametrize("photo", SHOTS)
def test_a_photo_is_cut_as_torchvision_cuts_it(photo: str) -> None:
    image = cv2.imread(str(require(PHOTOS / f"{photo}.jpg")))
    assert image is not None
    want = np.load(require(FAMILIES / "preprocessed-classify.npz"))[f"torchvision_{photo}"].astype(int)
    found = Crop.of((image.shape[0], image.shape[1]), transform_of("torchvision-v1")).apply(image)[..., ::-1]  # type: ignore[arg-type]
    assert np.abs(found - want).max() <= 1
    assert (found != want).mean() < 1e-3


@pytest.mark.parametrize("name", [*RESNETS, "y5-cls", *ULTRALYTICS])
def test_the_five_best_classes_of_a_photo_are_those_of_its_own_library(name: str) -> None:
    transform = None if name not in RESNETS else "torchvision-v1"
    if name == GREY:
        transform = "torchvision-v1:mean=0.485,std=0.229"
    want = json.loads(require(FAMILIES / f"{name}.json").read_text())["default"]
    with load(require(FAMILIES / f"{name}.pt"), transform=transform) as model:
        for photo in SHOTS:
            source: Any = require(PHOTOS / f"{photo}.jpg")
            if name == GREY:  # the reference takes the red plane
                source = np.asarray(cv2.imread(str(source)))[:, :, 2:]
            best = model(source).top()
            rows = want[f"{photo}.jpg"]["top5"]
            assert [one.class_id for one in best] == [class_id for class_id, _ in rows]
            np.testing.assert_allclose([one.score for one in best], [score for _, score in rows], atol=2e-3)


def test_class_names_come_from_the_file_or_from_imagenet() -> None:
    assert checkpoint("sd-model_state_dict-classes").class_names == ("ant", "bee", "wasp")
    assert checkpoint("sd-resnet50").class_names[:2] == ("tench", "goldfish")
    assert len(set(checkpoint("sd-resnet18").class_names)) == 1000
    assert checkpoint("tv-basic-1111").class_names[9] == "class9"
    assert checkpoint("y5-cls").class_names == ("ant", "bee", "cat", "dog", "elk", "fox")


def test_only_what_a_file_says_about_its_transform_is_known() -> None:
    assert model_info(checkpoint("y5-cls"), GraphConfig((224, 224))).transform == transform_of("yolov5")
    for name, want in (
        ("v8-cls", transform_of("ultralytics")),
        ("y11-cls", transform_of("ultralytics")),
        ("old-8.0.43-v8-cls", transform_of("yolov5")),
        ("old-8.0.100-v8-cls", transform_of("yolov5:mean=0/0/0,std=1/1/1")),
    ):
        assert model_info(checkpoint(name), GraphConfig((224, 224))).transform == want
    for name in ("tv-basic-1111", "timm-resnet-d", "sd-resnet18"):
        with pytest.raises(InputError, match="does not say how images become its input"):
            model_info(checkpoint(name), GraphConfig((224, 224)))


def test_the_file_is_a_real_size_network() -> None:
    """So that the references of the two large files mean something."""
    assert checkpoint("sd-resnet50").module.parameter_count() > 1_000_000
    assert Path(require(FAMILIES / "sd-resnet50.pt")).stat().st_size > 1_000_000
