"""What `predict` takes beyond the network on this GPU, for each task, with 20 objects on a frame of 1080×810 pixels.

    python bench/gpu_tasks.py --out gpu_tasks.json
    python bench/gpu_tasks.py --models best-seg.onnx best-pose.onnx    # real networks as well, by their own runtime

The networks of the first kind have their answers ready on the device and do nothing, so what remains is all around
them: the frame's way up, the letterbox, and what turns answers into results. They have the sizes of the official ones:
640×640, 80 classes (15 of oriented boxes), 32 mask coefficients, 17 keypoints. The figures are the host's clock; what
is compared is measured in turns. Each result is first compared with that of the CPU pipeline.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from gpu_pipeline import in_turns, installed  # noqa: E402 - the path above leads to it

from helpers.canned_device import CannedSession  # noqa: E402
from helpers.models import info  # noqa: E402
from helpers.task_answers import TaskCase, assert_same_result  # noqa: E402
from yoloship import load  # noqa: E402
from yoloship._util.cache import trusted_folder  # noqa: E402
from yoloship.cuda.buffers import upload  # noqa: E402
from yoloship.cuda.compiler import KernelSet, nvrtc_version  # noqa: E402
from yoloship.cuda.device import Device  # noqa: E402
from yoloship.detect.detector import Defaults, Detector  # noqa: E402
from yoloship.detect.gpu.pipeline import CudaPipeline  # noqa: E402
from yoloship.detect.gpu.transfer import CudaTuning  # noqa: E402
from yoloship.detect.pipeline import ModelInput  # noqa: E402
from yoloship.models.gpu_loading import _with_the_rest_on_the_cpu  # noqa: E402
from yoloship.transforms import transform_of  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIDE = 640
STRIDES = (8, 16, 32)
COLUMNS, ROWS = 5, 4
COEFFICIENTS, POINTS = 32, 17
LEVEL = 1  # at stride 16


def cells() -> Iterator[tuple[int, int]]:
    """(row, column) at stride 16 of the centre of each of 20 objects, where the frame lies on the canvas."""
    for row in range(ROWS):
        for column in range(COLUMNS):
            yield 5 + 10 * row, 7 + 6 * column


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def maps(_: tuple[int, int], *, classes: int, extras: int, bins: int) -> list[Any]:
    """Undecoded maps of a head without anchors: nothing, but for 20 boxes of about 96×128 pixels."""
    found = []
    for level, stride in enumerate(STRIDES):
        h = w = SIDE // stride
        boxes = rng().normal(0, 1, (4 * bins, h, w))
        scores = rng().normal(-12, 1, (classes, h, w))
        more = rng().normal(0, 1, (extras, h, w))
        if level == LEVEL:
            for number, (row, column) in enumerate(cells()):
                scores[number % classes, row, column] = 1 + number / 10
                for side, cell_count in enumerate((3, 4, 3, 4)):
                    if bins == 1:
                        boxes[side, row, column] = cell_count
                    else:
                        boxes[side * bins + cell_count, row, column] = 20
        found += [boxes, scores, more][: 3 if extras else 2]
    return [one.astype(np.float32) for one in found]


def columns(_: tuple[int, int], *, classes: int, extras: int) -> list[Any]:
    """The same boxes as decoded columns."""
    count = sum((SIDE // stride) ** 2 for stride in STRIDES)
    rows = np.zeros((4 + classes + extras, count), np.float32)
    rows[:4] = 10
    rows[4 + classes :] = rng().normal(0, 1, (extras, count))
    for number, (row, column) in enumerate(cells()):
        at = (SIDE // STRIDES[0]) ** 2 + row * (SIDE // STRIDES[1]) + column
        rows[:4, at] = (16 * column + 8, 16 * row + 8, 96, 128)
        rows[4 + number % classes, at] = 0.7 + number / 100
    return [rows]


def chosen(_: tuple[int, int], *, classes: int, extras: int) -> list[Any]:
    """The same boxes as rows of a one-to-one head."""
    rows = np.zeros((300, 6 + extras), np.float32)
    rows[:, 6:] = rng().normal(0, 1, (300, extras))
    for number, (row, column) in enumerate(cells()):
        x, y = 16 * column + 8, 16 * row + 8
        rows[number, :6] = (x - 48, y - 64, x + 48, y + 64, 0.9 - number / 100, number % classes)
    return [rows]


def with_prototypes(boxes: Callable[..., list[Any]], canvas_hw: tuple[int, int]) -> list[Any]:
    coarse = rng().normal(0, 1, (COEFFICIENTS, 20, 20)).astype(np.float32)
    return [*boxes(canvas_hw), coarse.repeat(8, axis=1).repeat(8, axis=2)]


def case(name: str, form: str, answer: Any, classes: int = 80, **fields: Any) -> TaskCase:
    record = info(
        form, family="ultralytics", anchors=(), strides=STRIDES, input_hw=(SIDE, SIDE), batch=1,
        class_names=tuple(map(str, range(classes))), **fields,
    )  # fmt: skip
    return TaskCase(name, record, answer)


def cases() -> list[TaskCase]:
    one: dict[str, Any] = {"head": "one2one"}
    segment: dict[str, Any] = {"task": "segment", "extra_columns": COEFFICIENTS, "mask_rule": "ultralytics-8.4.61"}
    pose: dict[str, Any] = {"task": "pose", "extra_columns": 3 * POINTS, "keypoint_shape": (POINTS, 3)}
    obb: dict[str, Any] = {"task": "obb", "extra_columns": 1}
    made = [
        case("detect v8 heads", "heads", partial(maps, classes=80, extras=0, bins=16)),
        case("detect v8 raw", "raw", partial(columns, classes=80, extras=0)),
        case("detect 26 heads", "heads", partial(maps, classes=80, extras=0, bins=1), **one),
        case("detect 26 end2end", "end2end", partial(chosen, classes=80, extras=0), **one),
    ]
    boxes = {
        "v8 heads": partial(maps, classes=80, extras=COEFFICIENTS, bins=16),
        "v8 raw": partial(columns, classes=80, extras=COEFFICIENTS),
    }
    for name, answer in boxes.items():
        form = name.split()[1]
        made.append(case(f"segment {name}", form, partial(with_prototypes, answer), **segment))
    old = {**segment, "mask_rule": "yolov5"}
    made.append(case("segment v8 heads, rule of yolov5", "heads", partial(with_prototypes, boxes["v8 heads"]), **old))
    return [
        *made,
        case("pose v8 heads", "heads", partial(maps, classes=1, extras=3 * POINTS, bins=16), 1, **pose),
        case("pose 26 end2end", "end2end", partial(chosen, classes=1, extras=3 * POINTS), 1, **pose, **one),
        case("obb v8 heads", "heads", partial(maps, classes=15, extras=1, bins=16), 15, **obb),
        case("obb v8 raw", "raw", partial(columns, classes=15, extras=1), 15, **obb),
    ]


class ReadySession(CannedSession):
    """Its answers are on the device already; a run of the network does as good as nothing."""

    def context(self, input_shapes: Any, stream: Any) -> Any:
        made = super().context(input_shapes, stream)
        for target, source in made._copies:
            upload(stream, target, source)
        stream.sync()
        del made._copies[1:]
        target, source = made._copies[0]
        made._copies[0] = (target, source.reshape(-1)[:16])
        return made


def frame() -> Any:
    return rng().integers(0, 256, (1080, 810, 3), dtype=np.uint8)


def measured(detector: Detector, arguments: argparse.Namespace, options: Any = None) -> dict[str, Any]:
    """Overheads over the network alone, in microseconds, and what the stages take on the device."""
    image = frame()
    pinned = detector.pinned_frame(image.shape[:2])
    pinned[...] = image
    found = detector(pinned, options=options)
    with detector.network(1) as network:
        turns: dict[str, Any] = {
            "network": network,
            "pinned": lambda: detector(pinned, options=options),
            "pageable": lambda: detector(image, options=options),
        }
        times: dict[str, Any] = in_turns(turns, arguments.blocks, arguments.block)
    base = times["network"]["p50_us"]
    profiles = [detector.profile([pinned]).stages_ms for _ in range(arguments.block)]
    stages = {name: round(float(np.median([one[name] for one in profiles])) * 1e3, 1) for name in profiles[0]}
    over = {name: round(times[name]["p50_us"] - base, 1) for name in ("pinned", "pageable")}
    worst = {name: round(times[name]["p90_us"] - times["network"]["p50_us"], 1) for name in ("pinned", "pageable")}
    return {"objects": len(found), "network_us": base, "over_us": over, "over_p90_us": worst, "stages_us": stages}


def told(name: str, row: dict[str, Any]) -> None:
    over, worst = row["over_us"], row["over_p90_us"]
    print(
        f"{name:36s} {row['objects']:3d} objects, network {row['network_us']:8.1f} µs, over it "
        f"pinned {over['pinned']:7.1f} (p90 {worst['pinned']:7.1f}), pageable {over['pageable']:7.1f} µs; "
        f"{row['stages_us']}",
        flush=True,
    )


def canned(device: Device, kernels: KernelSet, arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    for one in cases():
        session: Any = ReadySession(device, one.record, one.answer)
        pipeline = CudaPipeline(session, kernels, ModelInput.checked(one.record, None, "square", one.name))
        with Detector.over(pipeline) as detector, one.on_cpu() as cpu:
            chains = [(one.name, detector.options)]
            if one.record.task == "segment" and "rule" not in one.name:
                chains.append((f"{one.name}, retina masks", replace(detector.options, retina_masks=True)))
            for name, options in chains:
                assert_same_result(detector(frame(), options=options), cpu(frame(), options=options))
                results[name] = measured(detector, arguments, options)
                told(name, results[name])


def classify(device: Device, stack: ExitStack, arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    """1000 classes of a 224×224 crop. The CPU prepares the image, and reads the answer."""
    answer = rng().normal(0, 2, 1000).astype(np.float32)
    record = info(
        "raw", task="classify", family="resnet", class_names=tuple(map(str, range(1000))), strides=(), anchors=(),
        input_form="image", input_hw=(224, 224), class_scores="logits", transform=transform_of("torchvision-v1"),
    )  # fmt: skip
    one = TaskCase("classify", record, lambda _: [answer])
    session: Any = ReadySession(device, record, one.answer)
    model = ModelInput.checked(record, None, "square", one.name)
    detector = Detector.over(_with_the_rest_on_the_cpu(stack, session, model, CudaTuning()), Defaults())
    with detector, one.on_cpu() as cpu:
        assert detector(frame()) == cpu(frame())
        results[one.name] = measured(detector, arguments)
        told(one.name, results[one.name])


def real(arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    for path in arguments.models:
        with load(path, device="cuda") as detector:
            results[path.name] = measured(detector, arguments)
            told(path.name, results[path.name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="ONNX files or engines of any task")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--block", type=int, default=100)
    parser.add_argument("--smoke", action="store_true", help="quick: whether it runs, not how fast")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.blocks = arguments.block = 1
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        device = stack.enter_context(Device.open())
        kernels = stack.enter_context(KernelSet(device, trusted_folder("kernels")))
        report = {
            "what": "predict over the network alone, for each task; see bench/gpu_tasks.py",
            "device": device.name, "cuda_driver": list(device.driver_version), "nvrtc": list(nvrtc_version()),
            "python": platform.python_version(), "cores": os.cpu_count(),
            "versions": {name: installed(name) for name in ("numpy", "opencv-python-headless", "onnxruntime-gpu")},
            "results": results,
        }  # fmt: skip
        print(f"{report['device']}, Python {report['python']}, {report['cores']} cores", flush=True)
        canned(device, kernels, arguments, results)
        classify(device, stack.enter_context(ExitStack()), arguments, results)
        real(arguments, results)
        if arguments.out:
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
