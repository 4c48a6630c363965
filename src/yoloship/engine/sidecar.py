"""What an engine's sidecar says: `EngineRecord`, and the recipe that rebuilds it.

A plan can carry no metadata (TensorRT refuses an extended one), so what it is stands in a file beside it. Whoever
reads that back reads untrusted text: every field is checked, and what is later shown on a terminal holds no control
characters.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from yoloship.engine.config import BuildConfig, HardwareCompatibility, InputProfile, Range, Target
from yoloship.engine.flavours import FlavourName
from yoloship.errors import EngineError, InputError
from yoloship.model import DTYPES, ModelInfo, Precision, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yoloship.engine.builder import BuiltEngine


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


_Made = TypeVar("_Made")

SCHEMA = 1
MAX_JSON_CHARS = 8_000_000
MAX_TENSORS = 1000
MAX_RANK = 8

_PLAIN = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,1000}")
_FILE_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff/\\]{1,255}")
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,64}")
_HEX = re.compile(r"[0-9a-f]{64}")
_SM = re.compile(r"sm[0-9]{2,3}")


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """What is known about a plan.

    Attributes:
        plan_sha256: Of the plan's bytes, lower-case hex.
        plan_bytes: Its length.
        onnx_sha256: Of the ONNX file that it was built from.
        source_name: File name of what was given to build; for the command that builds it again.
        recipe: How its graph came about.
        flavour: Which TensorRT built it.
        version: Of that flavour.
        compute_capability: Of the GPU it was built on, ``sm89`` for one; None where none was there.
        config: How it was built.
        inputs: Names on dynamic axes.
        outputs: Names on dynamic axes.
        profiles: Allowed shapes of dynamic inputs.
        dtypes: Element types inside the network that was compiled, sorted.
        model: What the pipeline must know; None for a graph of unknown make.
        producer: Who wrote it, with version.
    """

    plan_sha256: str
    plan_bytes: int
    onnx_sha256: str
    source_name: str
    recipe: Recipe
    flavour: FlavourName
    version: str
    compute_capability: str | None
    config: BuildConfig
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[InputProfile, ...]
    dtypes: tuple[str, ...]
    model: ModelInfo | None
    producer: str

    @classmethod
    def of(
        cls, built: BuiltEngine, *, plan_sha256: str, source_name: str, recipe: Recipe, model: ModelInfo | None
    ) -> EngineRecord:
        """The record of an engine that was just built."""
        from yoloship._version import __version__

        return cls(
            plan_sha256=plan_sha256,
            plan_bytes=len(built.plan),
            onnx_sha256=built.onnx_sha256,
            source_name="".join(letter if _FILE_NAME.fullmatch(letter) else "_" for letter in source_name)[:255] or "_",
            recipe=recipe,
            flavour=built.flavour,
            version=built.version,
            compute_capability=built.compute_capability,
            config=replace(built.config, timing_cache=None),
            inputs=built.inputs,
            outputs=built.outputs,
            profiles=built.profiles,
            dtypes=tuple(sorted(built.dtypes)),
            model=model,
            producer=f"yoloship {__version__}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data: dict[str, Any] = {"schema": SCHEMA}
        for field in fields(self):
            data[field.name] = getattr(self, field.name)
        data["config"] = self.config.to_dict()
        data["recipe"] = self.recipe.to_dict()
        data["model"] = json.loads(self.model.to_json()) if self.model else None
        for key in ("inputs", "outputs", "profiles"):
            data[key] = [asdict(entry) for entry in data[key]]
        return data

    def to_json(self) -> str:
        """Indented, keys sorted: people read it too."""
        return json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, *, subject: str) -> EngineRecord:
        """Read a record back from untrusted text.

        Args:
            text: JSON as `to_json` writes it.
            subject: The file it came from, for messages.

        Raises:
            EngineError: it is no such record; the field is named.
        """
        if len(text) > MAX_JSON_CHARS:
            raise EngineError("sidecar too long", subject=subject, expected=f"at most {MAX_JSON_CHARS} characters")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise EngineError("sidecar is not JSON", subject=subject, got=str(error)[:80]) from error
        if not isinstance(data, dict):
            raise EngineError("sidecar is not a JSON object", subject=subject)
        read = _Reader(data, subject)
        if data.get("schema") != SCHEMA or isinstance(data.get("schema"), bool):
            raise EngineError(
                "sidecar of another schema",
                subject=subject,
                expected=str(SCHEMA),
                got=repr(data.get("schema"))[:20],
                hint="build the engine again with this version",
            )
        read.only({field.name for field in fields(cls)} | {"schema", "refined"})
        return cls(
            plan_sha256=read.matching("plan_sha256", _HEX, "64 lower-case hex digits"),
            plan_bytes=read.integer("plan_bytes", 1, 1 << 48),
            onnx_sha256=read.matching("onnx_sha256", _HEX, "64 lower-case hex digits"),
            source_name=read.matching("source_name", _FILE_NAME, "a file name"),
            recipe=read.recipe(),
            flavour=read.choice("flavour", get_args(FlavourName)),
            version=read.matching("version", _VERSION, "a version"),
            compute_capability=read.optional("compute_capability", lambda key: read.matching(key, _SM, "smNN")),
            config=read.config(),
            inputs=read.tensors("inputs"),
            outputs=read.tensors("outputs"),
            profiles=tuple(read.profile("profiles", entry) for entry in read.items("profiles", MAX_TENSORS)),
            dtypes=tuple(read.dtype("dtypes", entry) for entry in read.items("dtypes", 100)),
            model=read.model(),
            producer=read.matching("producer", _PLAIN, "plain text"),
        )


class _Reader:
    """Takes fields out of a decoded JSON object, checking each."""

    def __init__(self, data: dict[str, Any], subject: str) -> None:
        self._data = data
        self._subject = subject

    def wrong(self, key: str, expected: str) -> EngineError:
        return EngineError(
            f"sidecar: bad {key!r}", subject=self._subject, expected=expected, got=ascii(self._data.get(key))[:60]
        )

    def only(self, known: set[str]) -> None:
        if unknown := sorted(ascii(key)[:40] for key in self._data.keys() - known):
            raise EngineError("sidecar has unknown fields", subject=self._subject, got=", ".join(unknown)[:80])

    def matching(self, key: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self._data.get(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.wrong(key, expected)
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self._data.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"an integer from {low} to {high}")
        return value

    def boolean(self, key: str) -> bool:
        value = self._data.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, allowed: tuple[Any, ...]) -> Any:
        value = self._data.get(key)
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(key, f"one of {', '.join(allowed)}")
        return value

    def optional(self, key: str, read: Callable[[str], Any]) -> Any:
        return None if self._data.get(key) is None else read(key)

    def items(self, key: str, most: int) -> list[Any]:
        value = self._data.get(key)
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(key, f"a list of at most {most}")
        return value

    def dtype(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not _VERSION.fullmatch(value):
            raise self.wrong(key, "element types")
        return value

    def tensors(self, key: str) -> tuple[TensorSpec, ...]:
        return tuple(self._tensor(key, entry) for entry in self.items(key, MAX_TENSORS))

    def _tensor(self, key: str, entry: object) -> TensorSpec:
        if not isinstance(entry, dict) or entry.keys() != {"name", "dtype", "shape"}:
            raise self.wrong(key, "tensors with name, dtype and shape")
        name, dtype, shape = entry["name"], entry["dtype"], entry["shape"]
        if not isinstance(name, str) or not _PLAIN.fullmatch(name) or not _is_dtype(dtype):
            raise self.wrong(key, "tensors with name, dtype and shape")
        if not isinstance(shape, list) or len(shape) > MAX_RANK:
            raise self.wrong(key, f"shapes of at most {MAX_RANK} axes")
        for axis in shape:
            fixed = isinstance(axis, int) and not isinstance(axis, bool) and 0 <= axis < 1 << 40
            if not fixed and not (isinstance(axis, str) and _PLAIN.fullmatch(axis)):
                raise self.wrong(key, "axes as extents, or names where dynamic")
        return TensorSpec(name, dtype, tuple(shape))

    def profile(self, key: str, entry: object) -> InputProfile:
        if not isinstance(entry, dict) or entry.keys() != {"name", "minimum", "optimum", "maximum"}:
            raise self.wrong(key, "profiles with name, minimum, optimum and maximum")
        if not isinstance(entry["name"], str) or not _PLAIN.fullmatch(entry["name"]):
            raise self.wrong(key, "profiles with a plain name")
        shapes = [entry["minimum"], entry["optimum"], entry["maximum"]]
        for shape in shapes:
            if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(_is_extent(axis) for axis in shape):
                raise self.wrong(key, f"shapes of at most {MAX_RANK} positive integers")
        return self._checked(key, lambda: InputProfile(entry["name"], *(tuple(shape) for shape in shapes)))

    def config(self) -> BuildConfig:
        entry = self._data.get("config")
        known = BuildConfig().to_dict().keys()
        if not isinstance(entry, dict) or entry.keys() != known:
            raise self.wrong("config", f"an object with {', '.join(sorted(known))}")
        inner = _Reader(entry, f"{self._subject}: config")
        profiles = inner.items("input_profiles", MAX_TENSORS)
        targets = inner.items("targets", 16)
        if not all(isinstance(target, str) and target in get_args(Target) for target in targets):
            raise inner.wrong("targets", f"any of {', '.join(get_args(Target))}")
        return self._checked(
            "config",
            lambda: BuildConfig(
                batch=inner.optional("batch", inner.range),
                height=inner.optional("height", inner.range),
                width=inner.optional("width", inner.range),
                input_profiles=tuple(inner.profile("input_profiles", profile) for profile in profiles),
                workspace_bytes=inner.optional("workspace_bytes", lambda key: inner.integer(key, 1, 1 << 48)),
                targets=tuple(targets),
                hardware_compatibility=inner.choice("hardware_compatibility", get_args(HardwareCompatibility)),
                version_compatible=inner.boolean("version_compatible"),
                optimization_level=inner.optional("optimization_level", lambda key: inner.integer(key, 0, 5)),
            ),
        )

    def recipe(self) -> Recipe:
        entry = self._data.get("recipe")
        if entry is None:  # a sidecar of an earlier release, which knew only whether the precision was made on the way
            lowered = self._data.get("refined") is True
            return Recipe.guessed(str(self._data.get("source_name", "")), self.model(), lowered=lowered)
        if not isinstance(entry, dict) or entry.keys() != RECIPE_FIELDS:
            raise self.wrong("recipe", f"an object with {', '.join(sorted(RECIPE_FIELDS))}")
        inner = _Reader(entry, f"{self._subject}: recipe")

        def plain(key: str) -> str:
            return inner.matching(key, _PLAIN, f"plain text of at most {MAX_WORD_CHARS} characters")

        return Recipe(
            from_checkpoint=inner.boolean("from_checkpoint"),
            precision=inner.optional("precision", lambda key: inner.choice(key, get_args(Precision))),
            calibrate=inner.words("calibrate"),
            labels=inner.optional("labels", plain),
            calibrator=inner.optional("calibrator", plain),
            max_drop=inner.optional("max_drop", inner.share),
            remainder=inner.optional("remainder", plain),
            renamed=inner.boolean("renamed"),
            aliases=inner.words("aliases"),
        )

    def words(self, key: str) -> tuple[str, ...]:
        value = self.items(key, MAX_WORDS)
        if not all(isinstance(word, str) and _PLAIN.fullmatch(word) for word in value):
            raise self.wrong(key, f"plain texts of at most {MAX_WORD_CHARS} characters")
        return tuple(value)

    def share(self, key: str) -> float:
        value = self._data.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise self.wrong(key, "a number from 0 to 1")
        return float(value)

    def range(self, key: str) -> Range:
        entry = self._data.get(key)
        if not isinstance(entry, dict) or entry.keys() != {"minimum", "optimum", "maximum"}:
            raise self.wrong(key, "minimum, optimum and maximum")
        if not all(_is_extent(value) for value in entry.values()):
            raise self.wrong(key, "positive integers")
        return Range(entry["minimum"], entry["optimum"], entry["maximum"])

    def model(self) -> ModelInfo | None:
        entry = self._data.get("model")
        if entry is None:
            return None
        try:
            return ModelInfo.from_json(json.dumps(entry), subject=self._subject)
        except InputError as error:
            raise EngineError(
                f"sidecar: {error.problem}", subject=self._subject, expected=error.expected, got=error.got
            ) from error

    def _checked(self, key: str, make: Callable[[], _Made]) -> _Made:
        """Constructors check their own arguments; say which file the wrong ones stood in."""
        try:
            return make()
        except EngineError as error:
            if str(error.subject).startswith(self._subject):
                raise
            raise EngineError(
                f"sidecar: bad {key!r}: {error.problem}", subject=self._subject, expected=error.expected, got=error.got
            ) from error


def _is_dtype(value: object) -> bool:
    return isinstance(value, str) and value in DTYPES


def _is_extent(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 1 << 40
