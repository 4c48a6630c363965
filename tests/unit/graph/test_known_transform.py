from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from helpers.modules import changed, module, tensor
from helpers.resnets import classifier, resnet, saved_square, with_transforms
from yoloship.checkpoint import Module, Opaque
from yoloship.errors import InputError
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info, usual_hw
from yoloship.transforms import Transform, transform_of

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint

HW = (64, 64)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def known(network: Checkpoint, **config: Any) -> Transform | None:
    return model_info(network, GraphConfig(**{"input_hw": None, **config})).transform


def composed(*steps: Any) -> Opaque:
    return Opaque("torchvision.transforms.transforms.Compose", ({"transforms": list(steps)},))


def normalise(mean: Any = MEAN, std: Any = STD) -> Module:
    return Module("torchvision.transforms.transforms.Normalize", MappingProxyType({"mean": mean, "std": std}))


def step(name: str, **state: Any) -> Module:
    return Module(f"torchvision.transforms.transforms.{name}", MappingProxyType(state))


TO_TENSOR = Opaque("torchvision.transforms.transforms.ToTensor")
BILINEAR = Opaque("torchvision.transforms.functional.InterpolationMode", ("bilinear",))


def test_transforms_that_yolov5_saved_are_known() -> None:
    network = with_transforms(resnet(), saved_square(96, mean=(0.1, 0.2, 0.3)))
    assert known(network) == Transform("square", None, (96, 96), "opencv-linear", (0.1, 0.2, 0.3), (0.25,) * 3)
    assert usual_hw(network) == (96, 96)


@pytest.mark.parametrize(
    ("steps", "want"),
    [
        (
            (step("Resize", size=64, interpolation=BILINEAR), step("CenterCrop", size=(64, 64)), TO_TENSOR,
             normalise(tensor(np.array(MEAN)), tensor(np.array(STD)))),
            Transform("crop", 64, (64, 64), "bilinear", MEAN, STD),
        ),
        (
            (step("Resize", size=[72]), step("CenterCrop", size=64), TO_TENSOR, normalise()),
            Transform("crop", 72, (64, 64), "bilinear", MEAN, STD),
        ),
        (
            (step("Resize", size=(64, 96)), step("CenterCrop", size=(64, 96)), TO_TENSOR, normalise()),
            Transform("stretch", None, (64, 96), "bilinear", MEAN, STD),
        ),
    ],
)  # fmt: skip
def test_transforms_of_torchvision_that_were_saved_are_known(steps: tuple[Any, ...], want: Transform) -> None:
    assert known(with_transforms(resnet(), composed(*steps))) == want


@pytest.mark.parametrize(
    "saved",
    [
        composed(step("Resize", size=64), TO_TENSOR, normalise()),
        composed(step("Resize", size=64), step("Grayscale"), TO_TENSOR, normalise()),
        composed(step("Resize", size=64, max_size=9), step("CenterCrop", size=64), TO_TENSOR, normalise()),
        composed(step("Resize", size=-3), step("CenterCrop", size=64), TO_TENSOR, normalise()),
        composed(step("Resize", size=64), step("CenterCrop", size="x"), TO_TENSOR, normalise()),
        composed(step("Resize", size=64), step("CenterCrop", size=64), TO_TENSOR, normalise(std=(0, 0, 0))),
        composed(step("Resize", size=64), step("CenterCrop", size=64), TO_TENSOR, normalise(mean="x")),
        composed(),
        Opaque("torchvision.transforms.transforms.Compose", ({"transforms": 3},)),
        Opaque("torchvision.transforms.transforms.Compose"),
        Opaque("albumentations.core.composition.Compose", ({"transforms": []},)),
        "text",
    ],
)
def test_transforms_that_are_not_understood_are_asked_for(saved: Any) -> None:
    with pytest.raises(InputError, match="does not say how images become its input, except in transforms that are not"):
        known(with_transforms(resnet(), saved))


def test_a_module_of_torchvision_does_not_say_it() -> None:
    words = (
        r"hand\.pt: does not say how images become its input: expected the transform of its training \(--transform\): "
        r"torchvision-v1, torchvision-v2, timm, yolov5, ultralytics; torchvision-v1 resizes to 256"
    )
    with pytest.raises(InputError, match=words):
        known(resnet())


@pytest.mark.parametrize(
    ("digits", "name"), [("f37072fd", "torchvision-v1"), ("11ad3fa6", "torchvision-v2"), ("173b62eb", "torchvision-v2")]
)
def test_files_that_torchvision_published_are_known_by_their_content(digits: str, name: str) -> None:
    assert known(replace(resnet(), sha256=digits + "0" * 56)) == transform_of(name)
    with pytest.raises(InputError, match="does not say"):
        known(replace(resnet(), sha256="0" * 8 + digits + "0" * 48))


def test_timm_says_it_in_its_own_configuration() -> None:
    network = resnet(deep=True)
    configuration = {
        "input_size": (3, 64, 64), "crop_pct": 0.95, "interpolation": "bicubic", "mean": MEAN, "std": STD,
        "crop_mode": "center",
    }  # fmt: skip
    with_it = replace(network, module=changed(network.module, pretrained_cfg=configuration))
    assert known(with_it) == Transform("crop", 67, (64, 64), "bicubic", MEAN, STD)
    for name, value in (("crop_mode", "squash"), ("crop_pct", None), ("interpolation", "random"), ("mean", None)):
        other = {**configuration, name: value}
        with pytest.raises(InputError, match="does not say"):
            known(replace(network, module=changed(network.module, pretrained_cfg=other)))


@pytest.mark.parametrize(
    ("path", "version", "want"),
    [
        ("models.yolo.ClassificationModel", None, transform_of("yolov5")),
        ("ultralytics.nn.tasks.ClassificationModel", "8.4.190", transform_of("ultralytics")),
        ("ultralytics.nn.tasks.ClassificationModel", "8.1.0", transform_of("ultralytics")),
        ("ultralytics.nn.tasks.ClassificationModel", "8.0.43", None),
        ("ultralytics.nn.tasks.ClassificationModel", None, None),
    ],
)
def test_a_library_with_one_transform_says_it_by_its_version(
    path: str, version: str | None, want: Transform | None
) -> None:
    from yoloship.graph.known_transform import settled_transform
    from yoloship.graph.module_view import ModuleView

    network = replace(classifier(module(path)), metadata=MappingProxyType({"version": version}))
    root = ModuleView(network.module, "", "hand.pt")
    config = GraphConfig(None)
    if want is None:
        with pytest.raises(InputError, match="does not say"):
            settled_transform(config, network, root, task="classify", channels=3)
    else:
        assert settled_transform(config, network, root, task="classify", channels=3).transform == want


def test_the_callers_choice_comes_first() -> None:
    network = with_transforms(resnet(), saved_square())
    assert known(network, transform="timm") == transform_of("timm")
    assert known(network, transform=transform_of("torchvision-v2"), input_hw=(112, 112)) == transform_of(
        "torchvision-v2", (112, 112)
    )


def test_it_may_stay_open_for_a_graph_that_does_not_normalise() -> None:
    assert known(resnet(), transform="none") is None
    with pytest.raises(InputError, match="cannot be left open, because the graph normalises images"):
        known(resnet(), transform="none", input_form="image")


def test_a_transform_for_other_channels_is_refused() -> None:
    with pytest.raises(InputError, match="is for 3 channels, and the model has 1"):
        known(resnet(channels=1), transform="torchvision-v1")
    assert known(resnet(channels=1), transform="torchvision-v1:mean=0.5,std=0.5") is not None


@pytest.mark.parametrize(
    ("channels", "text"), [(3, "torchvision-v1"), (1, "yolov5:mean=0.4,std=0.3"), (3, "ultralytics")]
)
def test_the_graph_normalises_images_as_the_transform_says(channels: int, text: str) -> None:
    network = resnet(channels=channels)
    image = np.random.default_rng(1).integers(0, 256, (1, *HW, channels), np.uint8)
    config = GraphConfig(HW, input_form="image", transform=text)
    found = ort.InferenceSession(graph_bytes(build_graph(network, config))).run(None, {"images": image})[0]
    transform = transform_of(text, HW)
    planes = image[..., ::-1].transpose(0, 3, 1, 2) / 255
    values = (planes - np.reshape(transform.mean, (-1, 1, 1))) / np.reshape(transform.std, (-1, 1, 1))
    plain = GraphConfig(HW, transform=text)
    want = ort.InferenceSession(graph_bytes(build_graph(network, plain))).run(None, {"images": values.astype("f4")})[0]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_the_usual_size_is_that_of_the_training() -> None:
    network = resnet()
    assert usual_hw(network) == (224, 224)
    assert usual_hw(replace(network, metadata=MappingProxyType({"train_args": {"imgsz": 128}}))) == (128, 128)
    assert usual_hw(replace(network, metadata=MappingProxyType({"imgsz": 64}))) == (64, 64)
    assert usual_hw(network, transform_of("timm", (96, 96))) == (96, 96)
    assert usual_hw(replace(network, task="detect")) == (640, 640)
