"""Finds out which model a session runs: from our metadata, or by running a foreign model once on a grey image."""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.errors import InputError, SessionError
from yoloship.model import ModelInfo, checked_class_names, images_first, size_multiple
from yoloship.tasks import task_of
from yoloship.tasks.decode import OBJECT_COLUMNS
from yoloship.tasks.detect import Detect, RawForm
from yoloship.tasks.exports import read_export
from yoloship.tasks.foreign import target_sizes
from yoloship.tasks.probing import Export, Probe, same_levels, usual_hw
from yoloship.tasks.rows import check_objectness, examine, stay_in_reach, unknown_form_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.model import TensorSpec
    from yoloship.runtime import Session
    from yoloship.tasks.rows import Level

    Floats = npt.NDArray[np.floating[Any]]


MAX_CHARS: Final = 1_000_000

_STRING: Final = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\""""
_LIST: Final = re.compile(rf"\s*({_STRING})\s*(?:,|$)")
_DICT: Final = re.compile(rf"\s*['\"]?(\d{{1,6}})['\"]?\s*:\s*({_STRING})\s*(?:,|$)")


def parse_names(text: str) -> tuple[str, ...] | None:
    """Class names from ``{0: 'person', 1: 'bicycle'}`` or ``['person', 'bicycle']``, as Python or as JSON.

    The other forms that checkpoints may have are accepted if they are unambiguous: a tuple, a table from name to id,
    names without quotes. The text is matched item by item, so deep nesting and large size do no harm. Only string
    literals are evaluated.

    Args:
        text: The metadata's value.

    Returns:
        Names by class id; None if the text does not contain such names, or if ids are missing or repeated.
    """
    text = text.strip()
    if len(text) > MAX_CHARS or len(text) < 2 or (text[0], text[-1]) not in {("{", "}"), ("[", "]"), ("(", ")")}:
        return None
    return _quoted(text) or _as_in_checkpoints(text)


def _as_in_checkpoints(text: str) -> tuple[str, ...] | None:
    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.traits import read_names

    return read_names(text, None, Limits()).names or None


def _quoted(text: str) -> tuple[str, ...] | None:
    """Read the forms that exporters write; the names are in quotes and may contain any character."""
    inside, pattern = text[1:-1].strip(), _DICT if text[0] == "{" else _LIST
    names: dict[int, str] = {}
    at = 0
    while at < len(inside):
        match = pattern.match(inside, at)
        if match is None:
            return None
        class_id = int(match[1]) if pattern is _DICT else len(names)
        name = _string(match[match.lastindex or 0])
        if name is None or class_id in names:
            return None
        names[class_id] = name
        at = match.end()
    if not names or set(names) != set(range(len(names))):
        return None
    return tuple(names[class_id] for class_id in range(len(names)))


def _string(literal: str) -> str | None:
    if literal[0] == '"':  # JSON writes characters beyond 0xFFFF as two halves, which Python would not join
        with contextlib.suppress(ValueError, RecursionError):
            return str(json.loads(literal))
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, str) else None


DEFAULT_SIDE: Final = 640
MAX_INPUT: Final = 1 << 26
"""Most numbers in one input, 256 MiB. A larger input is not allocated just to find out what the model is."""
_PROBE_CELLS: Final = 4
"""Side of the test image that shows whether a dynamic size really is dynamic, in cells of the coarsest level."""
PROBE_SIDE: Final = 128
"""Its usual length in pixels."""
OTHER_SIDE: Final = 256
"""A side that is a multiple of all usual strides."""
MAX_CHANNELS: Final = 16
_FLOATS: Final = frozenset({"float32", "float16"})


class UnreadableNamesError(SessionError):
    """The class names in a file's metadata cannot be read, or their ids are not complete."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A decoded output that was found.

    Attributes:
        name: The output's name; None for the first output.
        classes: Number of columns after the objectness.
        levels: The levels, in the order of the rows.
    """

    name: str | None
    classes: int
    levels: tuple[Level, ...]


def recognise_foreign(
    session: Session, subject: str, canvas_hw: tuple[int, int] | None, class_names: Sequence[str] | None
) -> ModelInfo:
    """Find out what a detector must know about a model without our metadata.

    Args:
        session: An open session of the model.
        subject: The file's name, for messages.
        canvas_hw: (height, width) to run the model at; None takes its own size, else 640.
        class_names: Class names to use instead of those in its metadata.

    Raises:
        SessionError: the model has an unknown form, or its boxes are wrong.
    """
    if class_names is not None:
        class_names = checked_class_names(class_names, None, subject=subject)
    spec = _image_input(session, subject)
    batch, _, height, width = spec.shape
    said_hw = usual_hw(session.metadata)
    probe_hw = _probe_hw(spec, canvas_hw or said_hw)
    outputs = _first_run(session, spec, probe_hw, canvas_hw, subject)
    names = _metadata_names(session, subject) if class_names is None else class_names

    images = batch if isinstance(batch, int) else 1

    def run(noise: Floats | None, asked_hw: tuple[int, int] | None) -> Sequence[npt.NDArray[Any]]:
        return _run(session, spec, images, probe_hw, noise, asked_hw)

    shape, takes_size = (images, _channels(spec), *probe_hw), len(session.inputs) == 2
    probe = Probe(session.outputs, outputs, session.metadata, shape, names, run, takes_size, subject)
    export = read_export(probe) or _decoded_rows(session, probe, None if class_names is not None else names)
    if class_names is not None:
        checked_class_names(class_names, len(export.class_names), subject=subject)
    any_batch, any_size = isinstance(batch, str), isinstance(height, str) or isinstance(width, str)
    if any_batch or any_size:
        any_batch, any_size = _truly_dynamic(session, spec, probe_hw, export)
    others = dict(export.others)
    multiple = size_multiple(export.strides)
    if any_size and said_hw is not None and export.strides and not any(side % multiple for side in said_hw):
        others["usual_hw"] = said_hw
    info = ModelInfo(
        task=export.task,
        family=export.family,
        class_names=export.class_names,
        strides=export.strides,
        anchors=(),
        input_form="float",
        output_form=export.form,
        input_hw=(
            None if isinstance(height, str) and any_size else probe_hw[0],
            None if isinstance(width, str) and any_size else probe_hw[1],
        ),
        batch=None if any_batch else batch if isinstance(batch, int) else 1,
        producer=session.metadata.get("author", "")[:200],
        channels=_channels(spec),
        **others,
    )
    task_of(info, subject).check(session.outputs, info, subject)
    return info


def _decoded_rows(session: Session, probe: Probe, names: tuple[str, ...] | None) -> Export:
    """An export whose rows are those of YOLOv5.

    Args:
        session: The model's session.
        probe: The model.
        names: The class names in its metadata, of which there must be as many as columns.

    Raises:
        SessionError: it is not one; the message says what it seems to be.
    """
    outputs, subject = probe.arrays, probe.subject
    if not any(array.ndim == 3 and array.dtype.kind == "f" for array in outputs):
        raise unknown_form_error(subject, f"outputs {'; '.join(map(str, session.outputs)) or 'none'}")
    decoded = _find_decoded(session, outputs, probe.input_hw, names, subject)
    place = _place(session, decoded)
    if probe.names is None:
        check_objectness(outputs[place], subject)
    _check_reach(probe, place, decoded.levels)
    strides = tuple(level.stride for level in decoded.levels)

    numbers = tuple(map(str, range(decoded.classes)))
    class_names = probe.names if probe.names is not None and len(probe.names) == len(numbers) else numbers
    others = {"decoded_output": decoded.name}
    return Export(Detect.name, "yolov5", RawForm.name, class_names, strides, same_levels(place, strides), others)


def _check_reach(probe: Probe, place: int, levels: tuple[Level, ...]) -> None:
    """Refuse one box for each cell whose centre leaves its cell, as in decoded exports of YOLOX.

    YOLOv5's centres cannot do that for any image. YOLOX's can, and do so for noise.
    """
    cells = sum((probe.input_hw[0] // level.stride) * (probe.input_hw[1] // level.stride) for level in levels)
    if cells != probe.arrays[place].shape[1]:
        return
    for arrays in probe.answers():
        boxes = arrays[place][0, :, :4]
        if np.isfinite(boxes).all() and not stay_in_reach(boxes, levels, probe.input_hw):
            raise unknown_form_error(
                probe.subject, "centres that leave their cells for some images, as in decoded exports of YOLOX",
                "export YOLOX without its decoding",
            )  # fmt: skip


def _image_input(session: Session, subject: str) -> TensorSpec:
    """The input for images. A DETR has another one beside it, for the size of its boxes."""
    specs = images_first(session.inputs)
    if len(specs) == 1 and specs[0].dtype == "uint8":
        raise unknown_form_error(
            subject, f"{specs[0]}: images of 0..255", "export it with float32 input in 0..1, without preprocessing"
        )
    is_image = bool(specs) and len(specs[0].shape) == 4 and specs[0].dtype in _FLOATS and _channels(specs[0])
    are_sizes = all(spec.is_target_size and spec.shape[0] in {specs[0].shape[0], *_names(spec)} for spec in specs[1:])
    if not is_image or len(specs) > 2 or not are_sizes:
        raise unknown_form_error(subject, f"inputs {'; '.join(map(str, specs)) or 'none'}")
    fixed = [axis for axis in specs[0].shape if isinstance(axis, int)]
    if min(fixed) < 1 or math.prod(fixed) > MAX_INPUT:
        raise unknown_form_error(subject, f"an input {specs[0]}")
    return specs[0]


def _names(spec: TensorSpec) -> set[str]:
    """The names of its dynamic axes."""
    return {axis for axis in spec.shape if isinstance(axis, str)}


def _channels(spec: TensorSpec) -> int:
    """Channels of the input images; 0 if the number is not known or is too large for images."""
    channels = spec.shape[1]
    return channels if isinstance(channels, int) and channels <= MAX_CHANNELS else 0


def _probe_hw(spec: TensorSpec, canvas_hw: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of the grey image; `canvas_hw` counts for dynamic axes."""
    height, width = (
        side if isinstance(side, int) else wanted
        for side, wanted in zip(spec.shape[2:], canvas_hw or (DEFAULT_SIDE, DEFAULT_SIDE), strict=True)
    )
    return height, width


def _first_run(
    session: Session,
    spec: TensorSpec,
    probe_hw: tuple[int, int],
    canvas_hw: tuple[int, int] | None,
    subject: str,
) -> tuple[npt.NDArray[Any], ...]:
    """The outputs for a grey image. The error explains a size that is declared dynamic but is fixed in the graph."""
    batch = spec.shape[0] if isinstance(spec.shape[0], int) else 1
    try:
        return _run(session, spec, batch, probe_hw)
    except SessionError as error:
        if all(isinstance(side, int) for side in spec.shape[2:]):
            raise
        default_hw = _probe_hw(spec, usual_hw(session.metadata))
        at = "×".join(map(str, probe_hw))
        if canvas_hw is not None and default_hw != probe_hw and _runs(session, spec, batch, default_hw):
            if _runs(session, spec, batch, _probe_hw(spec, (OTHER_SIDE, OTHER_SIDE))):
                raise InputError(
                    f"fails at {at}: {error.problem}",
                    subject=subject,
                    hint="imgsz (--imgsz) takes multiples of the model's largest stride, which is 32 in most models",
                ) from error
            only = "×".join(map(str, default_hw))
            raise SessionError(
                f"declares dynamic height and width, but its graph is fixed to {only}",
                subject=subject,
                expected=only,
                got=at,
                hint=f"give this size, which is --imgsz {default_hw[0]}x{default_hw[1]}, or export it again",
            ) from error
        raise SessionError(
            f"declares dynamic height and width, but fails at {at}: {error.problem}",
            subject=subject,
            hint="give the size that it was exported for as imgsz (--imgsz)",
        ) from error


def _runs(session: Session, spec: TensorSpec, batch: int, input_hw: tuple[int, int]) -> bool:
    try:
        _run(session, spec, batch, input_hw)
    except SessionError:
        return False
    return True


def _run(
    session: Session,
    spec: TensorSpec,
    batch: int,
    input_hw: tuple[int, int],
    images: npt.NDArray[np.float32] | None = None,
    asked_hw: tuple[int, int] | None = None,
) -> tuple[npt.NDArray[Any], ...]:
    """Run a model once, with grey images unless others are given, and for boxes of the canvas's size or another."""
    if images is None:
        images = np.full((batch, _channels(spec), *input_hw), 0.5, np.float32)
    feeds: dict[str, npt.NDArray[Any]] = {spec.name: images.astype(np.dtype(spec.dtype), copy=False)}
    for other in session.inputs:
        if other.name != spec.name:
            feeds[other.name] = target_sizes(batch, asked_hw or input_hw)
    return session.run(feeds)


def _truly_dynamic(session: Session, spec: TensorSpec, probe_hw: tuple[int, int], export: Export) -> tuple[bool, bool]:
    """Whether the batch and the size are really dynamic and not fixed by constants; found by trying other values."""
    batch, height, width = (spec.shape[axis] for axis in (0, 2, 3))
    side = _PROBE_CELLS * size_multiple(export.strides) if export.strides else OTHER_SIDE
    other_hw = (
        side if isinstance(height, str) else probe_hw[0],
        side if isinstance(width, str) else probe_hw[1],
    )
    one, two = (batch, batch) if isinstance(batch, int) else (1, 2)
    any_size = _same_form(session, spec, export, one, other_hw) if other_hw != probe_hw else True
    if one == two:
        return False, any_size
    return _same_form(session, spec, export, two, other_hw if any_size else probe_hw), any_size


def _same_form(session: Session, spec: TensorSpec, export: Export, batch: int, input_hw: tuple[int, int]) -> bool:
    try:
        return export.fits(_run(session, spec, batch, input_hw), batch, input_hw)
    except InputError:  # an engine takes only the sizes of its profiles, and its error says so
        return True
    except SessionError:
        return False


def _place(session: Session, decoded: _Decoded) -> int:
    names = [output.name for output in session.outputs]
    return names.index(decoded.name) if decoded.name is not None else 0


def _metadata_names(session: Session, subject: str) -> tuple[str, ...] | None:
    text = session.metadata.get("names", "")
    names = parse_names(text)
    if names is None and text.strip():
        raise UnreadableNamesError(
            "its class names cannot be read, or their ids have gaps",
            subject=subject,
            got=text[:60],
            hint="give them with --names (class_names in Python)",
        )
    return names


def _find_decoded(
    session: Session,
    outputs: Sequence[npt.NDArray[Any]],
    input_hw: tuple[int, int],
    names: tuple[str, ...] | None,
    subject: str,
) -> _Decoded:
    """Find the decoded output. If there is none, the error explains why the most likely output is not decoded."""
    problems: list[SessionError] = []
    found: list[_Decoded] = []
    for place, (output, raw) in enumerate(zip(session.outputs, outputs, strict=True)):
        if raw.ndim == 3 and raw.dtype.kind == "f":
            try:
                levels = examine(raw, input_hw, names, subject)
            except SessionError as error:
                problems.append(error)
            else:
                found.append(_Decoded(output.name if place else None, raw.shape[2] - OBJECT_COLUMNS, levels))
    if found:
        return _whole(found, subject)
    if any(raw.ndim == 3 and raw.shape[2] == 4 for raw in outputs) and len(outputs) > 1:
        raise unknown_form_error(subject, "boxes and scores in separate outputs, as in DeepStream exports")
    if problems:
        raise problems[0]
    shapes = ", ".join(f"{raw.dtype}{raw.shape}" for raw in outputs)
    raise unknown_form_error(subject, f"outputs {shapes or 'none'}")


def _whole(found: Sequence[_Decoded], subject: str) -> _Decoded:
    """The output that contains all levels.

    Raises:
        SessionError: no output contains all levels, so objects of some levels would be lost.
    """
    best = max(found, key=lambda decoded: decoded.levels[-1].rows.stop)
    strides = {level.stride for level in best.levels}
    if any(level.stride not in strides for decoded in found for level in decoded.levels):
        raise unknown_form_error(
            subject,
            "levels in separate outputs: strides "
            + " and ".join(", ".join(str(level.stride) for level in decoded.levels) for decoded in found[:8]),
            "export it again with one output that joins them",
        )
    return best
