"""A trained network on a device gives the numbers and the boxes of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from helpers.device_sessions import DATA, is_stand_in, make_images, on_host, run
from helpers.shared import PHOTOS, TRAINED
from yoloship.checkpoint import read_checkpoint
from yoloship.detect.detector import Detector
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    from helpers.device_sessions import Open
    from yoloship.cuda.device import Device


def data(name: str, folder: Path) -> Path:
    for path in (DATA / name, folder / name):
        if path.exists():
            return path
    pytest.skip(f"neither runs/gpu-data nor ../shared has {name}")


def trained(config: GraphConfig) -> onnx.ModelProto:
    return build_graph(read_checkpoint(data("coco-yolov5n.pt", TRAINED)), config)


TRAINED_SIDES = [{"images": [(1, 3, 64, 64), (1, 3, 640, 640), (8, 3, 640, 640)]}]


def test_a_trained_network_gives_the_numbers_of_the_cpu(open_session: Open, device: Device) -> None:
    model = trained(GraphConfig(input_hw=None, batch=None, output_form="heads"))
    with (
        OnnxRuntimeSession.open(graph_bytes(model)) as reference,
        on_host(open_session(model, TRAINED_SIDES)) as host,
    ):
        for shape in ((1, 3, 320, 256), (2, 3, 160, 192)):
            images = make_images(*shape)
            found, wanted = run(host, images), run(reference, images)
            for a, b in zip(found, wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-3, atol=5e-3)


@pytest.mark.parametrize("output_form", ["raw", "compact"])
def test_graphs_that_decode_give_the_numbers_of_the_cpu(open_session: Open, output_form: Any) -> None:
    model = trained(GraphConfig(input_hw=(128, 160), output_form=output_form))
    with OnnxRuntimeSession.open(graph_bytes(model)) as reference, on_host(open_session(model)) as host:
        images = make_images(1, 3, 128, 160)
        found, wanted = run(host, images), run(reference, images)
        np.testing.assert_allclose(found[0][..., :4], wanted[0][..., :4], rtol=1e-3, atol=0.05)  # boxes, in pixels
        if output_form == "raw":
            np.testing.assert_allclose(found[0][..., 4:], wanted[0][..., 4:], atol=1e-3)
        else:
            np.testing.assert_allclose(found[1], wanted[1], atol=1e-3)
            assert (found[2] == wanted[2]).mean() > 0.9  # of rubbish, the best class is a near thing


def test_detections_on_photos_are_those_of_the_cpu(open_session: Open, device: Device) -> None:
    photos = [data(name, PHOTOS) for name in ("bus.jpg", "zidane.jpg")]
    if is_stand_in(device):
        photos = photos[:1]  # the CPU runs it twice
    from yoloship.images import read_image

    model = trained(GraphConfig(output_form="heads"))
    host = on_host(open_session(model, info=None))
    if not host.metadata:  # an engine without a record
        from yoloship.graph import model_info

        host.close()
        config = GraphConfig(output_form="heads")
        info = model_info(read_checkpoint(data("coco-yolov5n.pt", TRAINED)), config)
        host = on_host(open_session(model, info=info))
    with Detector(OnnxRuntimeSession.open(graph_bytes(model))) as cpu, Detector(host) as gpu:
        for photo in photos:
            image = read_image(photo)
            wanted, found = cpu(image), gpu(image)
            assert len(wanted) == len(found) > 0
            np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
            np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.5)
            np.testing.assert_allclose(found.scores, wanted.scores, atol=2e-3)


def test_half_precision_stays_near_the_cpu(open_session: Open) -> None:
    model = trained(GraphConfig(input_hw=(128, 128), precision="float16"))
    plain = trained(GraphConfig(input_hw=(128, 128)))
    with OnnxRuntimeSession.open(graph_bytes(plain)) as reference, on_host(open_session(model)) as host:
        images = make_images(1, 3, 128, 128)
        (found,), (wanted,) = run(host, images), run(reference, images)
        assert float(np.abs(found[..., 4:] - wanted[..., 4:]).max()) < 0.05
        assert float(np.abs(found[..., :4] - wanted[..., :4]).max()) < 8
