"""What `build` was given beside the build configuration, so that the command that rebuilds an engine is complete."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.model import ModelInfo

MAX_WORDS = 1000
MAX_WORD_CHARS = 1000
_NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the graph of an engine came about.

    Attributes:
        from_checkpoint: Whether the source was a checkpoint; else it was an ONNX file.
        precision: The precision that `build` brought the graph to; None if the graph was left as it was.
        calibrate: Folders and patterns of calibration images. Absolute paths are reduced to their names, because a
            sidecar travels to other machines.
        labels: The folder of labels; None if there was none.
        calibrator: How the ranges of activations were found; None if nothing was calibrated.
        max_drop: The accuracy budget; None if nothing was calibrated.
        remainder: The precision of the layers that are not quantized; None if nothing was calibrated.
        renamed: Whether the class names were given in place of the source's own.
        aliases: ``OLD=NEW`` for each class of a fork that was read as an official one.
    """

    from_checkpoint: bool = False
    precision: str | None = None
    calibrate: tuple[str, ...] = ()
    labels: str | None = None
    calibrator: str | None = None
    max_drop: float | None = None
    remainder: str | None = None
    renamed: bool = False
    aliases: tuple[str, ...] = ()

    @classmethod
    def guessed(cls, source_name: str, model: ModelInfo | None, *, lowered: bool | None = None) -> Recipe:
        """A recipe from what else is known, for engines that were not built by the command.

        Args:
            source_name: What the engine was built from; only a name that ends in ``.onnx`` is an ONNX file's.
            model: What the engine holds.
            lowered: Whether its precision was made on the way; None if that is not known. A checkpoint's was, since the
                graphs of checkpoints begin in float32.
        """
        from_checkpoint = not source_name.endswith(".onnx")
        narrow = model is not None and model.precision != "float32"
        made = (from_checkpoint and narrow) if lowered is None else lowered
        return cls(from_checkpoint, model.precision if made and model is not None else None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def words(self) -> Iterator[str]:
        """The options of ``yoloship build`` that say the same."""
        if self.precision is not None:
            yield from ("--precision", self.precision)
        for place in self.calibrate:
            yield from ("--calibrate", place)
        for option, value in (
            ("--labels", self.labels),
            ("--calibrator", self.calibrator),
            ("--max-drop", self.max_drop),
            ("--remainder", self.remainder),
        ):
            if value is not None:
                yield from (option, str(value))
        for alias in self.aliases:
            yield from ("--alias", alias)


RECIPE_FIELDS: frozenset[str] = frozenset(field.name for field in fields(Recipe))


def place_name(text: str) -> str:
    """A folder or pattern as a sidecar keeps it: as given if it is relative, else its last part alone.

    Characters that a sidecar may not hold become underscores.
    """
    path = PurePath(text)
    kept = path.name or text if path.is_absolute() else text
    return _NOT_PLAIN.sub("_", kept)[:MAX_WORD_CHARS]
