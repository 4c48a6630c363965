"""A foreign model under examination, `Probe`, what was found out about it, `Export`, and what all readers check."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.errors import SessionError
from yoloship.tasks.rows import find_levels, unknown_form_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from yoloship.model import TensorSpec

    Arrays = Sequence[npt.NDArray[Any]]
    Floats = npt.NDArray[np.floating[Any]]

SHARE: Final = 0.99
"""Share of the rows whose numbers must fit. It is 1 in correct files, and a little less after quantization."""
OTHER_NAMES: Final = "if the names are wrong, give others with --names (class_names in Python)"
LOUDNESSES: Final = (1.0, 8.0, 64.0, 512.0)
"""Standard deviations of the noise that makes a trained model find something."""
_UNIT_SLACK: Final = 1e-3
_LEAST_BOX_PX: Final = 1.5
_MAX_SAID_PX: Final = 1280 * 1280
_MARGIN_PX: Final = 32
_MANY: Final = 20
_SIZE: Final = re.compile(r"[\[(]\s*(\d{1,5})\s*,\s*(\d{1,5})\s*,?\s*[\])]|(\d{1,5})")
CROP_SIDE: Final = 224
"""The usual side of a classification model's input, in pixels."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A model, and what it gave for a grey image.

    Attributes:
        specs: Its outputs.
        arrays: Their values, for one batch of grey images.
        metadata: Of the file.
        shape: (B, C, H, W) of the grey images.
        names: Class names that the file or the caller gives; None if nobody does.
        run: Runs the model with images of that shape, None for the grey ones, and, for models with a second input, the
            (height, width) that it asks for.
        takes_size: Whether there is a second input, for the size of the boxes.
        subject: The file's name, for messages.
    """

    specs: Sequence[TensorSpec]
    arrays: Arrays
    metadata: Mapping[str, str]
    shape: tuple[int, int, int, int]
    names: tuple[str, ...] | None
    run: Callable[[Floats | None, tuple[int, int] | None], Arrays]
    takes_size: bool
    subject: str

    @property
    def input_hw(self) -> tuple[int, int]:
        """(height, width) of the grey images in model pixels."""
        return self.shape[2:]

    def answers(self, loudnesses: Sequence[float] = LOUDNESSES) -> Iterator[Arrays]:
        """The outputs for the grey images, and then for louder and louder noise; each run is done when it is asked for.

        A trained model finds nothing in a grey image, and something in loud noise.
        """
        yield self.arrays
        noise = np.random.default_rng(0).normal(0, 1, self.shape).astype(np.float32)
        for loudness in loudnesses:
            yield self.run(noise * np.float32(loudness), None)

    def by_name(self, arrays: Arrays, names: Sequence[str]) -> list[npt.NDArray[Any]]:
        """The outputs of these names; all of them exist."""
        given = [spec.name for spec in self.specs]
        return [arrays[given.index(name)] for name in names]

    def needed_names(self) -> tuple[str, ...]:
        """The class names, of an output that does not show how many classes there are.

        Raises:
            SessionError: nobody gives them.
        """
        if self.names is None:
            raise SessionError(
                "does not say its classes, and its output does not show how many there are", subject=self.subject,
                hint="give them with --names (class_names in Python)",
            )  # fmt: skip
        return self.names

    def names_for(self, classes: int, shape_text: str) -> tuple[str, ...]:
        """The class names of an output of so many classes; numbers if nobody gives names.

        Raises:
            SessionError: there is another number of names.
        """
        if self.names is not None and len(self.names) != classes:
            raise self.unknown(f"{len(self.names)} class names beside an output {shape_text}", OTHER_NAMES)
        return self.names or tuple(map(str, range(classes)))

    def unknown(self, got: str, hint: str | None = None) -> SessionError:
        """The error for a form that is not known."""
        return unknown_form_error(self.subject, got, hint)


@dataclass(frozen=True, slots=True)
class Export:
    """What an export is.

    Attributes:
        task: The task.
        family: The family, which says how decoded rows are laid out.
        form: The output form.
        class_names: By class id.
        strides: Of the levels, in the order of the rows.
        fits: Whether the outputs of another run, of that batch and (height, width), have the same form.
        others: Further fields of the model's record.
    """

    task: str
    family: str
    form: str
    class_names: tuple[str, ...]
    strides: tuple[int, ...]
    fits: Callable[[Arrays, int, tuple[int, int]], bool]
    others: dict[str, Any] = field(default_factory=dict)


def usual_hw(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """(height, width) at which a model was exported, as far as its metadata says it; that of classifiers is 224.

    A larger size than 1280×1280 pixels does not count: what a run may cost grows with its size, so the user must ask.

    Source: the key ``imgsz`` of Ultralytics' exports, ``[640, 640]`` or ``640``.
    """
    found = _SIZE.fullmatch(metadata.get("imgsz", "").strip()[:40])
    if found is not None:
        height, width = (int(found[1]), int(found[2])) if found[1] else (int(found[3]), int(found[3]))
        if 0 < height * width <= _MAX_SAID_PX:
            return height, width
    return (CROP_SIDE, CROP_SIDE) if metadata.get("task") == "classify" else None


def same_levels(place: int, strides: tuple[int, ...]) -> Callable[[Arrays, int, tuple[int, int]], bool]:
    """`Export.fits` of YOLOv5's rows in the output at this place: their centres lie on grids of these strides."""

    def fits(arrays: Arrays, batch: int, input_hw: tuple[int, int]) -> bool:
        raw = arrays[place]
        levels = find_levels(raw[-1, :, :4], input_hw) if raw.ndim == 3 and len(raw) == batch else None
        return levels is not None and tuple(level.stride for level in levels) == strides

    return fits


def are_scores(values: Floats) -> bool:
    """Whether all values are numbers in [0, 1]."""
    return bool(
        np.isfinite(values).all() and values.min(initial=0) >= -_UNIT_SLACK and values.max(initial=0) <= 1 + _UNIT_SLACK
    )


def are_whole(values: npt.NDArray[Any]) -> bool:
    """Whether all values are whole numbers."""
    return bool(np.isfinite(values).all() and (values == np.floor(values)).all())


def are_normalised(boxes: npt.NDArray[Any]) -> bool:
    """Whether no coordinate is beyond what a box in units of the canvas has."""
    return bool(np.abs(boxes).max(initial=0) <= _LEAST_BOX_PX)


def check_ids(probe: Probe, ids: npt.NDArray[Any], names: tuple[str, ...]) -> None:
    """Refuse class ids that the model does not have."""
    if ids.size and not (ids.min() >= 0 and ids.max() < len(names)):
        raise probe.unknown(f"class ids up to {ids.max():g} beside {len(names)} class names", OTHER_NAMES)


def check_corners(probe: Probe, boxes: npt.NDArray[Any], *, share: float = SHARE) -> None:
    """Refuse boxes (n, 4) that are not corners (x1, y1, x2, y2) in model pixels, each around a point of the image.

    Args:
        probe: The model.
        boxes: (n, 4) float64; read only.
        share: How many of them must be so.
    """
    if not len(boxes):
        return
    if not np.isfinite(boxes).all():
        raise probe.unknown("boxes that are not finite")
    if are_normalised(boxes):
        raise probe.unknown("boxes normalised to 0..1, as in RT-DETR exports of Ultralytics")
    if (boxes[:, 2:] >= boxes[:, :2]).all(axis=1).mean() < share:
        raise probe.unknown("final rows that are not corners (x1, y1, x2, y2)")
    height, width = probe.input_hw
    if len(boxes) >= _MANY and np.abs(boxes).max() < min(height, width) / 8:
        raise probe.unknown("boxes that are all in one corner of the image: they are not in pixels")
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (centres >= -_MARGIN_PX) & (centres <= np.array([width, height]) + _MARGIN_PX)
    if inside.all(axis=1).mean() < share:
        raise probe.unknown(
            f"boxes whose centres are outside the {height}×{width} image: of another size, or y before x"
        )
