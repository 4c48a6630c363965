"""Opens the models that `verify` compares, so that each computes as its file says: `open_artefact`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.detect.detector import Detector
from yoloship.kinds import kind_of
from yoloship.models.gpu_loading import load_network_on_gpu
from yoloship.models.loading import load
from yoloship.models.releases import resolve
from yoloship.models.vetting import vetted
from yoloship.runtime import RunOptions, Session, choose_runtime, open_session
from yoloship.tasks import info_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from yoloship.model import HeadChoice, Precision
    from yoloship.runtime.session import RuntimePrecision


class EmulatedSession(Session):
    """A session on a graph whose half precision is emulated; see `yoloship.graph.passes.half`.

    Args:
        session: Runs the emulating graph; closed with this one.
        precision: What the graph computes in that is emulated.
    """

    def __init__(self, session: Session, precision: Precision) -> None:
        super().__init__(session.inputs, session.outputs, session.metadata)
        self._session = session
        self._precision = precision

    @property
    def name(self) -> str:
        """What runs it, and that half precision is emulated."""
        return f"{self._session.name}, half precision emulated"

    @property
    def precision(self) -> Precision:
        """What the graph computes in that is emulated."""
        return self._precision

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once; many threads may at the same time. `Session.run` says what is taken and given."""
        return self._session.run(feeds)

    def close(self) -> None:
        """Close the session that runs the graph. Closing twice is not an error."""
        self._session.close()


def open_artefact(  # noqa: PLR0913 - all but the model have defaults
    model: str | Path,
    *,
    imgsz: tuple[int, int] | None = None,
    runtime: str | None = None,
    runtime_precision: RuntimePrecision | None = None,
    transform: str | None = None,
    head: HeadChoice | None = None,
    class_names: Sequence[str] | None = None,
) -> Detector:
    """Load a model; a graph in half precision rounds where the graph says, which ONNX Runtime alone does not do.

    An engine runs on the first GPU, between the steps of the CPU's pipeline: so a comparison sees the network alone.

    Args:
        model: A checkpoint, an ONNX file, an engine, or the name of a release.
        imgsz: (height, width) in model pixels; None takes the graph's own, else 640.
        runtime: What runs the network; None takes the default, and emulates half precision.
        runtime_precision: What the runtime computes float32 layers in; None takes float32.
        transform: Of a classification model: how an image becomes its input, by name; None takes what the file says.
        head: Of a checkpoint with two heads, the one that answers; files of other kinds ignore it.
        class_names: One name for each class, to use instead of the names in the file.

    Raises:
        YoloshipError: as `yoloship.models.loading.load`.
    """
    path = resolve(model)
    kind = kind_of(path)
    if kind == "engine":
        choose_runtime(runtime, kind, "cuda", runtime_precision, model_name=str(path))
        return load_network_on_gpu(
            path, 0, imgsz=imgsz, model_name=str(path), transform=transform, class_names=class_names
        )
    if kind == "checkpoint" or runtime is not None or runtime_precision is not None:
        return load(
            path,
            imgsz=imgsz,
            device="cpu",
            runtime=runtime,
            runtime_precision=runtime_precision,
            transform=transform,
            head=head if kind == "checkpoint" else None,
            class_names=class_names,
        )

    from yoloship.graph import graph_bytes
    from yoloship.graph.body import body_precision
    from yoloship.graph.onnx_file import parse_onnx, read_file
    from yoloship.graph.passes.half import emulate, is_half

    graph = parse_onnx(read_file(path), str(path))
    if not is_half(graph):
        return load(path, imgsz=imgsz, device="cpu", transform=transform, class_names=class_names)
    checked = vetted(graph_bytes(emulate(graph)), str(path), imgsz)
    plain = open_session(checked.source, RunOptions(model_name=str(path), limit_s=checked.limit_s))
    session = EmulatedSession(plain, body_precision(graph))
    try:
        info = info_of(session, str(path), class_names, canvas_hw=imgsz, transform=transform)
        return Detector(session, info, imgsz=imgsz, model_name=str(path))
    except BaseException:
        session.close()
        raise
