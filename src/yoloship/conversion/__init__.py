"""Converts models: `export` writes ONNX files, `build` writes TensorRT engines. This module has what both share.

INT8 and FP8 need images like those the model will see, and a limit on the accuracy to lose: `Calibration`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from yoloship.errors import InputError
from yoloship.model import Calibrator, OtherLayers, Placement, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yoloship._util.text import OnProgress
    from yoloship.evaluate.coco import Truth
    from yoloship.graph.onnx_file import Model
    from yoloship.model import ModelInfo
    from yoloship.precision.lowering import Lowered

Name: TypeAlias = str | PathLike[str]
"""A path."""

MAX_DROP: Final = 0.005
"""How much worse than float32 a quantized graph may be: by the task's own measure with labels, else in agreement."""
CALIBRATED: Final = frozenset({"int8", "float8"})
"""The precisions that need images for calibration."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How INT8 and FP8 are calibrated, and how far they may be from float32.

    Attributes:
        images: Files, folders (with all folders inside them) and patterns.
        labels: A folder of YOLO text labels, arranged like the images; for classification a folder that has a folder of
            images for each class. With it, `max_drop` is a loss of the task's own measure: mAP, or top-1 accuracy.
        calibrator: How the range of an activation is found; None takes ``percentile``.
        placement: Where the graph is quantized, as `yoloship.model.Placement` describes; None takes ``inputs``.
        max_drop: How much worse than float32 the graph may be; None takes `MAX_DROP`.
        other_layers: Precision of the layers that are not quantized; None takes float16, or float32 with the placement
            ``inputs_and_outputs``.
    """

    images: tuple[str, ...] = ()
    labels: Path | None = None
    calibrator: Calibrator | None = None
    placement: Placement | None = None
    max_drop: float | None = None
    other_layers: OtherLayers | None = None

    def given(self) -> dict[str, object]:
        """The values that are not left to their defaults, by the keyword of `export`."""
        values = {
            "calibrate": self.images or None,
            "labels": self.labels,
            "calibrator": self.calibrator,
            "placement": self.placement,
            "max_drop": self.max_drop,
            "other_layers": self.other_layers,
        }
        return {name: value for name, value in values.items() if value is not None}

    def check(self, precision: Precision) -> None:
        """Refuse values that have no effect at this precision, and missing images.

        Raises:
            InputError: images are missing, or a value has no effect.
        """
        if precision not in get_args(Precision):
            raise InputError(
                "there is no such precision",
                subject="precision",
                expected=", ".join(get_args(Precision)),
                got=repr(precision)[:60],
            )
        if precision in CALIBRATED and not self.images:
            raise InputError(
                f"{precision} needs images like those in production", subject="calibrate", hint="name a folder"
            )
        given = self.given()
        if precision not in CALIBRATED and given:
            raise InputError(
                "has no effect: it is for the precisions int8 and float8", subject=", ".join(given), got=precision
            )
        if self.labels is not None and not self.labels.is_dir():
            raise InputError("there is no such folder", subject=str(self.labels))

    def find(
        self, say: Callable[[str], None], info: Callable[[], ModelInfo]
    ) -> tuple[Sequence[Path], Sequence[Truth] | None]:
        """Find everything that calibration needs, before the work starts.

        Args:
            say: Called with a line about the files of a folder that were skipped.
            info: Gives the model's description, which says what a label is; called if there are labels.

        Returns:
            The images, and the contents of their labels; None without labels.

        Raises:
            DependencyError: a package is missing.
            InputError: there are no images, or no labels for them.
            ImageError: a labelled image cannot be read.
        """
        if not self.images:
            return (), None
        from yoloship.evaluate.measures import measure_of
        from yoloship.precision.calibrate import quantization_tools
        from yoloship.sources.finding import find_images

        quantization_tools()
        found = find_images(self.images, recursive=True)
        for skipped in found.skipped:
            say(str(skipped))
        if missing := next((path for path in found.paths if not path.is_file()), None):
            raise InputError("is not a file or folder that exists", subject=f"calibrate (--calibrate): {missing}")
        if self.labels is None:
            return found.paths, None
        model = info()
        return found.paths, measure_of(model, str(self.labels)).truths(self.labels, found.paths, model)


def calibration_of(
    images: Name | Iterable[Name],
    labels: Name | None,
    calibrator: Calibrator | None,
    placement: Placement | None,
    max_drop: float | None,
    other_layers: OtherLayers | None,
) -> Calibration:
    """Make a `Calibration` of the keywords of `export`.

    Raises:
        InputError: a keyword has the wrong type, is not one of its choices, or is out of range.
    """
    given: Any
    for subject, given, kind in (
        ("calibrator", calibrator, Calibrator),
        ("placement", placement, Placement),
        ("other_layers", other_layers, OtherLayers),
    ):
        if given is not None and given not in get_args(kind):
            expected = " or ".join(get_args(kind))
            raise InputError("no such choice", subject=subject, expected=expected, got=repr(given)[:60])
    given = max_drop
    if given is not None and (isinstance(given, bool) or not isinstance(given, Real) or not 0 <= float(given) <= 1):
        raise InputError("out of range", subject="max_drop", expected="a number from 0 to 1", got=repr(given)[:60])
    given = images
    if not isinstance(given, str | PathLike | Iterable):
        raise wrong_type("calibrate", given, "files, folders and patterns")
    places = (images,) if isinstance(images, str | PathLike) else tuple(images)
    return Calibration(
        tuple(name_of(place, "calibrate") for place in places),
        None if labels is None else Path(name_of(labels, "labels")),
        calibrator,
        placement,
        max_drop,
        other_layers,
    )


def lowered(
    model: Model,
    precision: Precision,
    calibration: Calibration,
    found: tuple[Sequence[Path], Sequence[Truth] | None],
    *,
    on_progress: OnProgress | None,
    say: Callable[[str], None],
) -> Lowered:
    """Convert a float32 graph to a precision with `in_precision`, and measure how far the result is from float32.

    Args:
        model: The graph. It is not changed.
        precision: The arithmetic of its body.
        calibration: How INT8 and FP8 are calibrated.
        found: What `Calibration.find` gave.
        on_progress: Called with the progress.
        say: Called with each warning.
    """
    from yoloship.precision.lowering import in_precision
    from yoloship.precision.quantization import QuantizeConfig

    config = None
    if precision in CALIBRATED:
        config = QuantizeConfig(
            precision="int8" if precision == "int8" else "float8",
            calibrator=calibration.calibrator or "percentile",
            placement=calibration.placement or "inputs",
            max_drop=MAX_DROP if calibration.max_drop is None else calibration.max_drop,
            other_layers=calibration.other_layers,
        )
    result = in_precision(model, precision, found[0], config=config, truths=found[1], on_progress=on_progress)
    for warning in result.warnings:
        say(f"warning: {warning}")
    return result


def check_types(class_names: object, aliases: object, protected: object) -> None:
    """Refuse arguments of other types than they should have; a text would be taken apart into its letters.

    Args:
        class_names: One for each class; None for those in the model.
        aliases: From class paths to class paths; None for none.
        protected: Files that must not be replaced.

    Raises:
        InputError: one is of another type.
    """
    are_pairs = isinstance(aliases, Mapping) and all(isinstance(text, str) for pair in aliases.items() for text in pair)
    for subject, given, is_right, expected in (
        ("class_names", class_names, isinstance(class_names, Iterable), "a sequence of names"),
        ("aliases", aliases, are_pairs, "a mapping from class paths to class paths"),
        ("protected", protected, isinstance(protected, Iterable), "a sequence of files"),
    ):
        if given is not None and (isinstance(given, str | bytes) or not is_right):
            raise wrong_type(subject, given, expected)


def wrong_type(subject: str, given: object, expected: str) -> InputError:
    """The error for an argument of another type than it should have."""
    return InputError("wrong type", subject=subject, expected=expected, got=repr(given)[:60])


def name_of(value: object, subject: str) -> str:
    """Check the name of a file or a release that a caller gives.

    Raises:
        InputError: the value is not a name.
    """
    if not isinstance(value, str | PathLike):
        raise InputError("is not a file's name", subject=subject, got=type(value).__name__)
    return str(fspath(value))
