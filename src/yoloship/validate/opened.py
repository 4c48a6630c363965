"""Opens the models of a validation, all with one preprocessing: `open_model`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yoloship._util.reading import file_sha256, open_regular
from yoloship.errors import InputError
from yoloship.evaluate.artefact import open_artefact
from yoloship.models.loading import load
from yoloship.models.releases import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.detect.detector import Detector
    from yoloship.detect.pipeline import ShapeMode
    from yoloship.images import DecodeChoice
    from yoloship.model import HeadChoice
    from yoloship.runtime.session import RuntimePrecision


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How models are opened.

    Attributes:
        imgsz: (height, width) of the canvas; None takes each model's own.
        shape_mode: ``square`` pads every image to the whole canvas, ``rect`` to the next multiple of the stride.
        device: ``cpu``, ``cuda``, ``cuda:N``, or several GPUs: ``cuda:0,cuda:1``, ``cuda:all``; for the whole pipeline.
            None runs everything but an engine on the CPU, and of an engine the network alone on the first GPU, between
            the steps of the CPU.
        runtime: The library that runs the network; None takes the default, and emulates half precision.
        runtime_precision: What the runtime computes float32 layers in; None takes float32.
        transform: Of a classification model: how an image becomes its input; None takes what the file says.
        head: Of a checkpoint with two heads, the one that answers.
        class_names: One name for each class, to use instead of those in the file.
        decode: Who decodes image files, as for `yoloship.load`.
    """

    imgsz: tuple[int, int] | None = None
    shape_mode: ShapeMode = "square"
    device: str | None = None
    runtime: str | None = None
    runtime_precision: RuntimePrecision | None = None
    transform: str | None = None
    head: HeadChoice | None = None
    class_names: tuple[str, ...] | None = None
    decode: DecodeChoice = "auto"


def open_model(model: str | Path, options: OpenOptions) -> Detector[Any]:
    """Open a model for a validation.

    Args:
        model: A checkpoint, an ONNX file, an engine, or the name of a release.
        options: How.

    Returns:
        A detector, which the caller closes.

    Raises:
        YoloshipError: as `yoloship.load`.
    """
    shared: dict[str, Any] = {
        "imgsz": options.imgsz,
        "runtime": options.runtime,
        "runtime_precision": options.runtime_precision,
        "transform": options.transform,
        "head": options.head,
        "class_names": options.class_names,
    }
    if options.device is None and options.shape_mode == "square" and options.decode != "gpu":
        return open_artefact(model, **shared)
    return load(resolve(model), device=options.device, shape_mode=options.shape_mode, decode=options.decode, **shared)


def sha256_of(model: str | Path) -> str:
    """SHA-256 of a model's file, lower-case hex.

    Args:
        model: A file, or the name of a release.

    Raises:
        InputError: it cannot be read.
    """
    with open_regular(resolve(model), error=InputError, wanted="a model") as file:
        return file_sha256(file)
