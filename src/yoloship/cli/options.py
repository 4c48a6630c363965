"""What several commands share: options and their help, input files, class names, and which files may be written."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, get_args

import click

from yoloship.cli.command import COUNT, FILE, FRACTION, SOURCE, PrecisionChoice, alias_pair, flag, image_size, option
from yoloship.cli.output import print_err, print_out
from yoloship.conversion import CALIBRATED, MAX_DROP
from yoloship.detect.options import class_words
from yoloship.model import Calibrator, HeadChoice, OtherLayers, Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from yoloship._util.outputs import Outputs
    from yoloship._util.writing import Place
    from yoloship.conversion import Calibration
    from yoloship.detect.detector import Detector


PRECISION = PrecisionChoice(get_args(Precision))
PRESET_NAMES: Final = ("yoloship", "trackers", "paper", "ultralytics")
"""The names in `yoloship.tracking.presets.PRESETS`, repeated so that a run without tracking does not load it."""

calibrate = option(
    "--calibrate",
    type=SOURCE,
    multiple=True,
    metavar="DIR",
    help="For int8 and float8: a folder of images like those the model will see; subfolders are included; may be "
    "repeated.",
)
calibrator = option(
    "--calibrator",
    type=click.Choice(get_args(Calibrator)),
    help="For int8 and float8: how to find the range of an activation. minmax keeps outliers; percentile and entropy "
    "cut them off. Default: percentile.",
)
max_drop = option(
    "--max-drop",
    type=FRACTION,
    metavar="FLOAT",
    help="For int8 and float8: the largest accepted loss of mAP, or of top-1 accuracy for classification; without "
    f"--labels, of agreement with the float32 model. Default: {MAX_DROP}.",
)
labels = option(
    "--labels",
    type=FILE,
    metavar="DIR",
    help="For int8 and float8: a folder of YOLO label files for the model's task, arranged like the images. For "
    "classification: a folder with a subfolder of images for each class.",
)
other_layers = option(
    "--other-layers",
    type=click.Choice(get_args(OtherLayers)),
    help="Precision of the layers that int8 and float8 do not quantize. Default: float16, or float32 for ONNX files "
    "with --placement inputs_and_outputs.",
)


def _refuse_old_name(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    if value is not None and not ctx.resilient_parsing:
        raise click.UsageError(f"{parameter.opts[0]} is now called --other-layers")


old_other_layers = click.option("--remainder", hidden=True, expose_value=False, callback=_refuse_old_name)


def check_calibration(precision: Precision, calibration: Calibration) -> None:
    """Refuse options that the precision does not use, and a precision that lacks the options it needs.

    Raises:
        click.UsageError: the options contradict one another.
    """
    if precision in CALIBRATED and not calibration.images:
        raise click.UsageError(f"--precision {precision} needs images like those in production: --calibrate DIR")
    given = [_OPTIONS[name] for name in calibration.given()]
    if precision not in CALIBRATED and given:
        raise click.UsageError(f"{', '.join(given)}: only for --precision int8 and float8")
    if calibration.other_layers == "float16" and calibration.placement == "inputs_and_outputs":
        raise click.UsageError(
            "--other-layers float16 does not go with --placement inputs_and_outputs, which is for ONNX Runtime on a CPU"
        )
    if calibration.labels is not None and not calibration.labels.is_dir():
        raise click.UsageError(f"--labels {calibration.labels}: there is no such folder")


_OPTIONS: Final = MappingProxyType(
    {
        "calibrate": "--calibrate",
        "labels": "--labels",
        "calibrator": "--calibrator",
        "placement": "--placement",
        "max_drop": "--max-drop",
        "other_layers": "--other-layers",
    }
)
"""Keyword of `yoloship.export` → the option that gives it."""


_FILES_OF_OPTIONS = "yoloship.files_of_options"


def note_input(path: Path) -> None:
    """Remember that an option's value was read from a file, so that no output replaces that file."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta.setdefault(_FILES_OF_OPTIONS, []).append(path)


def noted_inputs() -> Sequence[Path]:
    """The files that options were read from."""
    context = click.get_current_context(silent=True)
    noted: list[Path] = context.meta.get(_FILES_OF_OPTIONS, []) if context is not None else []
    return noted


def outputs_for(
    models: Iterable[str | Path],
    *,
    images: Iterable[Path] = (),
    labels: Path | None = None,
    overwrite: bool,
) -> Outputs:
    """Make the `Outputs` of a command that reads these files.

    Args:
        models: Files, or names of releases. The files that belong to a model are protected too.
        images: Image files.
        labels: A folder of label files.
        overwrite: Whether files that exist may be replaced.
    """
    from yoloship._util.outputs import Outputs
    from yoloship.kinds import is_checkpoint

    paths = [Path(model) for model in models]

    @cache
    def belonging(model: Path) -> tuple[Path, ...]:
        from yoloship.models.vetting import companions

        return companions(model)

    def more(output: Place) -> Iterator[Path]:
        has_links = output.status is not None and output.status.st_nlink > 1
        real = os.path.realpath(output.path)
        for path in paths:
            # Opening a model again costs time at every start. An output can be one of a model's files only if it is in
            # the model's folder, or if it has hard links and could be there under another name.
            folders = (os.path.realpath(path.parent), os.path.dirname(os.path.realpath(path)))  # noqa: PTH120
            if has_links or any(real.startswith(os.path.join(folder, "")) for folder in folders):  # noqa: PTH118
                yield from belonging(path)
        if labels is not None:
            yield from labels.rglob("*.txt")

    return Outputs(
        [*paths, *images, *noted_inputs()], overwrite=overwrite, more_inputs=more, is_checkpoint=is_checkpoint
    )


def is_dash(path: Path | None) -> bool:
    """Whether an output is ``-``, the usual short name of stdout."""
    return path is not None and str(path) == "-"


def is_stdout(path: Path | None) -> bool:
    """Whether an output goes to this program's stdout, by whatever name; nothing else may be printed there then."""
    if path is None:
        return False
    if is_dash(path):
        return True
    if path.is_dir():
        return False
    from yoloship._util.writing import find_place

    place = find_place(path)
    try:
        return place.descriptor == 1 or (
            place.is_stream and place.status is not None and os.path.samestat(place.status, os.fstat(1))
        )
    except OSError:  # stdout is closed
        return False


def print_about(path: Path, text: str) -> None:
    """Print what was written to an output: on stdout, or on stderr if the output itself went to stdout."""
    if is_stdout(path):
        print_err(text)
    else:
        print_out(text)


def named_images(sources: Sequence[str], *, recursive: bool = False) -> tuple[Path, ...]:
    """Expand files, folders and patterns. A line on stderr says what was skipped in each folder or pattern."""
    from yoloship.sources import find_images

    found = find_images(sources, recursive=recursive)
    for skipped in found.skipped:
        print_err(str(skipped))
    return found.paths


MAX_FILE_BYTES = 1 << 20

_KEY = re.compile(r"""["']?names["']?\s*:(\s.*)?""")
"""A line that makes a file of names one in YAML."""


def class_names(text: str) -> tuple[str, ...]:
    """Class names from ``cat,dog``, from a file with one name per line, or from a training's YAML file with ``names:``.

    Raises:
        click.BadParameter: a name is empty, or the file cannot be read or has no names.
    """
    if _is_there(text):
        return _of_file(Path(text))
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise click.BadParameter(
            "a class name is empty: separate names with commas, or give a file with one name per line"
        )
    if len(names) == 1 and re.search(r"\.(txt|ya?ml|names)$", text):
        raise click.BadParameter(f"{text}: no such file")
    return names


def folder_names(text: str) -> tuple[str, ...]:
    """Class names from the folders in a folder, sorted as torchvision's ImageFolder sorts them.

    Raises:
        click.BadParameter: there is no such folder, or it has no folders inside.
    """
    try:
        with os.scandir(text) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise click.BadParameter(f"{text}: {error.strerror or error}") from error
    if not names:
        raise click.BadParameter(f"{text}: has no subfolders; give the folder that has a subfolder for each class")
    return tuple(names)


def chosen_names(names: tuple[str, ...] | None, names_from: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The class names of two options, of which only one may be given.

    Raises:
        click.UsageError: both are given.
    """
    if names is not None and names_from is not None:
        raise click.UsageError("--names and --names-from both give class names: use one of them")
    return names or names_from


def transform_text(text: str) -> str:
    """Check the text of a transform, before a model is read.

    Raises:
        click.BadParameter: it is not the name of a transform, or its parameters are wrong.
    """
    from yoloship.errors import InputError
    from yoloship.transforms import transform_of

    if text != OPEN_TRANSFORM:
        try:
            transform_of(text)
        except InputError as error:
            raise click.BadParameter(str(error)) from error
    return text


def worker_count(text: str) -> int:
    """``auto`` → 0; a number of cores.

    Raises:
        click.BadParameter: anything else.
    """
    if text.lower() == "auto":
        return 0
    if not re.fullmatch(r"[0-9]{1,3}", text) or not int(text):
        raise click.BadParameter(f"{text!r} is not a number of cores: give 1 to 999, or auto")
    return int(text)


def decoders(detector: Detector, *, videos: bool) -> str:
    """The line that says who decodes image files, or videos, for a detector on a GPU."""
    if videos:
        return f"decode: {detector.video_decoding}"
    chosen = detector.decoding
    return f"decode: {'JPEG on ' + detector.device if chosen.images == 'gpu' else 'cpu'} ({chosen.reason})"


def shared_cores(detector: Detector) -> str:
    """How a detector shares the cores: ``workers: 2 images at the same time, 1 thread each, of 2 cores``."""
    from yoloship._util.cores import usable_cores
    from yoloship._util.text import counted
    from yoloship.runtime.session import Session

    assert isinstance(detector.session, Session)  # a GPU refuses the option
    runs, threads = detector.session.concurrent_runs, detector.session.run_threads
    each = "" if threads is None else f", {counted(threads, 'thread')} each"
    at_once = "one image at a time" if runs == 1 else f"{runs} images at the same time"
    return f"workers: {at_once}{each}, in batches of 1; this process may use {counted(usable_cores(), 'core')}"


def class_value(text: str) -> str:
    """Check one value of ``--classes``; it can be split only when the model's class names are known.

    Raises:
        click.BadParameter: there is no class between the commas.
    """
    if not class_words([text], ()):
        raise click.BadParameter("no class given: write names or ids, such as person,car,2")
    return text


def _is_there(text: str) -> bool:
    """Whether the text names a file. A folder counts only if the text is a path, because a class may have its name."""
    is_path = os.sep in text
    return os.path.lexists(text) and (is_path or not os.path.isdir(text))  # noqa: PTH112 - Path's own raises


def _of_file(path: Path) -> tuple[str, ...]:
    from yoloship._util.reading import read_text
    from yoloship.errors import InputError

    try:
        text = read_text(path, MAX_FILE_BYTES, error=InputError, wanted="a list of class names")
        note_input(path)
        lines = text.splitlines()
        if any(map(_KEY.fullmatch, lines)):
            from yoloship._util.yaml_file import parse_yaml
            from yoloship.datasets.classes import names_of

            return names_of(parse_yaml(text, subject=str(path), as_text=("names",)).get("names"), str(path))
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise click.BadParameter(f"{path}: holds no class names: give one per line, or a YAML file with 'names:'")
    return tuple(names)


OPEN_TRANSFORM: Final = "none"
TRANSFORM_HELP: Final = (
    "For classification: how an image becomes the input, named after the library that trained the model: "
    "torchvision-v1, torchvision-v2, timm, yolov5 or ultralytics; parameters can follow: "
    "timm:crop_pct=0.95,interpolation=bicubic. Default: as stated in the model file."
)
OPTION_OF: Mapping[str, str] = MappingProxyType(
    {
        "aliases": "--alias",
        "batch": "--batch",
        "class_names": "--names",
        "classes": "--classes",
        "decode": "--decode",
        "device": "--device",
        "hardware_compatibility": "--hardware-compatibility",
        "imgsz": "--imgsz",
        "input_form": "--input",
        "input_hw": "--imgsz",
        "iou_threshold": "--iou",
        "labels": "--labels",
        "max_detections": "--max-det",
        "max_drop": "--max-drop",
        "output_form": "--output",
        "optimization_level": "--optimization-level",
        "runtime": "--runtime",
        "runtime_precision": "--runtime-precision",
        "score_threshold": "--conf",
        "throughput_s": "--seconds",
        "transform": "--transform",
        "target": "--target",
        "targets": "--target",
        "workers": "--workers",
        "workspace_bytes": "--workspace",
    }
)
"""Argument of the library → the option that gives it, for error lines."""

RUNTIME_PRECISIONS = ("float32", "bfloat16")
"""The values of `yoloship.runtime.session.RuntimePrecision`, repeated so that the help does not load the runtimes."""

device = option(
    "--device",
    metavar="cpu|cuda[:N,…|:all]",
    help="Where to run; cuda:all and cuda:0,cuda:1 share the work between GPUs. Default: cpu, or the first GPU for "
    "an engine.",
)
runtime = option(
    "--runtime",
    metavar="NAME",
    help="Library that runs the network: onnxruntime, openvino, tensorrt, or auto, which prints its choice and the "
    "reason. Default: onnxruntime, or tensorrt for an engine.",
)
runtime_precision = option(
    "--runtime-precision",
    type=click.Choice(RUNTIME_PRECISIONS),
    help="Arithmetic that the runtime uses for float32 layers. bfloat16 needs openvino and a processor that supports "
    "it; results differ slightly. Default: float32.",
)
decode = option(
    "--decode",
    type=click.Choice(("auto", "gpu", "cpu")),
    default="auto",
    help="What decodes image files, videos and streams for a model on a GPU. auto: the GPU where it can, but the CPU "
    "for video files, because only the CPU detects damaged frames. gpu: the GPU, or an error if it cannot; damage "
    "inside video frames goes unnoticed. cpu: the CPU.",
)
imgsz = option(
    "--imgsz",
    type=image_size,
    metavar="640|HxW",
    help="Input size of the model in pixels. Default: the size fixed in the graph, else the training size if the "
    "checkpoint states it, else 640, or 224 for classification.",
)
head = option(
    "--head",
    type=click.Choice(get_args(HeadChoice)),
    help="Which head of a checkpoint with two (YOLOv10, YOLO26) to use. one2many needs NMS, one2one does not. "
    "Default: the one that the output form needs, else the one used by the version that wrote the checkpoint.",
)
names = option(
    "--names",
    type=class_names,
    metavar="A,B,C|FILE",
    help="Class names to use instead of the model's: a comma-separated list, a file with one name per line, or a "
    "YAML file with 'names:'.",
)
names_from = option(
    "--names-from",
    type=folder_names,
    metavar="DIR",
    help="Take the class names from the subfolders of this folder, sorted as ImageFolder sorts them.",
)
transform = option("--transform", type=transform_text, metavar="NAME", help=TRANSFORM_HELP)
open_transform = option(
    "--transform",
    type=transform_text,
    metavar="NAME",
    help=f"{TRANSFORM_HELP} none stores no transform; it must then be given each time the model is used.",
)
aliases = option(
    "--alias",
    "aliases",
    type=alias_pair,
    multiple=True,
    metavar="OLD.PATH=models.common.C3",
    help="Treat a fork's class as the official class with the same behaviour; may be repeated. Recorded in the model "
    "file that is written.",
)
overwrite = flag("--overwrite", help="Replace existing output files.")
recursive = flag("--recursive", help="Also search the subfolders of the given folders.")
json_file = option("--json", "json_path", type=FILE, metavar="FILE", help="Write the results as JSON; - is stdout.")

conf = option("--conf", type=FRACTION, metavar="FLOAT", help="Keep only boxes with a score above this. Default: 0.25.")
iou = option(
    "--iou",
    type=FRACTION,
    metavar="FLOAT",
    help="Drop a box whose IoU with a better box of its class is above this. Default: that of the model's own tool.",
)
max_det = option("--max-det", type=COUNT, metavar="N", help="Keep at most this many boxes per image. Default: 300.")

nms_conf = option(
    "--conf", type=FRACTION, metavar="FLOAT", help="With --output nms: keep only boxes with a score above this."
)
nms_iou = option(
    "--iou",
    type=FRACTION,
    metavar="FLOAT",
    help="With --output nms: drop a box whose IoU with a better box is above this.",
)
nms_max_det = option(
    "--max-det", type=COUNT, metavar="N", help="With --output nms: keep at most this many boxes per image."
)
