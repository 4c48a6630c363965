"""Which networks belong to Ultralytics' family, and under which class paths its modules stand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from helpers.modules import Anchorless, Maker, anchorless_checkpoint, module
from yoloship.checkpoint import Module
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.families.ultralytics import Ultralytics


@pytest.mark.parametrize(
    ("path", "owned"),
    [
        ("ultralytics.nn.tasks.DetectionModel", True),
        ("ultralytics.nn.tasks.YOLOv10DetectionModel", True),
        ("ultralytics.nn.tasks.OBBModel", True),
        ("ultralytics.nn.tasks.WorldModel", False),
        ("ultralytics.nn.tasks.RTDETRDetectionModel", False),
        ("models.yolo.DetectionModel", False),
        ("acme.ultralytics.nn.tasks.DetectionModel", False),
    ],
)
def test_it_owns_the_model_classes_of_the_package(path: str, owned: bool) -> None:
    assert Ultralytics().owns(Module(path)) is owned


@pytest.mark.parametrize(
    "path",
    [
        "ultralytics.nn.modules.Conv",
        "ultralytics.nn.modules.conv.Conv",
        "ultralytics.nn.modules.block.Conv",
    ],
)
def test_modules_of_every_version_s_paths_are_written(path: str) -> None:
    make = Anchorless(1)
    stem = replace(make.conv(3, 8, 8, 8, padding=(0, 0)), class_path=path)
    build_graph(anchorless_checkpoint([(stem, -1), (make.detect_head([8], [8]), [-1])]), GraphConfig((64, 96)))


@pytest.mark.parametrize("path", ["models.common.Conv", "ultralytics.nn.extra.conv.Conv", "acme.Conv"])
def test_a_block_of_another_package_is_refused(path: str) -> None:
    make = Anchorless(1)
    stem = replace(Maker(1).conv(3, 8, 8, 8, padding=(0, 0)), class_path=path)
    with pytest.raises(GraphError, match=r"model\.0 .*is not a block that this version can write"):
        build_graph(anchorless_checkpoint([(stem, -1), (make.detect_head([8], [8]), [-1])]), GraphConfig((64, 96)))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("WorldDetect", "is a YOLO-World head of Ultralytics' package.*with its classes set"),
        ("YOLOESegment", "is a YOLOE head of"),
        ("RTDETRDecoder", "is an RT-DETR decoder"),
        ("SemanticSegment", "is a head for semantic segmentation of"),
        ("Mystery", "is a 'Mystery' of Ultralytics' package"),
    ],
)
def test_heads_that_are_not_written_are_named_as_what_they_are(head: str, words: str) -> None:
    make = Anchorless(1)
    layers: list[tuple[Module, int | list[int]]] = [
        (make.conv(3, 8, 8, 8), -1),
        (module(f"ultralytics.nn.modules.head.{head}", {"nc": 3}), [-1]),
    ]
    with pytest.raises(GraphError, match=words):
        build_graph(anchorless_checkpoint(layers), GraphConfig((64, 96)))


@pytest.mark.parametrize(
    ("blocks", "head", "design"),
    [
        (("C2f",), "Detect", "YOLOv8"),
        (("C2f", "SCDown"), "v10Detect", "YOLOv10"),
        (("RepNCSPELAN4",), "Detect", "YOLOv9"),
        (("C3k2", "C2PSA"), "Detect", "YOLO11"),
        (("C3k2", "A2C2f"), "Detect", "YOLO12"),
        (("C3",), "Detect", "YOLOv5u"),
        ((), "Detect", "Ultralytics"),
        (("C3k2",), "Classify", "Ultralytics"),
    ],
)
def test_a_design_shows_in_its_blocks(blocks: tuple[str, ...], head: str, design: str) -> None:
    parts = {str(i): module(f"ultralytics.nn.modules.block.{name}") for i, name in enumerate(blocks)}
    last = module(f"ultralytics.nn.modules.head.{head}", {} if head == "Classify" else {"reg_max": 16})
    assert (
        Ultralytics().design(module("ultralytics.nn.tasks.DetectionModel", None, None, None, **parts, x=last)) == design
    )


def test_the_newest_design_has_a_head_without_distributions() -> None:
    block = module("ultralytics.nn.modules.block.C3k2")
    head = module("ultralytics.nn.modules.head.Detect", {"reg_max": 1})
    assert Ultralytics().design(module("ultralytics.nn.tasks.DetectionModel", a=block, b=head)) == "YOLO26"


def test_layers_of_torch_stand_between_blocks_as_in_the_designs_of_yolov3_tiny_and_yolov6() -> None:
    """ZeroPad2d and MaxPool2d of the first, ConvTranspose2d of the second, and an Upsample of old versions."""
    make = Anchorless(1)
    pad = module("torch.nn.modules.padding.ZeroPad2d", {"padding": (0, 1, 0, 1), "value": 0.0})
    pool = module(
        "torch.nn.modules.pooling.MaxPool2d",
        {"kernel_size": 2, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False},
    )
    attributes = {
        "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "output_padding": (0, 0), "groups": 1,
        "padding_mode": "zeros",
    }  # fmt: skip
    up = module(
        "torch.nn.modules.conv.ConvTranspose2d", attributes, {"weight": make.values(8, 8, 2, 2), "bias": make.values(8)}
    )
    nearest = module(
        "torch.nn.modules.upsampling.Upsample",
        {"size": None, "scale_factor": 2.0, "mode": "nearest", "align_corners": None},
    )
    layers: list[tuple[Module, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (pad, -1),
        (pool, -1),
        (make.conv(8, 8, 3, 2), -1),
        (up, -1),
        (nearest, 3),
        (module("ultralytics.nn.modules.conv.Concat", {"d": 1}), [4, 5, 2]),
        (make.detect_head([24, 8], [8, 16]), [6, 3]),
    ]
    network = anchorless_checkpoint(layers, strides=(8, 16))
    session = ort.InferenceSession(graph_bytes(build_graph(network, GraphConfig(None, None))))
    (found,) = session.run(None, {"images": np.random.default_rng(1).random((2, 3, 64, 96), np.float32)})
    assert found.shape == (2, 7, 96 + 24)
    assert np.isfinite(found).all()
