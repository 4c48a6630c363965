"""A model on a server that speaks KServe's protocol, asked as if it were here: `open_remote`.

Two kinds of models are known: ours in Triton's Python backend, which takes images and gives results, and networks, for
which this machine does everything else. What a server says is untrusted.
"""

from __future__ import annotations

import ast
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import numpy as np

from yoloship.errors import InputError, SessionError
from yoloship.kserve import InferRequest, ProtocolError, RemoteError, Tensor, WantedOutput
from yoloship.kserve.datatypes import BYTES, NUMPY_TYPES
from yoloship.model import DTYPES, METADATA_KEY, ModelInfo, TensorSpec
from yoloship.runtime.session import Session
from yoloship.triton.answers import answer_specs, from_tensors
from yoloship.triton.python_model import FILE_INPUT, OPTIONS_KEY, PIXEL_INPUT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.detect.detector import Detector
    from yoloship.detect.options import DetectOptions
    from yoloship.kserve import Client
    from yoloship.model import DType
    from yoloship.results import Result

MAX_LITERAL_CHARS: Final = 1_000_000
MAX_RANK: Final = 8
MAX_EXTENT: Final = 1 << 31


class Remote(Protocol):
    """A model on a server.

    Attributes:
        title: What it is, for people.
        info: What the server says that it is.
        options: What it keeps by default, as far as the server says it.
    """

    title: str
    info: ModelInfo
    options: Mapping[str, Any]

    def ask(self, image: Path, options: DetectOptions) -> Result:
        """What it finds in an image.

        Args:
            image: A file that this machine can read.
            options: What to keep.

        Raises:
            ImageError: the image cannot be read.
            RemoteError: the server cannot be reached, or refuses.
            SessionError: its answer is wrong.
            ProtocolError: its answer does not follow the protocol.
        """


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says about a model.

    Attributes:
        name: Of the model.
        inputs: Its inputs.
        outputs: Its outputs.
        parameters: Texts of its configuration; empty if the server has none.
        flat: Outputs with one number for each image, which a server shows with an axis more.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: Mapping[str, str]
    flat: frozenset[str]

    @property
    def is_ours(self) -> bool:
        """Whether it is our model in the Python backend."""
        inputs, outputs = {one.name for one in self.inputs}, {one.name for one in self.outputs}
        return len(inputs) == 1 and inputs <= {FILE_INPUT, PIXEL_INPUT} and "result" in outputs


def describe(client: Client, name: str) -> Served:
    """Ask a server about a model.

    Raises:
        RemoteError: the server cannot be reached, or has no such model.
        SessionError: what it says makes no sense.
    """
    try:
        said = client.model_metadata(name)
    except ProtocolError as error:
        raise SessionError(f"its answer is broken: {error}", subject=client.url) from error
    inputs, outputs = (_specs(said.get(key), key, client.url) for key in ("inputs", "outputs"))
    try:
        config = client.model_config(name)
    except (RemoteError, ProtocolError):  # an extension that not every server has
        config = {}
    parameters: dict[str, str] = {}
    flat: set[str] = set()
    with suppress(AttributeError, TypeError, KeyError):
        for key, entry in config.get("parameters", {}).items():
            if isinstance(entry.get("string_value"), str):
                parameters[str(key)] = entry["string_value"]
    with suppress(AttributeError, TypeError, KeyError):
        flat |= {one["name"] for one in config["output"] if one.get("reshape", {}).get("shape") == []}
    return Served(name, inputs, outputs, parameters, frozenset(flat))


def _specs(entries: object, key: str, url: str) -> tuple[TensorSpec, ...]:
    """Tensors of a model's metadata. An open extent gets a name; that of the first axis is the batch."""
    specs = []
    for entry in entries if isinstance(entries, list) else []:
        fields = entry if isinstance(entry, dict) else {}
        name, datatype, shape = (fields.get(one) for one in ("name", "datatype", "shape"))
        is_known = isinstance(name, str) and isinstance(datatype, str) and datatype in NUMPY_TYPES
        if not is_known or not isinstance(shape, list) or len(shape) > MAX_RANK:
            raise SessionError(f"its {key} are not described", subject=url, got=json.dumps(entry)[:80])
        extents = tuple(_extent(one, axis, url) for axis, one in enumerate(shape))
        specs.append(TensorSpec(str(name), _dtype(str(datatype)), extents))
    if not specs:
        raise SessionError(f"says no {key} of the model", subject=url)
    return tuple(specs)


def _dtype(datatype: str) -> DType:
    """The type of a datatype; texts, which no model here has, are bytes."""
    known = "uint8" if datatype == BYTES else NUMPY_TYPES[datatype].name
    return cast("DType", known if known in DTYPES else "bfloat16")


def _extent(value: object, axis: int, url: str) -> int | str:
    number = int(value) if isinstance(value, int) and not isinstance(value, bool) else None
    if number is None and isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) < 12:
        number = int(value)  # JSON made of protocol buffers has 64-bit numbers as texts
    if number is None or not -1 <= number < MAX_EXTENT:
        raise SessionError("a shape is not one", subject=url, got=repr(value)[:60])
    return number if number >= 0 else ("batch" if axis == 0 else f"axis{axis}")


def open_remote(client: Client, name: str, local: Detector) -> Remote:
    """A model on a server.

    Args:
        client: Of the server; it stays the caller's.
        name: Of the model.
        local: The model on this machine that it should be.

    Raises:
        RemoteError: the server cannot be reached, or has no such model.
        SessionError: what the server says makes no sense, or the model is of a kind that is not known.
        InputError: the description of the model is damaged.
    """
    served = describe(client, name)
    return _RemoteModel(client, served) if served.is_ours else _RemoteNetwork(client, served, local)


class _RemoteModel:
    """Our model in the Python backend."""

    def __init__(self, client: Client, served: Served) -> None:
        record = served.parameters.get(METADATA_KEY)
        if record is None:
            raise SessionError(
                "does not say what model it is", subject=f"{client.url} {served.name}",
                hint="the server must give its configuration: /v2/models/NAME/config",
            )  # fmt: skip
        self.title = f"{served.name} at {client.url}, our model in the Python backend"
        self.info = ModelInfo.from_json(record, subject=f"{client.url} {served.name}")
        self.options = _options(served.parameters.get(OPTIONS_KEY, "{}"), client.url)
        self._client, self._served = client, served
        names = {one.name for one in served.outputs}
        wanted = [spec.name for spec in answer_specs(self.info, 1)[1:]]
        self._wanted = [name for name in wanted if name in names]

    def ask(self, image: Path, options: DetectOptions) -> Result:
        """As `Remote.ask`. Of the options the server takes the threshold of the score only."""
        from yoloship.detect.preprocess import as_image

        pixels = as_image(image, count=self.info.channels)
        name = self._served.inputs[0].name
        sent = pixels if name == PIXEL_INPUT else np.frombuffer(image.read_bytes(), np.uint8)
        request = InferRequest(
            (Tensor.of(name, sent[None]),),
            tuple(WantedOutput(one, {"binary_data": True}) for one in self._wanted),
            parameters={} if self.info.class_scores is not None else {"score_threshold": str(options.score_threshold)},
        )
        answer = self._client.ask(self._served.name, request)
        arrays = {one.name: one.array for one in answer.outputs}
        return from_tensors(arrays, self.info, pixels.shape[:2], self._client.url)


def _options(text: str, url: str) -> Mapping[str, Any]:
    """The arguments of `load` that a repository has written down; untrusted, so only those that are known."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SessionError(f"its parameter {OPTIONS_KEY} is damaged", subject=url, got=text[:60]) from error
    names = ("score_threshold", "iou_threshold", "max_detections")
    return {key: values[key] for key in names if key in values} if isinstance(values, dict) else {}


class _RemoteNetwork:
    """A network on a server, between the steps of this machine."""

    def __init__(self, client: Client, served: Served, local: Detector) -> None:
        from yoloship.detect.cpu import CpuPipeline
        from yoloship.detect.detector import Defaults, Detector
        from yoloship.detect.pipeline import ModelInput
        from yoloship.tasks import info_of

        subject = f"{client.url} {served.name}"
        metadata = _metadata(served, local, subject)
        session = RemoteSession(client, served, metadata)
        transform = local.info.transform if METADATA_KEY not in metadata else None
        self.info = info_of(session, subject, canvas_hw=local.input_hw, transform=transform)
        hw = None if None not in self.info.input_hw else local.input_hw
        given = ModelInput.checked(self.info, hw, "square", subject)
        self._detector: Any = Detector.over(CpuPipeline(session, given), Defaults())
        self.title = f"{served.name} at {client.url}, a network of the form {self.info.output_form}"
        self.options: Mapping[str, Any] = {}

    def ask(self, image: Path, options: DetectOptions) -> Result:
        """As `Remote.ask`."""
        result: Result = self._detector(image, options=options)
        return result


def _metadata(served: Served, local: Detector, subject: str) -> Mapping[str, str]:
    """What is known about a network: our record, that of the local model if it is the same network, or its names."""
    if METADATA_KEY in served.parameters:
        return {METADATA_KEY: served.parameters[METADATA_KEY]}
    here = local.session
    if _are_alike(served.inputs, here.inputs) and _are_alike(served.outputs, here.outputs):
        names = client_names(served.parameters.get("metadata", ""), subject)
        info = local.info if not names else replace(local.info, class_names=names)
        return {METADATA_KEY: info.to_json()}
    text = served.parameters.get("metadata", "")
    return {key: str(value) for key, value in _literal(text, subject).items()}


def client_names(text: str, subject: str) -> tuple[str, ...]:
    """The class names in the metadata for Ultralytics' client; empty if there are none."""
    names = _literal(text, subject).get("names")
    if not isinstance(names, dict) or set(names) != set(range(len(names))):
        return ()
    return tuple(str(names[key]) for key in range(len(names)))


def _literal(text: str, subject: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = ast.literal_eval(text) if len(text) <= MAX_LITERAL_CHARS else None
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        found = None
    if not isinstance(found, dict):
        raise SessionError(
            "its parameter metadata is damaged", subject=subject, expected="a Python dictionary", got=text[:60]
        )
    return found


def _are_alike(served: tuple[TensorSpec, ...], here: tuple[TensorSpec, ...]) -> bool:
    """Whether tensors have the same names, types and shapes, as far as both say a shape."""
    if [(one.name, one.dtype) for one in served] != [(one.name, one.dtype) for one in here]:
        return False
    return all(
        len(one.shape) == len(other.shape)
        and all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(one.shape, other.shape, strict=True))
        for one, other in zip(served, here, strict=True)
    )


class RemoteSession(Session):
    """A network on a server as a session.

    Args:
        client: Of the server; it stays the caller's.
        served: What the server says about the network.
        metadata: What is known about it, by the keys of an ONNX file's metadata.
    """

    def __init__(self, client: Client, served: Served, metadata: Mapping[str, str]) -> None:
        outputs = [
            TensorSpec(one.name, one.dtype, one.shape[:-1]) if one.name in served.flat else one
            for one in served.outputs
        ]
        super().__init__(served.inputs, outputs, metadata)
        self._client, self._served = client, served

    @property
    def name(self) -> str:
        """The server."""
        return self._client.url

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once on the server; `Session.run` says what is taken and given.

        Raises:
            RemoteError: the server cannot be reached, or refuses.
            SessionError: its answer is wrong.
        """
        if missing := [one.name for one in self.inputs if one.name not in feeds]:
            raise InputError("is missing", subject=missing[0], expected=", ".join(one.name for one in self.inputs))
        answers = self._client.infer(self._served.name, dict(feeds), [one.name for one in self.outputs])
        return tuple(self._checked(spec, answers[spec.name]) for spec in self.outputs)

    def _checked(self, spec: TensorSpec, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if spec.name in self._served.flat and array.ndim == len(spec.shape) + 1 and array.shape[-1] == 1:
            array = array[..., 0]
        fits = array.ndim == len(spec.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if not fits or array.dtype != spec.dtype:
            raise SessionError(
                f"its answer has a wrong {spec.name}", subject=self.name, expected=f"{spec.dtype}{spec.shape_text}",
                got=f"{array.dtype}{array.shape}",
            )  # fmt: skip
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise SessionError(f"its answer has a wrong {spec.name}", subject=self.name, expected="numbers", got="NaN")
        own: npt.NDArray[Any] = array.copy()
        return own

    def close(self) -> None:
        """Do nothing: the client is the caller's."""
