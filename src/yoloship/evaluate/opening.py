"""Opening artefacts to be compared: as `yoloship.pipeline.load` does, and half precision as it is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.kinds import kind_of
from yoloship.pipeline import Detector, load
from yoloship.pipeline.gpu_loading import load_network_on_gpu
from yoloship.pipeline.releases import resolve
from yoloship.pipeline.vetting import vetted
from yoloship.runtime import OnnxRuntimeSession

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.model import Precision


class EmulatedSession(OnnxRuntimeSession):
    """ONNX Runtime on a graph whose half precision is emulated; see `yoloship.graph.emulate`.

    Attributes:
        precision: What the graph computes in that is emulated.
    """

    precision: Precision = "float32"

    @property
    def name(self) -> str:
        """Says that it is emulated, and by what."""
        return f"{super().name}, half precision emulated"


def open_artefact(model: str | Path, *, imgsz: tuple[int, int] | None = None) -> Detector:
    """Load a model; a graph in half precision rounds where the graph says, which ONNX Runtime alone does not do.

    An engine runs on the first GPU, between the steps of the CPU's pipeline: so a comparison sees the network alone.

    Args:
        model: A checkpoint, an ONNX file, an engine, or the name of a release.
        imgsz: (height, width) in model pixels; None takes the graph's own, else 640.

    Raises:
        YoloshipError: as `yoloship.pipeline.load`.
    """
    path = resolve(model)
    kind = kind_of(path)
    if kind == "engine":
        return load_network_on_gpu(path, 0, imgsz=imgsz, subject=str(path))
    if kind == "checkpoint":
        return load(path, imgsz=imgsz, device="cpu")

    from yoloship.graph import graph_bytes
    from yoloship.graph.emulate import emulate, is_half
    from yoloship.graph.file import parse_onnx, read_file
    from yoloship.graph.layer_precision import body_precision

    graph = parse_onnx(read_file(path), str(path))
    if not is_half(graph):
        return load(path, imgsz=imgsz, device="cpu")
    checked = vetted(graph_bytes(emulate(graph)), str(path), imgsz)
    session = EmulatedSession.open(checked.source, subject=str(path), limit_s=checked.limit_s)
    session.precision = body_precision(graph)
    try:
        return Detector(session, imgsz=imgsz, subject=str(path))
    except BaseException:
        session.close()
        raise
