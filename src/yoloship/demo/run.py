"""The whole demo on the bundled checkpoint: a scene, the graph, the boxes, what they say, and an engine."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from yoloship._util.strict_json import json_document
from yoloship.demo.scene import make_scene
from yoloship.errors import YoloshipError
from yoloship.results.boxes import pair_ious

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from yoloship._util.text import OnProgress
    from yoloship.demo.scene import Scene
    from yoloship.results.detection import Detection
    from yoloship.results.detections import Detections


QUIET_ZONE_SHARE = 0.2
"""Of the longer side, around the box: readers want the white border that the box leaves out."""
_READABLE_PX = 320
"""The decoder wants some pixels a module; smaller crops are enlarged to about this."""


def read_qr_codes(image: npt.NDArray[np.uint8], found: Detections) -> list[str | None]:
    """Decode each detection of the class ``qr_code`` from its box alone.

    Args:
        image: (height, width, 3) uint8 BGR; read only.
        found: What was found in it.

    Returns:
        For each detection its text; None if it is of another class, or cannot be decoded.
    """
    reader = cv2.QRCodeDetector()
    texts: list[str | None] = []
    for detection in found:
        text = ""
        if detection.class_name == "qr_code":
            text, *_ = reader.detectAndDecode(_crop(image, detection.box_xyxy))
        texts.append(text or None)
    return texts


def _crop(image: npt.NDArray[np.uint8], box_xyxy: tuple[float, float, float, float]) -> npt.NDArray[np.uint8]:
    x1, y1, x2, y2 = box_xyxy
    margin = QUIET_ZONE_SHARE * max(x2 - x1, y2 - y1)
    left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
    part = image[top : int(y2 + margin) + 1, left : int(x2 + margin) + 1]
    times = max(1, round(_READABLE_PX / max(part.shape[:2])))
    size = part.shape[1] * times, part.shape[0] * times
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_CUBIC), np.uint8)


MODEL_NAME: Final = "codes-yolov5n"
DEFAULT_SEED: Final = 1_000_001_356
"""A held-out scene with several codes of each kind."""
SCENE_HW: Final = (720, 960)
MATCH_IOU: Final = 0.5
GOOD_SHARE: Final = 0.8
"""Of the codes that must be found for the demonstration to have worked."""
FILES: Final = (
    "scene.png",
    f"{MODEL_NAME}.onnx",
    "found.jpg",
    "found.json",
    f"{MODEL_NAME}.engine",
    f"{MODEL_NAME}.engine.json",
)
"""The files that it writes. The engine is written only if it can be built."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the demonstration.

    Attributes:
        what: In a few words.
        seconds: How long it took.
        result: What came out, or why nothing did.
        path: The file that it left, if any.
    """

    what: str
    seconds: float
    result: str
    path: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DemoResult:
    """What the demonstration found, and how it got there.

    Attributes:
        found: The detections.
        texts: For each detection, what its QR code says. None if it is not a QR code, or could not be decoded.
        codes: How many codes the scene has.
        matched: How many of them were found, of the right class and at an IoU of 0.5 or more.
        steps: In order.
    """

    found: Detections
    texts: tuple[str | None, ...]
    codes: int
    matched: int
    steps: tuple[Step, ...]

    @property
    def extra(self) -> int:
        """Detections that are not a code of the scene."""
        return len(self.found) - self.matched

    @property
    def good(self) -> bool:
        """Whether nearly all codes were found, and hardly anything else."""
        return self.matched >= GOOD_SHARE * self.codes and self.extra <= (1 - GOOD_SHARE) * self.codes


def checkpoint_bytes() -> bytes:
    """The bundled checkpoint: YOLOv5n, float16 weights, trained on scenes (docs/demo-model.md)."""
    return (files("yoloship.demo") / f"{MODEL_NAME}.pt").read_bytes()


def run_demo(
    folder: Path, seed: int = DEFAULT_SEED, on_progress: OnProgress | None = None, *, overwrite: bool = False
) -> DemoResult:
    """Make a scene and take the bundled checkpoint all the way to boxes in it, with no network.

    Args:
        folder: Takes all `FILES`; made if it does not exist. Files of an earlier demonstration are replaced.
        seed: Number of the scene.
        on_progress: Called as each step begins.
        overwrite: Whether files of those names may be replaced even if there was no earlier demonstration.

    Raises:
        InputError: the seed is out of range.
        OutputError: the folder cannot be written, or a file exists that no demonstration left.
    """
    from yoloship._util.outputs import Outputs
    from yoloship._util.writing import made_folder, write_bytes
    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, build_graph, graph_bytes
    from yoloship.kinds import is_checkpoint
    from yoloship.models.loading import load
    from yoloship.results.drawing import draw_boxes
    from yoloship.sinks import write_image

    was_here = (folder / f"{MODEL_NAME}.onnx").is_file()
    Outputs((), overwrite=overwrite or was_here, is_checkpoint=is_checkpoint).claim_inside(folder, FILES)
    made_folder(folder)
    log = _Log(on_progress)
    with log.step("make a scene") as entry:
        scene = make_scene(seed, SCENE_HW)
        entry.path = folder / "scene.png"
        write_image(scene.image, entry.path, overwrite=True)
        entry.result = f"seed {seed}, {len(scene.class_ids)} codes"
    with log.step("read the checkpoint") as entry:
        data = checkpoint_bytes()
        checkpoint = read_checkpoint(data)
        parameters = checkpoint.module.parameter_count()
        entry.result = f"{len(data) / 1e6:.1f} MB, {parameters / 1e6:.1f} M parameters; nothing in it was executed"
    with log.step("write the ONNX file") as entry:
        onnx = entry.path = folder / f"{MODEL_NAME}.onnx"
        graph = graph_bytes(build_graph(checkpoint, GraphConfig()))
        write_bytes(onnx, graph)
        entry.result = f"{len(graph) / 1e6:.1f} MB"
    with log.step("open it in ONNX Runtime") as entry:
        detector = load(onnx)
    with detector, log.step("find the codes") as entry:
        found = detector(folder / "scene.png")
        matched = matches(scene, found)
        entry.result = f"{matched} of {len(scene.class_ids)}"
    with log.step("read the QR codes") as entry:
        texts = read_qr_codes(scene.image, found)
        qr_codes = sum(detection.class_name == "qr_code" for detection in found)
        entry.result = f"{len(texts) - texts.count(None)} of {qr_codes}, each from its box alone"
    with log.step("draw the boxes") as entry:
        entry.path = folder / "found.jpg"
        labels = [_label(detection, text) for detection, text in zip(found, texts, strict=True)]
        drawn = draw_boxes(scene.image.copy(), found.boxes_xyxy, found.class_ids, labels)
        write_image(drawn, entry.path, overwrite=True)
    with log.step("write the results") as entry:
        entry.path = folder / "found.json"
        write_bytes(entry.path, _json_bytes(found, texts))
    with log.step("build a TensorRT engine") as entry:
        entry.path, entry.result = _engine(onnx)
    return DemoResult(found, tuple(texts), len(scene.class_ids), matched, tuple(log.steps))


def matches(scene: Scene, found: Detections) -> int:
    """How many codes of a scene were found: same class, IoU of 0.5 or more, each detection counted once."""
    free = list(range(len(found)))
    count = 0
    for box, class_id in zip(scene.boxes_xyxy, scene.class_ids, strict=True):
        overlaps = {i: pair_ious(box, found.boxes_xyxy[i]) for i in free if found.class_ids[i] == class_id}
        best = max(overlaps, key=lambda i: overlaps[i], default=None)
        if best is not None and overlaps[best] >= MATCH_IOU:
            free.remove(best)
            count += 1
    return count


def _label(detection: Detection, text: str | None) -> str:
    label = f"{detection.class_name} {detection.score:.2f}"
    return f"{label}: {text}" if text else label


class _Log:
    """The steps so far, with their times."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self.steps: list[Step] = []

    @contextmanager
    def step(self, what: str) -> Iterator[_Entry]:
        """Time what happens inside, which fills in the entry."""
        if self._on_progress is not None:
            self._on_progress(what, 0, 0)
        entry, begun = _Entry(), time.perf_counter()
        yield entry
        self.steps.append(Step(what, time.perf_counter() - begun, entry.result, entry.path))


@dataclass(slots=True)
class _Entry:
    result: str = ""
    path: Path | None = None


def _engine(onnx: Path) -> tuple[Path | None, str]:
    """Build an engine beside the ONNX file if a TensorRT is installed: its path, and a line about it."""
    from yoloship.engine import installed_flavours, open_flavour, write_engine
    from yoloship.models.building import build

    path = onnx.with_suffix(".engine")
    try:
        flavour = open_flavour()
        built, info = build(onnx, flavour=flavour)
        write_engine(path, built, source_name=onnx.name, model=info, overwrite=True)
    except YoloshipError as error:  # the boxes are there without it
        return None, f"{'not built' if installed_flavours() else 'left out'}: {error}"
    return path, f"{len(built.plan) / 1e6:.1f} MB, by {flavour.title}"


def _json_bytes(found: Detections, texts: Sequence[str | None]) -> bytes:
    """As `detect --json` writes it, with what each QR code says as ``text``."""
    from yoloship.sinks import json_bytes

    document: list[dict[str, Any]] = json.loads(json_bytes([("scene.png", found)]))
    for detection, text in zip(document[0]["detections"], texts, strict=True):
        detection["text"] = text
    return json_document(document, indent=1)
