from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers import models
from helpers.datasets import write_image, write_text
from yoloship.datasets.dataset import Fault, Sample
from yoloship.detect.detector import Detector
from yoloship.evaluate.coco import Truth
from yoloship.validate.yolov5.network import Network
from yoloship.validate.yolov5.plan import Planned
from yoloship.validate.yolov5.seeing import Seen, labels_of, see
from yoloship.validate.yolov5.val_options import Yolov5Options

OPTIONS = Yolov5Options(imgsz=96)
BOX = (10.0, 20.0, 30.0, 40.0)


def network() -> Network:
    """It finds one box in the middle, as two classes."""
    raw = models.empty_rows(models.HW)
    raw[0, 7] = (48, 32, 24, 16, 0.9, 0.1, 0.8, 0.0)
    session = models.image_session(models.info("raw"), lambda _feeds: [raw])
    return Network(Detector(session, imgsz=models.HW), is_checkpoint=False, sha256="", name="m")


def samples(folder: Path, count: int, crowd: bool = False) -> list[Sample]:
    truth = Truth(np.array([[72.0, 48, 120, 80]]), np.array([1]), crowd=np.array([crowd]))
    return [
        Sample(write_image(folder / f"{place}.png", (128, 192), place), f"{place}.png", (128, 192), truth)
        for place in range(count)
    ]


def plan(count: int) -> list[Planned]:
    return [Planned(index, 0, models.HW) for index in reversed(range(count))]


def test_boxes_come_back_in_the_order_of_the_plan_and_are_judged(tmp_path: Path) -> None:
    seen = list(see(network(), samples(tmp_path, 5), plan(5), OPTIONS))
    assert [one.index for one in seen if isinstance(one, Seen)] == [4, 3, 2, 1, 0]
    for one in seen:
        assert isinstance(one, Seen)
        np.testing.assert_allclose(one.boxes_xyxy, [[72, 48, 120, 80]] * 2, atol=1e-3)
        np.testing.assert_allclose(one.scores, [0.72, 0.09], rtol=1e-5)
        assert one.class_ids.tolist() == [1, 0]
        assert one.judged.correct.all(axis=1).tolist() == [True, False]
        assert all(value > 0 for value in one.stages_ms)


def test_with_a_single_class_all_are_class_zero(tmp_path: Path) -> None:
    options = Yolov5Options(imgsz=96, single_class=True)
    (one,) = see(network(), samples(tmp_path, 1), plan(1), options)
    assert isinstance(one, Seen)
    assert one.class_ids.tolist() == [0]
    assert one.judged.label_ids.tolist() == [0]
    assert one.judged.correct.all()


def test_an_image_that_cannot_be_decoded_or_has_changed_is_a_fault(tmp_path: Path) -> None:
    found = samples(tmp_path, 3)
    data = found[1].path.read_bytes()
    write_text(found[1].path, data[: len(data) // 2])
    write_image(found[2].path, (100, 192))
    faults = [one for one in see(network(), found, plan(3), OPTIONS) if isinstance(one, Fault)]
    assert [(fault.path.name, fault.consequence) for fault in faults] == [
        ("2.png", "image left out"), ("1.png", "image left out"),
    ]  # fmt: skip
    assert faults[0].problem == "was changed while the dataset was read"


def test_crowds_are_not_labels(tmp_path: Path) -> None:
    (sample,) = samples(tmp_path, 1, crowd=True)
    shares, class_ids = labels_of(sample)
    assert shares.shape == (0, 4)
    assert class_ids.shape == (0,)


def test_progress_is_said_now_and_then(tmp_path: Path) -> None:
    said: list[tuple[str, float, float]] = []
    list(see(network(), samples(tmp_path, 11), plan(11), OPTIONS, lambda *words: said.append(words)))
    assert said == [("validating", 0, 11), ("validating", 10, 11)]
