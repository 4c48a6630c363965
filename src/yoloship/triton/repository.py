"""Writes a model repository for a Triton server: `write_repository`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.writing import write_error
from yoloship._version import __version__
from yoloship.errors import InputError, visible
from yoloship.triton.artefact import (
    LABELS,
    PLATFORMS,
    WARM_FILE,
    Artefact,
    Wanted,
    default_backend,
    make_artefact,
    warm_image,
)
from yoloship.triton.model_config import Batching, Instances, ModelConfig, check_name
from yoloship.triton.publishing import CONFIG, building, check_places, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from yoloship.triton.artefact import Backend

MAX_BATCH: Final = 8
MODEL_CODE: Final = '''"""The model that Triton's Python backend runs; written by yoloship {version}."""

try:
    from yoloship.triton.python_model import TritonPythonModel
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{{error}}: this model needs yoloship in the Python of this server: pip install 'yoloship=={version}'"
    ) from error

__all__ = ["TritonPythonModel"]
'''


@dataclass(frozen=True, slots=True)
class Serving:
    """How a server runs a model.

    Attributes:
        max_batch: Images of the largest batch; None takes the engine's largest, else `MAX_BATCH`.
        preferred: Sizes of batches for which the server waits; empty waits for none, or for an engine's own.
        queue_delay_us: How long a request may wait for others, in microseconds.
        instances: Where it runs, and how often; None takes GPUs for TensorRT, GPUs if there are any for ONNX Runtime,
            and the CPU for our model in the Python backend.
        count: Instances on each GPU, or on the CPU.
    """

    max_batch: int | None = None
    preferred: tuple[int, ...] = ()
    queue_delay_us: int = 0
    instances: Instances | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model to write.

    Attributes:
        name: Of its folder, and in addresses.
        file: A checkpoint, an ONNX file or an engine.
    """

    name: str
    file: Path


@dataclass(frozen=True, slots=True)
class Variant:
    """Another configuration of the same model, which a server takes by ``--model-config-name``.

    Attributes:
        name: Of the configuration: ``configs/NAME.pbtxt``.
        serving: How a server with it runs the model.
        file: Another file of the same model, such as an engine for another GPU; None takes the usual one.
    """

    name: str
    serving: Serving
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What to write.

    Attributes:
        models: The models; each name once.
        backend: What runs them; None chooses for each.
        wanted: What to make of each.
        serving: How a server runs them.
        variants: Further configurations; each name once.
    """

    models: tuple[NamedModel, ...]
    wanted: Wanted
    backend: Backend | None = None
    serving: Serving = field(default_factory=Serving)
    variants: tuple[Variant, ...] = ()

    def __post_init__(self) -> None:
        for names, what in (
            ([model.name for model in self.models], "the name of a model"),
            ([variant.name for variant in self.variants], "the name of a configuration"),
        ):
            for name in names:
                check_name(name, what)
                if names.count(name) > 1:
                    raise InputError("is given to two", subject=f"{what}: {name}", hint="give each its own: NAME=MODEL")
        if len(self.models) > 1 and any(variant.file is not None for variant in self.variants):
            raise InputError(
                "is for one model", subject="a configuration with a file of its own", got=f"{len(self.models)} models",
                hint="write the models one by one into the same folder",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """A model in a repository.

    Attributes:
        folder: Its folder.
        config: Its configuration.
        notes: What the user should know.
    """

    folder: Path
    config: ModelConfig
    notes: tuple[str, ...]


def write_repository(
    request: Request, repository: Path, *, overwrite: bool = False, on_note: Callable[[str], None]
) -> list[Written]:
    """Write models into a repository. Each folder appears only when it is complete.

    Args:
        request: What to write.
        repository: The folder of all models; it is made if it does not exist. Other models in it stay.
        overwrite: Whether a model of the same name may be replaced.
        on_note: Called with each warning, a sentence.

    Raises:
        InputError: a model, an option or a name does not fit.
        OutputError: a name is taken, or the folder cannot be written.
        YoloshipError: a model cannot be read, exported or loaded.
    """
    names = [model.name for model in request.models]
    inputs = [model.file for model in request.models] + [one.file for one in request.variants if one.file]
    check_places(repository, names, inputs, overwrite=overwrite)
    with building(repository) as part:
        written = [_write_model(model, request, part / model.name, on_note) for model in request.models]
        publish(part, repository, names)
    return [replace(one, folder=repository / one.folder.name) for one in written]


def _write_model(model: NamedModel, request: Request, folder: Path, on_note: Callable[[str], None]) -> Written:
    backend = request.backend or default_backend(model.file)
    wanted = replace(request.wanted, backend=backend)
    version = folder / "1"
    version.mkdir(parents=True)
    made = make_artefact(model.file, wanted, version, "model", on_note)
    config = _config(model.name, backend, made, request.serving)
    try:
        (folder / CONFIG).write_text(config.to_text(), encoding="ascii")
        (folder / LABELS).write_text("".join(f"{visible(name)}\n" for name in made.info.class_names), encoding="utf-8")
        if backend == "python":
            (version / "model.py").write_text(MODEL_CODE.format(version=__version__), encoding="ascii")
        if any(one.file for one in made.warm_inputs):
            (folder / "warmup").mkdir()
            (folder / "warmup" / WARM_FILE).write_bytes(warm_image())
        for variant in request.variants:
            other = made
            if variant.file is not None:
                other = make_artefact(variant.file, wanted, version, f"model.{variant.name}", on_note)
                _refuse_other_model(other, made, variant.file, model.file)
            (folder / "configs").mkdir(exist_ok=True)
            text = _config(model.name, backend, other, variant.serving).to_text()
            (folder / "configs" / f"{variant.name}.pbtxt").write_text(text, encoding="ascii")
    except OSError as error:
        raise write_error(error, folder) from error
    return Written(folder, config, made.notes)


def _config(name: str, backend: Backend, made: Artefact, serving: Serving) -> ModelConfig:
    kinds: dict[str, Any] = {"tensorrt": "KIND_GPU", "onnxruntime": "KIND_AUTO", "python": "KIND_CPU"}
    instances = serving.instances or Instances(kinds[backend])
    return ModelConfig(
        name=name,
        backend=backend,
        platform=PLATFORMS[backend],
        file=made.file,
        inputs=made.inputs,
        outputs=made.outputs,
        batching=_batching(name, made, serving),
        instances=replace(instances, count=serving.count),
        warm_inputs=made.warm_inputs,
        parameters=made.parameters,
    )


def _batching(name: str, made: Artefact, serving: Serving) -> Batching:
    if made.fixed_batch is not None:
        if serving.max_batch is not None or serving.preferred or serving.queue_delay_us:
            raise InputError(
                f"has a batch fixed at {made.fixed_batch}, so the server cannot make batches", subject=name,
                expected="no --max-batch, --preferred-batch or --queue-delay-ms", hint="export it with --batch dynamic",
            )  # fmt: skip
        return Batching(0)
    limit = made.largest_batch
    if serving.max_batch is not None and limit is not None and serving.max_batch > limit:
        raise InputError(
            "the engine takes smaller batches only", subject=f"{name}: --max-batch", expected=f"{limit} or less",
            got=str(serving.max_batch), hint="build it with a larger --batch",
        )  # fmt: skip
    largest = serving.max_batch or limit or MAX_BATCH
    preferred: Sequence[int] = serving.preferred
    if not preferred and made.best_batch is not None and made.best_batch <= largest:
        preferred = (made.best_batch,)
    return Batching(largest, tuple(preferred), serving.queue_delay_us)


def _refuse_other_model(other: Artefact, made: Artefact, file: Path, first: Path) -> None:
    """Refuse a file of another model for a configuration: a client could not tell which one it speaks to."""
    same = (other.info.task, other.info.class_names) == (made.info.task, made.info.class_names)
    ports = (other.inputs, other.outputs) == (made.inputs, made.outputs)
    if not same or not ports:
        raise InputError(
            f"is not the same model as {first}", subject=str(file),
            expected="the same task, classes, inputs and outputs",
        )  # fmt: skip
