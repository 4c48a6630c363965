"""From a model to the files of its version in a repository, and to what its configuration says: `Artefact`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from yoloship.errors import EngineError, InputError, SessionError
from yoloship.kinds import MODEL_KINDS, kind_of, refuse_others
from yoloship.model import FASTEST, METADATA_KEY, STANDARD
from yoloship.triton.model_config import OPEN, Port, WarmInput, is_batched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from yoloship.engine.sidecar import EngineRecord
    from yoloship.kinds import Kind
    from yoloship.model import InputForm, ModelInfo, OutputForm, TensorSpec

Backend: TypeAlias = Literal["python", "onnxruntime", "tensorrt"]
PythonInput: TypeAlias = Literal["file", "pixels"]
PLATFORMS: Final[Mapping[str, str]] = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan", "python": ""}
LABELS: Final = "labels.txt"
WARM_FILE: Final = "image"
_USUAL_HW: Final = (640, 640)
_WARM_HW: Final = (480, 640)
_RESULTS: Final = frozenset({"output0", "output1"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make of a model.

    Attributes:
        backend: What runs it in the server.
        input: ``file`` or ``pixels`` for our model in the Python backend; ``image`` or ``float`` for a graph that is
            exported from a checkpoint. None takes the first of both.
        output_form: The output of a graph that is exported; None takes suppression inside if the task has it.
        imgsz: (height, width) in model pixels; None takes the model's own.
        options: Arguments of `yoloship.load` about what is found: thresholds, names, the transform.
        head: Of a checkpoint with two heads, the one that answers.
        aliases: Class paths of a fork, by the official ones.
    """

    backend: Backend
    input: PythonInput | InputForm | None = None
    output_form: OutputForm | None = None
    imgsz: tuple[int, int] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    head: Any = None
    aliases: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Artefact:
    """A model that is ready for a server.

    Attributes:
        file: Its file in the folder of the version.
        info: What it is.
        inputs: What a request brings.
        outputs: What an answer has.
        fixed_batch: Images of each run; None if the server may choose.
        largest_batch: The most images that it takes; None if there is no limit.
        best_batch: The size that it was tuned for; None if there is none.
        warm_inputs: Inputs of the requests that warm it up.
        parameters: What the configuration says about it.
        notes: Sentences for the user.
    """

    file: str
    info: ModelInfo
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    fixed_batch: int | None
    warm_inputs: tuple[WarmInput, ...]
    parameters: Mapping[str, str]
    largest_batch: int | None = None
    best_batch: int | None = None
    notes: tuple[str, ...] = ()


def default_backend(model: Path) -> Backend:
    """TensorRT's for an engine, else our model in the Python backend."""
    return "tensorrt" if kind_of(model) == "engine" else "python"


def make_artefact(model: Path, wanted: Wanted, folder: Path, stem: str, on_note: Callable[[str], None]) -> Artefact:
    """Write the files of a model into the folder of a version.

    Args:
        model: A checkpoint, an ONNX file or an engine.
        wanted: What to make of it.
        folder: An existing folder.
        stem: The file's name without its suffix.
        on_note: Called with each warning of an export, a sentence.

    Raises:
        InputError: what is wanted does not fit the model.
        YoloshipError: the model cannot be read, exported or loaded.
    """
    kind = refuse_others(model, MODEL_KINDS | {"unknown"}, "model", subject=str(model), error=SessionError)
    if wanted.backend == "tensorrt":
        return _plan(model, kind, wanted, folder / f"{stem}.plan")
    if wanted.backend == "onnxruntime" and kind == "engine":
        raise InputError(
            "is a TensorRT engine, which the ONNX Runtime backend does not run", subject=str(model),
            expected="a checkpoint or an ONNX file", hint="leave --backend out",
        )  # fmt: skip
    if kind == "engine":
        return _python_engine(model, wanted, folder / f"{stem}.engine")
    file = folder / f"{stem}.onnx"
    if kind == "onnx":
        _refuse_export_options(model, wanted)
        _copy_graph(model, file)
    else:
        _export(model, wanted, file, on_note)
    return _python_graph(model, wanted, file) if wanted.backend == "python" else _graph(file)


def _export(model: Path, wanted: Wanted, file: Path, on_note: Callable[[str], None]) -> None:
    """The ONNX file of a checkpoint: the fastest form for our own code, or the one that is wanted for others."""
    from yoloship.conversion.exporting import export

    options = dict(wanted.options)
    names, transform = options.pop("class_names", None), options.pop("transform", None)
    forms: dict[str, Any] = {"input_form": "image", "output_form": FASTEST}
    if wanted.backend == "onnxruntime":
        form = wanted.output_form or _with_suppression(model, wanted)
        forms = {"input_form": wanted.input or "image", "output_form": form, **options}
    export(
        str(model), file, imgsz=wanted.imgsz, batch="dynamic", head=wanted.head, aliases=wanted.aliases,
        class_names=names, transform=transform, on_note=on_note, **forms,
    )  # fmt: skip


def _with_suppression(model: Path, wanted: Wanted) -> OutputForm:
    """The form of the model's task that gives final answers; the standard form if there is none."""
    from yoloship.checkpoint import read_checkpoint
    from yoloship.tasks.task import TASKS

    task = read_checkpoint(model, aliases=wanted.aliases).task
    forms = TASKS.load(task)().forms if task in TASKS else ()
    return next((form.name for form in forms if form.suppresses), STANDARD)


def _refuse_export_options(model: Path, wanted: Wanted) -> None:
    given = {
        "--head": wanted.head, "--alias": wanted.aliases or None,
        "--output": wanted.output_form if wanted.backend == "onnxruntime" else None,
        "--input": wanted.input if wanted.backend == "onnxruntime" else None,
        "--imgsz": wanted.imgsz if wanted.backend == "onnxruntime" else None,
        **(_option_names(wanted.options) if wanted.backend == "onnxruntime" else {}),
    }  # fmt: skip
    _refuse_given(model, "is an ONNX file, which is used unchanged", given)


def _option_names(options: Mapping[str, Any]) -> dict[str, Any]:
    from yoloship.detect.options import OPTION_NAMES

    others = {"class_names": "--names", "transform": "--transform"}
    return {OPTION_NAMES.get(name, others.get(name, name)): value for name, value in options.items()}


def _refuse_given(model: Path, problem: str, given: Mapping[str, Any]) -> None:
    if found := [name for name, value in given.items() if value is not None]:
        verb = "has" if len(found) == 1 else "have"
        raise InputError(
            f"{problem}, so {', '.join(found)} {verb} no effect", subject=str(model), hint="leave it out"
            if len(found) == 1 else "leave them out",
        )  # fmt: skip


def _copy_graph(model: Path, file: Path) -> None:
    """A graph and the files of its weights beside it, which it names."""
    from yoloship.models.vetting import companions

    shutil.copyfile(model, file)
    for other in companions(model):
        place = file.parent / other.relative_to(model.parent)
        if place == file:
            raise InputError("has the name of the graph in a repository", subject=str(other), hint="rename it")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(other, place)


def _python_graph(model: Path, wanted: Wanted, file: Path) -> Artefact:
    from yoloship.models.loading import load

    arguments = dict(wanted.options)
    if kind_of(model) != "onnx":  # both are in the exported graph
        arguments.pop("class_names", None)
        arguments.pop("transform", None)
    elif wanted.imgsz is not None:
        arguments["imgsz"] = list(wanted.imgsz)
    with load(file, **arguments) as detector:
        info, rows = detector.info, detector.options.max_detections
    return _python(info, rows, wanted, file.name, arguments)


def _python_engine(model: Path, wanted: Wanted, file: Path) -> Artefact:
    from yoloship.detect.options import DetectOptions
    from yoloship.engine import read_engine, sidecar_path

    engine = read_engine(model)
    if engine.info is None:
        raise EngineError(
            "does not say what model it is", subject=str(model), hint="build it with 'yoloship build', which writes it"
        )
    _refuse_given(model, "is an engine", {"--head": wanted.head, "--alias": wanted.aliases or None})
    shutil.copyfile(model, file)
    if engine.record is not None:
        shutil.copyfile(sidecar_path(model), sidecar_path(file))
    info = engine.info
    rows = int(wanted.options.get("max_detections", DetectOptions.of(info).max_detections))
    arguments = {**wanted.options, **({} if wanted.imgsz is None else {"imgsz": list(wanted.imgsz)})}
    return replace(_python(info, rows, wanted, file.name, arguments), notes=_engine_notes(engine.record))


def _python(info: ModelInfo, rows: int, wanted: Wanted, file: str, arguments: Mapping[str, Any]) -> Artefact:
    import json

    from yoloship._version import __version__
    from yoloship.triton.answers import answer_specs
    from yoloship.triton.python_model import FILE_INPUT, MODEL_KEY, OPTIONS_KEY, PIXEL_INPUT

    inputs: tuple[Port, ...] = (Port(FILE_INPUT, "uint8", (OPEN,), is_ragged=True),)
    warm: tuple[WarmInput, ...] = (WarmInput(FILE_INPUT, "uint8", (len(warm_image()),), WARM_FILE),)
    if wanted.input == "pixels":
        inputs = (Port(PIXEL_INPUT, "uint8", (OPEN, OPEN, info.channels), is_ragged=True),)
        warm = (WarmInput(PIXEL_INPUT, "uint8", (*_WARM_HW, info.channels)),)
    outputs = tuple(
        Port.of(spec, batched=True, labels=LABELS if spec.name == "probabilities" else None)
        for spec in answer_specs(info, rows)
    )
    parameters = {
        MODEL_KEY: file,
        OPTIONS_KEY: json.dumps(dict(arguments), sort_keys=True),
        METADATA_KEY: info.to_json(),
        "yoloship.version": __version__,
        "FORCE_CPU_ONLY_INPUT_TENSORS": "yes",
    }
    return Artefact("model.py", info, inputs, outputs, None, warm, parameters)


def warm_image() -> bytes:
    """A small grey image file, for the requests that warm a model up."""
    import cv2
    import numpy as np

    _, encoded = cv2.imencode(".jpg", np.full((*_WARM_HW, 3), 114, np.uint8))
    return bytes(encoded.tobytes())


def _graph(file: Path) -> Artefact:
    from yoloship.models.loading import load

    with load(file) as detector:
        info, session = detector.info, detector.session
        if len(session.inputs) != 1:
            raise SessionError(
                "takes the size of the boxes too", subject=str(file), expected="one input", hint="use --backend python"
            )
        return _network(info, session.inputs, session.outputs, file.name)


def _plan(model: Path, kind: Kind, wanted: Wanted, file: Path) -> Artefact:
    from yoloship.engine import read_engine

    if kind != "engine":
        raise InputError(
            "is not a TensorRT engine, which the TensorRT backend needs", subject=str(model), got=kind,
            hint=f"make one: yoloship build {model}",
        )  # fmt: skip
    given = {"--input": wanted.input, "--output": wanted.output_form, "--imgsz": wanted.imgsz, "--head": wanted.head}
    _refuse_given(model, "is an engine, which is used unchanged", {**given, **_option_names(wanted.options)})
    engine = read_engine(model)
    record = engine.record
    if engine.header.form == "rtx" or (record is not None and record.flavour == "rtx"):
        raise EngineError(
            "is an engine of TensorRT-RTX, which Triton does not run", subject=str(model),
            hint="build it with TensorRT: yoloship build --flavour tensorrt",
        )  # fmt: skip
    if record is None or record.model is None:
        raise EngineError(
            "does not say what its inputs and outputs are", subject=str(model), expected=f"{model.name}.json beside it",
            hint="build it with 'yoloship build', which writes this file",
        )  # fmt: skip
    with file.open("xb") as target:
        target.write(engine.plan)
    made = _network(record.model, record.inputs, record.outputs, file.name)
    batch = record.config.batch
    if made.fixed_batch is None and batch is not None:
        made = replace(made, largest_batch=batch.maximum, best_batch=batch.optimum)
    return replace(made, notes=_engine_notes(record))


def _engine_notes(record: EngineRecord | None) -> tuple[str, ...]:
    if record is None:
        return ()
    gpu = f" and a GPU of {record.compute_capability}" if record.compute_capability else ""
    return (f"it needs a Triton with TensorRT {record.version}{gpu}: a plan runs only with the version that built it",)


def _network(info: ModelInfo, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], file: str) -> Artefact:
    from yoloship.serve.kserve_models import client_metadata

    batched = is_batched(inputs, outputs)
    labels = None if info.class_scores is None else LABELS
    spec = inputs[0]
    parameters = {METADATA_KEY: info.to_json()}
    if [one.name for one in inputs] == ["images"] and {one.name for one in outputs} <= _RESULTS:
        usual = info.usual_hw or _USUAL_HW
        height, width = (side or other for side, other in zip(info.input_hw, usual, strict=True))
        parameters["metadata"] = client_metadata(info, (height, width))
    first = None if batched or not isinstance(spec.shape[0], int) else spec.shape[0]
    if not batched and first is None:
        raise SessionError(
            "has a batch of any size in some of its tensors only", subject=file, got=", ".join(map(str, outputs)),
            hint="export it with a fixed batch",
        )  # fmt: skip
    ports = tuple(Port.of(one, batched=batched) for one in inputs)
    height, width = (side or usual for side, usual in zip(info.input_hw, info.usual_hw or _USUAL_HW, strict=True))
    fixed = (height, width, info.channels) if info.input_form == "image" else (info.channels, height, width)
    warm = WarmInput(spec.name, spec.dtype, fixed if batched else (first or 1, *fixed))
    return Artefact(
        file, info, ports, tuple(Port.of(one, batched=batched, labels=labels) for one in outputs), first, (warm,),
        parameters,
    )  # fmt: skip
