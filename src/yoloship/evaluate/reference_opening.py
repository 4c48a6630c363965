"""Opening a model so that its decoded output can be held against a reference: `check_against_reference`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.errors import InputError
from yoloship.evaluate.reference import compare_reference, read_reference
from yoloship.kinds import kind_of
from yoloship.pipeline.recognise import decoded_spec
from yoloship.pipeline.releases import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.evaluate.reference import Reference, ReferenceCheck


def check_against_reference(model: str | Path, reference: Path) -> ReferenceCheck:
    """Compare what yoloship makes of a model with what its training environment computes.

    Args:
        model: A checkpoint, of which the graph is written as `export` does, an ONNX file of the forms ``float`` and
            ``raw``, or the name of a release.
        reference: A NumPy archive; see `read_reference`.

    Raises:
        YoloshipError: one of them cannot be read, or they do not belong together.
    """
    path, right = resolve(model), read_reference(reference)
    if kind_of(path) == "checkpoint":
        return _checkpoint(path, right)
    from yoloship.evaluate.opening import open_artefact

    hw = (right.images.shape[2], right.images.shape[3])
    with open_artefact(path, imgsz=hw) as detector:
        info = detector.info
        if (info.input_form, info.output_form) != ("float", "raw"):
            raise InputError(
                "cannot be held against a reference",
                subject=str(path),
                expected="the forms 'float' and 'raw'",
                got=f"{info.input_form!r} and {info.output_form!r}",
                hint="give the .pt, or export it with '--input float --output raw'",
            )
        _check_channels(right, info.channels, str(path))
        outputs = detector.session.outputs
        return compare_reference(right, detector.session, outputs.index(decoded_spec(outputs, info)), str(path))


def _checkpoint(path: Path, right: Reference) -> ReferenceCheck:
    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, build_graph, graph_bytes
    from yoloship.pipeline.recognise import recognise
    from yoloship.runtime import OnnxRuntimeSession

    hw = (right.images.shape[2], right.images.shape[3])
    config = GraphConfig(input_hw=hw, batch=1, input_form="float", output_form="raw")
    data = graph_bytes(build_graph(read_checkpoint(path), config))
    with OnnxRuntimeSession.open(data, subject=str(path)) as session:
        _check_channels(right, recognise(session, str(path)).channels, str(path))
        return compare_reference(right, session, 0, str(path))


def _check_channels(right: Reference, channels: int, subject: str) -> None:
    if right.images.shape[1] != channels:
        raise InputError(
            "takes images of another number of channels than the reference has",
            subject=subject,
            expected=str(channels),
            got=str(right.images.shape[1]),
        )
