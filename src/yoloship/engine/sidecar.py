"""The content of an engine's sidecar: `EngineRecord`, and the recipe to build the engine again.

A plan cannot carry metadata, because TensorRT refuses a plan with extra bytes. So a file beside it describes it. The
text of that file is untrusted. Every field is checked, and texts for a terminal have no control characters.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, get_args

from yoloship._util.fields import MAX_TEXT_CHARS, PLAIN_TEXT, FieldReader, JsonForm, is_int
from yoloship.engine.config import BuildConfig, HardwareCompatibility, InputProfile, Range, Target
from yoloship.engine.flavours import FlavourName
from yoloship.errors import EngineError, InputError
from yoloship.model import DTYPES, ModelInfo, Precision, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from yoloship.engine.builder import BuiltEngine


MAX_WORDS = 1000
_NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
SCHEMA = 1
MAX_JSON_CHARS = 8_000_000
MAX_TENSORS = 1000
MAX_RANK = 8
MAX_EXTENT = (1 << 40) - 1
_FILE_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff/\\]{1,255}")
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,64}")
_SM = re.compile(r"sm[0-9]{2,3}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the graph of an engine was made.

    Attributes:
        from_checkpoint: Whether the source was a checkpoint; else it was an ONNX file.
        precision: The precision that `build` brought the graph to; None if the graph was left as it was.
        calibrate: Folders and patterns of calibration images. Absolute paths are reduced to their names, because a
            sidecar travels to other machines.
        labels: The folder of labels; None if there was none.
        calibrator: How the ranges of activations were found; None if nothing was calibrated.
        max_drop: The accuracy budget; None if nothing was calibrated.
        other_layers: The precision of the layers that are not quantized; None if nothing was calibrated.
        renamed: Whether the class names were given in place of the source's own.
        aliases: ``OLD=NEW`` for each class of a fork that was read as an official one.
        transform: The transform that was given for a classification model, as text; None if none was given.
    """

    from_checkpoint: bool = False
    precision: str | None = None
    calibrate: tuple[str, ...] = ()
    labels: str | None = None
    calibrator: str | None = None
    max_drop: float | None = None
    other_layers: str | None = None
    renamed: bool = False
    aliases: tuple[str, ...] = ()
    transform: str | None = None

    @classmethod
    def guessed(cls, source_name: str, model: ModelInfo | None, *, lowered: bool | None = None) -> Recipe:
        """A guessed recipe, for engines that were not built by the command.

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
        data = asdict(self)
        if self.transform is None:  # earlier versions do not know this field
            del data["transform"]
        return data

    def words(self) -> Iterator[str]:
        """The options of ``yoloship build`` for this recipe."""
        if self.precision is not None:
            yield from ("--precision", self.precision)
        for place in self.calibrate:
            yield from ("--calibrate", place)
        for option, value in (
            ("--labels", self.labels),
            ("--calibrator", self.calibrator),
            ("--max-drop", self.max_drop),
            ("--other-layers", self.other_layers),
            ("--transform", self.transform),
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
    return _NOT_PLAIN.sub("_", kept)[:MAX_TEXT_CHARS]


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """What is known about a plan.

    Attributes:
        plan_sha256: Of the plan's bytes, lower-case hex.
        plan_bytes: Its length.
        onnx_sha256: Of the ONNX file that it was built from.
        source_name: File name of what was given to build; for the command that builds it again.
        recipe: How its graph was made.
        flavour: The TensorRT that built it.
        version: The version of that flavour.
        compute_capability: The compute capability of the GPU on which it was built, such as ``sm89``; None without one.
        config: The configuration of the build.
        inputs: The network's inputs, with names on dynamic axes.
        outputs: The network's outputs, with names on dynamic axes.
        profiles: Allowed shapes of dynamic inputs.
        dtypes: Element types inside the network that was compiled, sorted.
        model: The model record; None for a graph of an unknown exporter.
        producer: The program that wrote it, with its version.
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
        """Indented, keys sorted: people read it too. The hash of the content shows damage, such as another anchor."""
        data = self.to_dict()
        return json.dumps({_HASH: _content_sha256(data), **data}, sort_keys=True, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, *, subject: str) -> EngineRecord:
        """Read a record back from untrusted text.

        Args:
            text: JSON as `to_json` writes it.
            subject: The file it came from, for messages.

        Raises:
            EngineError: it is not such a record, and the field is named; or it was changed after it was written.
        """
        read = FieldReader.parse(text, _FORM, subject=subject)
        record = cls(
            plan_sha256=read.sha256("plan_sha256"),
            plan_bytes=read.integer("plan_bytes", 1, 1 << 48),
            onnx_sha256=read.sha256("onnx_sha256"),
            source_name=read.matching("source_name", _FILE_NAME, "a file name"),
            recipe=_recipe(read),
            flavour=read.choice("flavour", get_args(FlavourName)),
            version=read.matching("version", _VERSION, "a version"),
            compute_capability=read.optional("compute_capability", lambda key: read.matching(key, _SM, "smNN")),
            config=_config(read),
            inputs=_tensors(read, "inputs"),
            outputs=_tensors(read, "outputs"),
            profiles=_profiles(read, "profiles"),
            dtypes=read.items("dtypes", 100, lambda entry: _matches(_VERSION, entry), "element types"),
            model=_model(read),
            producer=read.matching("producer", PLAIN_TEXT, "plain text"),
        )
        if _HASH in read.data and read.sha256(_HASH) != _content_sha256(read.data):
            raise EngineError(
                "sidecar: was damaged or changed after it was written", subject=subject,
                hint=f"copy it again, or build the engine again; if you changed it on purpose, remove {_HASH!r}",
            )  # fmt: skip
        return record


_HASH: Final = "content_sha256"
_FORM: Final = JsonForm(
    "sidecar",
    EngineError,
    SCHEMA,
    frozenset(field.name for field in fields(EngineRecord)) | {"refined", _HASH},
    MAX_JSON_CHARS,
    "update yoloship if a newer version wrote it, or build the engine again with this version",
)
"""Sidecars of an early release say ``refined`` in place of a recipe, and have no hash of their content."""


def _content_sha256(data: Mapping[str, Any]) -> str:
    """The SHA-256 of what a sidecar says, however it is laid out."""
    content = {key: value for key, value in data.items() if key not in {_HASH, "schema"}}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _recipe(read: FieldReader) -> Recipe:
    if read.data.get("recipe") is None:  # an earlier release knew only whether the precision was made on the way
        lowered = read.data.get("refined") is True
        return Recipe.guessed(str(read.data.get("source_name", "")), _model(read), lowered=lowered)
    recipe = read.data["recipe"]
    if isinstance(recipe, dict) and "remainder" in recipe:  # what an earlier release called it
        recipe = {"other_layers" if key == "remainder" else key: value for key, value in recipe.items()}
    if isinstance(recipe, dict):
        recipe = {"transform": None, **recipe}  # earlier versions do not write it
    inner = replace(read, data={"recipe": recipe}).nested("recipe", RECIPE_FIELDS)
    return Recipe(
        from_checkpoint=inner.boolean("from_checkpoint"),
        precision=inner.optional("precision", lambda key: inner.choice(key, get_args(Precision))),
        calibrate=_words(inner, "calibrate"),
        labels=inner.optional("labels", inner.plain_text),
        calibrator=inner.optional("calibrator", inner.plain_text),
        max_drop=inner.optional("max_drop", lambda key: inner.number(key, 0, 1)),
        other_layers=inner.optional("other_layers", inner.plain_text),
        renamed=inner.boolean("renamed"),
        aliases=_words(inner, "aliases"),
        transform=inner.optional("transform", inner.plain_text),
    )


def _words(read: FieldReader, key: str) -> tuple[str, ...]:
    expected = f"plain texts of at most {MAX_TEXT_CHARS} characters"
    return read.items(key, MAX_WORDS, lambda word: _matches(PLAIN_TEXT, word), expected)


def _config(read: FieldReader) -> BuildConfig:
    inner = read.nested("config", BuildConfig().to_dict().keys())
    profiles = _profiles(inner, "input_profiles")
    names = get_args(Target)
    targets = inner.items("targets", 16, lambda entry: entry in names, f"any of {', '.join(names)}")
    return read.checked(
        "config",
        lambda: BuildConfig(
            batch=inner.optional("batch", lambda key: _range(inner, key)),
            height=inner.optional("height", lambda key: _range(inner, key)),
            width=inner.optional("width", lambda key: _range(inner, key)),
            input_profiles=profiles,
            workspace_bytes=inner.optional("workspace_bytes", lambda key: inner.integer(key, 1, 1 << 48)),
            targets=targets,
            hardware_compatibility=inner.choice("hardware_compatibility", get_args(HardwareCompatibility)),
            version_compatible=inner.boolean("version_compatible"),
            optimization_level=inner.optional("optimization_level", lambda key: inner.integer(key, 0, 5)),
        ),
    )


def _range(read: FieldReader, key: str) -> Range:
    entry = read.nested(key, ("minimum", "optimum", "maximum")).data
    if not all(map(_is_extent, entry.values())):
        raise read.wrong(key, "positive integers")
    return Range(entry["minimum"], entry["optimum"], entry["maximum"])


def _tensors(read: FieldReader, key: str) -> tuple[TensorSpec, ...]:
    return tuple(_tensor(read, key, entry) for entry in read.items(key, MAX_TENSORS))


def _tensor(read: FieldReader, key: str, entry: object) -> TensorSpec:
    if not isinstance(entry, dict) or entry.keys() != {"name", "dtype", "shape"}:
        raise read.wrong(key, "tensors with name, dtype and shape")
    name, dtype, shape = entry["name"], entry["dtype"], entry["shape"]
    if not _matches(PLAIN_TEXT, name) or not _is_dtype(dtype):
        raise read.wrong(key, "tensors with name, dtype and shape")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise read.wrong(key, f"shapes of at most {MAX_RANK} axes")
    if not all(is_int(axis, 0, MAX_EXTENT) or _matches(PLAIN_TEXT, axis) for axis in shape):
        raise read.wrong(key, "axes as extents, or names for dynamic ones")
    return TensorSpec(name, dtype, tuple(shape))


def _profiles(read: FieldReader, key: str) -> tuple[InputProfile, ...]:
    return tuple(_profile(read, key, entry) for entry in read.items(key, MAX_TENSORS))


def _profile(read: FieldReader, key: str, entry: object) -> InputProfile:
    if not isinstance(entry, dict) or entry.keys() != {"name", "minimum", "optimum", "maximum"}:
        raise read.wrong(key, "profiles with name, minimum, optimum and maximum")
    if not _matches(PLAIN_TEXT, entry["name"]):
        raise read.wrong(key, "profiles with a plain name")
    shapes = [entry["minimum"], entry["optimum"], entry["maximum"]]
    for shape in shapes:
        if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(map(_is_extent, shape)):
            raise read.wrong(key, f"shapes of at most {MAX_RANK} positive integers")
    return read.checked(key, lambda: InputProfile(entry["name"], *(tuple(shape) for shape in shapes)))


def _model(read: FieldReader) -> ModelInfo | None:
    if (entry := read.data.get("model")) is None:
        return None
    try:
        return ModelInfo.from_json(json.dumps(entry), subject=read.subject)
    except InputError as error:
        raise EngineError(
            f"sidecar: {error.problem}", subject=read.subject, expected=error.expected, got=error.got
        ) from error


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_dtype(value: object) -> bool:
    return isinstance(value, str) and value in DTYPES


def _is_extent(value: object) -> bool:
    return is_int(value, 1, MAX_EXTENT)
