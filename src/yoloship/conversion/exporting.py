"""From a checkpoint to an ONNX file: `export`."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from numbers import Integral
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

from yoloship.conversion import calibration_of, check_types, lowered, name_of
from yoloship.errors import CheckpointError, InputError
from yoloship.kinds import is_checkpoint, refuse_others
from yoloship.model import (
    FASTEST,
    STANDARD,
    HeadChoice,
    InputForm,
    NmsConfig,
    OutputForm,
    Precision,
    UsualNms,
)
from yoloship.tasks import all_forms, suppressing_forms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from yoloship._util.outputs import Outputs
    from yoloship._util.text import OnProgress
    from yoloship._util.writing import Place
    from yoloship.conversion import Calibration, Name
    from yoloship.kinds import Kind
    from yoloship.model import Calibrator, OtherLayers, Placement
    from yoloship.transforms import Transform

Sides: TypeAlias = int | tuple[int, int]
"""A side, or (height, width), in model pixels."""

CHECKPOINTS: Final[frozenset[Kind]] = frozenset({"checkpoint", "pickle", "unknown"})
"""Kinds of files that the checkpoint reader examines; its messages about a damaged file say more than the kind."""

_logger = logging.getLogger("yoloship.conversion")


@dataclass(frozen=True, slots=True)
class Exported:
    """An ONNX file that was written.

    Attributes:
        path: The file.
        size_bytes: Its size.
        class_names: The class names in it, by class id.
        precision: The arithmetic of the network's body.
        details: How that precision was reached and what it costs, as text; empty for float32.
    """

    path: Path
    size_bytes: int
    class_names: tuple[str, ...]
    precision: Precision
    details: str = ""


def export(  # noqa: PLR0913 - all but the model have defaults
    model: Name,
    output: Name | None = None,
    *,
    imgsz: Sides | Literal["dynamic"] | None = None,
    batch: int | Literal["dynamic"] = 1,
    input_form: InputForm = "float",
    output_form: OutputForm = STANDARD,
    head: HeadChoice | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    precision: Precision = "float32",
    calibrate: Name | Iterable[Name] = (),
    labels: Name | None = None,
    max_drop: float | None = None,
    calibrator: Calibrator | None = None,
    placement: Placement | None = None,
    other_layers: OtherLayers | None = None,
    class_names: Sequence[str] | None = None,
    aliases: Mapping[str, str] | None = None,
    transform: Transform | str | None = None,
    overwrite: bool = False,
    protected: Iterable[Path] = (),
    on_progress: OnProgress | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Exported:
    """Export a checkpoint to an ONNX file, with the class names and everything else that `load` needs inside.

    The file gets its name only when it is complete.

    Args:
        model: A checkpoint (.pt), or the name of an official release such as ``yolov5s``.
        output: The file to write. None takes the checkpoint's name with ``.onnx``, for a release in the current
            folder.
        imgsz: Input side, or (height, width), in pixels: multiples of the model's stride. ``dynamic`` allows any size.
            None takes the training size if the checkpoint states it, else 640, or 224 for classification.
        batch: Images per run; ``dynamic`` allows any number.
        input_form: ``float``: (B, 3, H, W) float32 RGB in 0..1, the usual form. ``image``: (B, H, W, 3) uint8 BGR.
        output_form: The default is the standard form of the model's task. A detection model has ``raw``: (B, N, 5 +
            classes), the default; ``heads``: the undecoded maps, fastest; ``compact``: boxes, scores, class ids;
            ``nms``: final detections. In an anchor-free model, ``raw`` is (B, 4 + classes, N). A network with an
            NMS-free head also has ``end2end``: its final rows (B, k, 6).
        head: For a network with two heads, such as YOLOv10 or YOLO26: ``one2many``, which needs NMS, or ``one2one``,
            which does not. None takes the one that the output form needs, else the default of the version that wrote
            the checkpoint.
        score_threshold: For the output form ``nms``: keep only boxes with a score above this. Default: 0.25.
        iou_threshold: For ``nms``: drop a box whose IoU with a better box is above this. Default: that of the
            model's own tool, 0.45 for YOLOv5 and 0.7 for Ultralytics' models.
        max_detections: For ``nms``: keep at most this many boxes per image. Default: 300.
        precision: The arithmetic of the network's body; input, output and decoding stay float32.
        calibrate: For int8 and float8: images like those the model will see; files, folders (with their subfolders) or
            patterns.
        labels: For int8 and float8: a folder of YOLO label files, arranged like the images.
        max_drop: For int8 and float8: the largest accepted loss of mAP, or of agreement without labels. Default: 0.005.
        calibrator: For int8 and float8: how the range of an activation is found. Default: ``percentile``.
        placement: For int8 and float8: where the graph is quantized. ``inputs``, the default: before each convolution.
            ``inputs_and_outputs``: also after it, for ONNX Runtime on a CPU.
        other_layers: For int8 and float8: precision of the layers that are not quantized. Default: float16, or float32
            with the placement ``inputs_and_outputs``.
        class_names: One name for each class, to use instead of the names in the checkpoint.
        aliases: Class paths of a fork, each with the equivalent official class path.
        transform: For classification: how an image becomes the input, as in `load`. None takes the transform stated in
            the checkpoint. ``none`` leaves it open; it must then be given when the file is loaded.
        overwrite: Whether a file of that name may be replaced. An input or a checkpoint is never replaced.
        protected: Other files that must not be replaced.
        on_progress: Called with the progress of calibration.
        on_note: Called with each warning or note, one sentence each; None logs them.

    Returns:
        The file that was written.

    Raises:
        InputError: an argument is wrong or contradicts another, or a file does not exist.
        CheckpointError: the checkpoint cannot be read safely.
        GraphError: the checkpoint cannot become the requested graph, or not within `max_drop`.
        OutputError: the file exists and may not be overwritten, or cannot be written.
        DownloadError: a named release cannot be fetched.
        DependencyError: a package that quantization needs is not installed.
    """
    say = on_note or _logger.warning
    check_types(class_names, aliases, protected)
    calibration = calibration_of(calibrate, labels, calibrator, placement, max_drop, other_layers)
    calibration.check(precision)
    nms = suppression(output_form, score_threshold, iou_threshold, max_detections)
    input_hw: tuple[int, int] | Literal["usual"] | None = "usual" if imgsz is None else None
    if imgsz is not None and not (isinstance(imgsz, str) and imgsz == "dynamic"):
        input_hw = sides_of(imgsz)
    check_head(head)
    images = None if isinstance(batch, str) and batch == "dynamic" else _count(batch)
    if output is not None and name_of(output, "output") == "-":
        raise InputError("is not a file", subject="output", got="'-'", hint="give /dev/stdout to write to stdout")

    from yoloship._util.writing import find_place, replacing
    from yoloship.checkpoint.reader import read_checkpoint
    from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info, write_graph
    from yoloship.models.releases import resolve

    source = resolve(name_of(model, "model"), say=say)
    refuse_others(source, CHECKPOINTS, "checkpoint", subject=str(source), error=CheckpointError)
    target = Path(output) if output is not None else file_beside(model, source, ".onnx")
    outputs_of(source, calibration, protected, overwrite=overwrite).claim(target)
    config = GraphConfig(
        input_hw=input_hw,
        batch=images,
        input_form=input_form,
        output_form=output_form,
        nms=nms,
        transform=transform,
        head=head,
    )
    started = time.monotonic()
    checkpoint = read_checkpoint(source, aliases=aliases)
    if class_names is not None:
        checkpoint = checkpoint.with_class_names(class_names)
    found = calibration.find(say, lambda: model_info(checkpoint, config))
    details, data = "", b""
    if precision != "float32":
        result = lowered(
            build_graph(checkpoint, config), precision, calibration, found, on_progress=on_progress, say=say
        )
        data, details = graph_bytes(result.model), result.words
        if result.not_on_cpu is not None:
            say(f"note: it does not run on this CPU: {result.not_on_cpu}")
    place = find_place(target)
    with replacing(target, overwrite=overwrite) as file:
        folder = None if place.is_stream else place.path.parent
        size = file.write(data) if data else write_graph(checkpoint, config, file, folder=folder)
    _logger.info("exported %s to %s in %.1f s", source.name, target.name, time.monotonic() - started)
    return Exported(target, size, checkpoint.class_names, precision, details)


def suppression(
    output_form: OutputForm, score_threshold: float | None, iou_threshold: float | None, max_detections: int | None
) -> NmsConfig | None:
    """The NMS settings for an output form with NMS inside; None for the other output forms.

    Without an IoU threshold they are a `UsualNms`.

    Raises:
        InputError: a threshold is given for a form without NMS, or is out of range, or no task has the form.
    """
    forms = all_forms()
    if output_form not in [STANDARD, FASTEST, *forms]:
        raise InputError(
            "is not an output form", subject="output_form", expected=", ".join(forms), got=repr(output_form)[:60]
        )
    values = {
        "score_threshold": score_threshold,
        "iou_threshold": iou_threshold,
        "max_detections": max_detections,
    }
    given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if output_form not in suppressing_forms():
        if given:
            raise InputError(
                "has no effect, because there is no NMS in the graph",
                subject=", ".join(given),
                expected=f"output_form={' or '.join(map(repr, suppressing_forms()))}",
                got=repr(output_form),
            )
        return None
    if "max_detections" in given:
        given["candidates"] = max(NmsConfig().candidates, given["max_detections"])
    return NmsConfig(**given) if "iou_threshold" in given else UsualNms(**given)


def check_head(head: object) -> None:
    """Refuse what is not the choice between two heads.

    Raises:
        InputError: it is neither one of them nor None.
    """
    if head is not None and head not in get_args(HeadChoice):
        raise InputError(
            "no such choice", subject="head", expected=" or ".join(get_args(HeadChoice)), got=repr(head)[:60]
        )


def outputs_of(source: Path, calibration: Calibration, protected: Iterable[Path], *, overwrite: bool) -> Outputs:
    """The outputs of a conversion. They cannot replace its inputs or a checkpoint."""
    from yoloship._util.outputs import Outputs
    from yoloship.models.vetting import companions
    from yoloship.sources.finding import find_images

    def more_inputs(_: Place) -> Iterator[Path]:
        yield from companions(source)
        if calibration.labels is not None:
            yield from calibration.labels.rglob("*.txt")
        if calibration.images:
            yield from find_images(calibration.images, recursive=True).paths

    return Outputs([source, *protected], overwrite=overwrite, more_inputs=more_inputs, is_checkpoint=is_checkpoint)


def file_beside(model: Name, source: Path, suffix: str) -> Path:
    """The default output: beside the user's file; in the current folder for a release, whose file is in the cache."""
    return source.with_suffix(suffix) if source == Path(model) else Path(f"{fspath(model)}{suffix}")


def sides_of(imgsz: object) -> tuple[int, int]:
    """Height and width from the `imgsz` of a caller.

    Raises:
        InputError: it is neither one side nor two.
    """
    sides = tuple(imgsz) if isinstance(imgsz, tuple | list) else (imgsz, imgsz)
    if len(sides) != 2 or not all(is_count(side) for side in sides):
        raise InputError(
            "is not a size", subject="imgsz", expected="a side or (height, width), in pixels", got=repr(imgsz)[:60]
        )
    return int(sides[0]), int(sides[1])


def _count(batch: object) -> int:
    if not is_count(batch):
        raise InputError("is not a batch size", subject="batch", expected="1 or more", got=repr(batch)[:60])
    return int(cast("int", batch))


def is_count(value: Any) -> bool:
    """Whether a value is a whole number above 0, as a Python or a NumPy integer."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) > 0
