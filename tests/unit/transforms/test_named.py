from __future__ import annotations

import pytest

from yoloship.errors import InputError
from yoloship.transforms import TRANSFORMS, Transform, transform_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("text", "hw", "want"),
    [
        ("torchvision-v1", (224, 224), Transform("crop", 256, (224, 224), "bilinear", MEAN, STD)),
        ("torchvision-v2", (224, 224), Transform("crop", 232, (224, 224), "bilinear", MEAN, STD)),
        ("torchvision-v1:resize=300", (256, 320), Transform("crop", 300, (256, 320), "bilinear", MEAN, STD)),
        ("timm", (224, 224), Transform("crop", 256, (224, 224), "bicubic", MEAN, STD)),
        ("timm:crop_pct=0.95", (224, 224), Transform("crop", 235, (224, 224), "bicubic", MEAN, STD)),
        ("timm:crop_pct=0.965", (176, 176), Transform("crop", 182, (176, 176), "bicubic", MEAN, STD)),
        ("timm:interpolation=bilinear", (224, 224), Transform("crop", 256, (224, 224), "bilinear", MEAN, STD)),
        ("yolov5", (96, 128), Transform("square", None, (96, 128), "opencv-linear", MEAN, STD)),
        ("ultralytics", (64, 64), Transform("crop", 64, (64, 64), "bilinear", (0.0,) * 3, (1.0,) * 3)),
        ("ultralytics", (64, 96), Transform("stretch", None, (64, 96), "bilinear", (0.0,) * 3, (1.0,) * 3)),
        ("timm:mean=0.5,std=0.25", (224, 224), Transform("crop", 256, (224, 224), "bicubic", (0.5,), (0.25,))),
    ],
)  # fmt: skip
def test_a_name_gives_the_transform_of_that_library(text: str, hw: tuple[int, int], want: Transform) -> None:
    assert transform_of(text, hw) == want


def test_a_record_as_text_gives_the_same_record_again() -> None:
    for name in TRANSFORMS:
        for hw in ((224, 224), (96, 96)):
            made = transform_of(name, hw)
            assert transform_of(made.text, hw) == made
    stretched = Transform("stretch", None, (64, 96), "bicubic", (0.1, 0.25, 1 / 3), (1.0, 0.5, 1e-3))
    assert transform_of(stretched.text, (64, 96)) == stretched


@pytest.mark.parametrize("name", TRANSFORMS)
def test_without_a_size_it_is_that_of_imagenet(name: str) -> None:
    assert transform_of(name).crop == (224, 224)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imagenet", "is not a transform: expected torchvision-v1, torchvision-v2, timm, yolov5, ultralytics"),
        ("", "is not a transform"),
        ("timm:" + "x" * 2000, "is not a transform"),
        ("timm:", "is not a parameter of a transform"),
        ("timm:size=3", "is not a parameter of a transform: expected resize, crop_pct, interpolation, mean, std"),
        ("timm:crop_pct", "is not a parameter of a transform"),
        ("timm:mean=0,mean=0", "is not a parameter of a transform"),
        ("timm:crop_pct=0", "transform: crop_pct: cannot have this value: expected a number from 0.01 to 1"),
        ("timm:crop_pct=nan", "cannot have this value"),
        ("timm:resize=2.5", "expected a whole number from 1 to 8192"),
        ("timm:std=0/1/1", "transform: std"),
        ("timm:mean=a", "transform: mean"),
        ("timm:interpolation=nearest", "is not an interpolation"),
        ("timm:resize=256,crop_pct=0.9", "say the same thing"),
        ("yolov5:resize=256", "has no resize"),
        ("stretch:crop_pct=0.5", "has no crop_pct"),
    ],
)
def test_a_text_that_is_not_understood_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        transform_of(text)
    assert words in str(caught.value)


def test_a_cut_that_a_library_does_not_define_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"is defined for square inputs only.*torchvision-v1:resize=366"):
        transform_of("torchvision-v1", (224, 320))
