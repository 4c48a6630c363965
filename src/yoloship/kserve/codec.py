"""Requests and answers of the protocol as bytes, in both directions.

Tensors are JSON, or bytes behind the JSON. Then the header ``Inference-Header-Content-Length`` says how long the JSON
is, and the parameter ``binary_data_size`` of a tensor how many bytes are its own, in the order of the tensors.

Source: KServe, Open Inference Protocol, version 2, "Inference"; Triton, "Binary Tensor Data Extension". What these do
not have is refused by name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.fields import is_int, shown
from yoloship.errors import visible_json
from yoloship.kserve.datatypes import BYTES, NUMPY_TYPES, from_bytes, to_bytes
from yoloship.kserve.failures import ProtocolError
from yoloship.kserve.json_tensors import from_json, parse, to_json
from yoloship.kserve.tensors import DEFAULT_LIMITS, InferAnswer, InferRequest, Tensor, WantedOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from yoloship.kserve.tensors import Limits, Scalar

HEAD_LENGTH: Final = "Inference-Header-Content-Length"
_SIZE: Final = "binary_data_size"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A body, and how much of it is JSON.

    Attributes:
        body: The bytes to send.
        head_bytes: The bytes of the JSON in front; None if the body is JSON as a whole.
    """

    body: bytes
    head_bytes: int | None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say so."""
        if self.head_bytes is None:
            return {"Content-Type": "application/json"}
        return {"Content-Type": "application/octet-stream", HEAD_LENGTH: str(self.head_bytes)}


def head_length(text: str | None) -> int | None:
    """What the header ``Inference-Header-Content-Length`` says; None without it.

    Raises:
        ProtocolError: it is not a number of bytes.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ProtocolError("is not a number of bytes", subject=HEAD_LENGTH, got=repr(text[:60]))
    return int(text)


def encode_request(request: InferRequest, *, binary: bool = True) -> Encoded:
    """Write a request.

    Args:
        request: What to ask.
        binary: Whether its tensors are bytes; else they are JSON.

    Raises:
        ProtocolError: a tensor cannot be JSON.
    """
    head: dict[str, Any] = {"id": request.id} if request.id else {}
    if request.parameters:
        head["parameters"] = dict(request.parameters)
    chunks: list[bytes | memoryview] = []
    head["inputs"] = [_write(one, chunks, binary=binary) for one in request.inputs]
    if request.outputs:
        head["outputs"] = [_with_parameters({"name": one.name}, one.parameters) for one in request.outputs]
    return _whole(head, chunks, binary=binary)


def encode_answer(answer: InferAnswer, is_binary: Callable[[str], bool] = lambda _: True) -> Encoded:
    """Write an answer.

    Args:
        answer: What to say.
        is_binary: Whether an output is sent as bytes, by its name; else it is JSON.

    Raises:
        ProtocolError: a tensor cannot be JSON.
    """
    head: dict[str, Any] = {"model_name": answer.model_name}
    if answer.model_version:
        head["model_version"] = answer.model_version
    if answer.id:
        head["id"] = answer.id
    if answer.parameters:
        head["parameters"] = dict(answer.parameters)
    chunks: list[bytes | memoryview] = []
    chosen = [is_binary(one.name) for one in answer.outputs]
    head["outputs"] = [_write(one, chunks, binary=how) for one, how in zip(answer.outputs, chosen, strict=True)]
    return _whole(head, chunks, binary=any(chosen))


def _write(tensor: Tensor, chunks: list[bytes | memoryview], *, binary: bool) -> dict[str, Any]:
    form: dict[str, Any] = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
    if not binary:
        _with_parameters(form, tensor.parameters)
        form["data"] = to_json(tensor.array, tensor.datatype, tensor.name)
        return form
    chunks.append(to_bytes(tensor.array, tensor.datatype))
    return _with_parameters(form, {**tensor.parameters, _SIZE: len(chunks[-1])})


def _with_parameters(form: dict[str, Any], parameters: Mapping[str, Scalar]) -> dict[str, Any]:
    if parameters:
        form["parameters"] = dict(parameters)
    return form


def _whole(head: dict[str, Any], chunks: Sequence[bytes | memoryview], *, binary: bool) -> Encoded:
    try:
        text = json.dumps(head, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:  # a parameter of another kind
        raise ProtocolError("a parameter cannot be expressed in JSON", got=str(error)[:100]) from error
    data = visible_json(text).encode()
    return Encoded(b"".join([data, *chunks]), len(data)) if binary else Encoded(data, None)


def decode_request(
    body: bytes | memoryview, head_bytes: int | None = None, limits: Limits = DEFAULT_LIMITS
) -> InferRequest:
    """Read the request of a stranger.

    Args:
        body: The whole body. Tensors may be views of it.
        head_bytes: What `head_length` says.
        limits: What it may cost.

    Raises:
        ProtocolError: it does not follow the protocol, or exceeds a limit.
    """
    reader = _Reader.of(body, head_bytes, limits)
    reader.check_keys(reader.head, {"id", "parameters", "inputs", "outputs"}, "the request")
    inputs = reader.tensors("inputs")
    wanted = []
    for index, form in enumerate(reader.forms("outputs", required=False)):
        reader.check_keys(form, {"name", "parameters"}, f"outputs[{index}]")
        wanted.append(WantedOutput(reader.name(form, f"outputs[{index}]"), reader.parameters(form)))
    _refuse_twice([one.name for one in wanted], "outputs")
    return InferRequest(inputs, tuple(wanted), reader.text("id"), reader.parameters(reader.head))


def decode_answer(
    body: bytes | memoryview, head_bytes: int | None = None, limits: Limits = DEFAULT_LIMITS
) -> InferAnswer:
    """Read the answer of a stranger.

    Args:
        body: The whole body. Tensors may be views of it.
        head_bytes: What `head_length` says.
        limits: What it may cost.

    Raises:
        ProtocolError: it does not follow the protocol, or exceeds a limit.
    """
    reader = _Reader.of(body, head_bytes, limits)
    reader.check_keys(reader.head, {"model_name", "model_version", "id", "parameters", "outputs"}, "the answer")
    return InferAnswer(
        reader.text("model_name"),
        reader.tensors("outputs"),
        reader.text("model_version"),
        reader.text("id"),
        reader.parameters(reader.head),
    )


class _Reader:
    """The JSON of a body, and the bytes behind it, of which each tensor takes its own."""

    def __init__(self, head: dict[str, Any], rest: memoryview, limits: Limits) -> None:
        self.head, self._rest, self._limits = head, rest, limits

    @classmethod
    def of(cls, body: bytes | memoryview, head_bytes: int | None, limits: Limits) -> _Reader:
        data = memoryview(body).cast("B")
        if len(data) > limits.body_bytes:
            raise _too_much("the body is too long", limits.body_bytes, len(data), "bytes")
        if head_bytes is None:
            return cls(parse(bytes(data), limits), data[:0], limits)
        if head_bytes > limits.head_bytes:
            raise _too_much("the JSON in front of the tensors is too long", limits.head_bytes, head_bytes, "bytes")
        if not 0 < head_bytes <= len(data):
            raise ProtocolError(
                "is not within the body", subject=HEAD_LENGTH, expected=f"1 to {len(data)}", got=str(head_bytes)
            )
        return cls(parse(bytes(data[:head_bytes]), limits), data[head_bytes:], limits)

    def tensors(self, key: str) -> tuple[Tensor, ...]:
        """The tensors of a list."""
        forms = self.forms(key, required=True)
        names = [self.name(form, f"{key}[{index}]") for index, form in enumerate(forms)]
        _refuse_twice(names, key)
        found = tuple(self._tensor(form, name) for form, name in zip(forms, names, strict=True))
        if len(self._rest):
            raise ProtocolError(
                "there are bytes after the tensors", expected=f"as many as {_SIZE} says", got=f"{len(self._rest)} more"
            )
        return found

    def forms(self, key: str, *, required: bool) -> list[dict[str, Any]]:
        """The objects of a list."""
        forms = self.head.get(key, None if required else [])
        if not isinstance(forms, list) or not all(isinstance(one, dict) for one in forms):
            got = type(forms).__name__ if not isinstance(forms, list) else "something else in it"
            raise ProtocolError("is not a list of objects", subject=key, got="nothing" if forms is None else got)
        if len(forms) > self._limits.tensors:
            raise _too_much(f"too many {key}", self._limits.tensors, len(forms), "")
        return forms

    def _tensor(self, form: dict[str, Any], name: str) -> Tensor:
        self.check_keys(form, {"name", "shape", "datatype", "parameters", "data"}, name)
        datatype, parameters = form.get("datatype"), dict(self.parameters(form))
        shape = self._shape(form, name, self._limits.texts if datatype == BYTES else self._limits.elements)
        if not isinstance(datatype, str) or datatype not in NUMPY_TYPES:
            raise ProtocolError(
                "there is no such datatype", subject=name, expected=", ".join(NUMPY_TYPES), got=shown(datatype)
            )
        size = parameters.pop(_SIZE, None)
        if (size is None) == ("data" not in form):
            raise ProtocolError(
                "a tensor has either data or bytes after the JSON", subject=name,
                expected=f"data, or the parameter {_SIZE}",
                got="both" if size is not None else ", ".join(sorted(parameters))[:100] or "none",
            )  # fmt: skip
        if size is None:
            return Tensor(name, datatype, from_json(form["data"], datatype, shape, name), parameters)
        if not is_int(size, 0, len(self._rest)):
            raise ProtocolError(
                f"{_SIZE} is not a number of bytes that are left", subject=name,
                expected=f"0 to {len(self._rest)}", got=shown(size),
            )  # fmt: skip
        own, self._rest = self._rest[:size], self._rest[size:]
        return Tensor(name, datatype, from_bytes(own, datatype, shape, name), parameters)

    def _shape(self, form: dict[str, Any], name: str, most: int) -> tuple[int, ...]:
        shape = form.get("shape")
        if not isinstance(shape, list) or not all(is_int(extent, 0, most) for extent in shape):
            raise ProtocolError(
                "shape is not a list of extents", subject=name, expected=f"whole numbers, 0 to {most:,}",
                got=shown(shape),
            )  # fmt: skip
        if len(shape) > self._limits.dimensions:
            raise _too_much(f"{name}: shape has too many extents", self._limits.dimensions, len(shape), "")
        elements = 1
        for extent in shape:
            elements *= extent or 1  # a tensor of no elements may not have extents without limit either
            if elements > most:
                raise ProtocolError(
                    "the tensor has too many elements", subject=name, expected=f"at most {most:,}", got=str(shape)
                )
        return tuple(shape)

    def name(self, form: dict[str, Any], place: str) -> str:
        """The name in an object."""
        name = form.get("name")
        if not isinstance(name, str) or not name or len(name) > self._limits.name_chars:
            raise ProtocolError(
                "name is not a text", subject=place, expected=f"1 to {self._limits.name_chars} characters",
                got="nothing" if name is None else shown(name),
            )  # fmt: skip
        return name

    def text(self, key: str) -> str:
        """A text of the head; empty without it."""
        text = self.head.get(key, "")
        if not isinstance(text, str) or len(text) > self._limits.name_chars:
            raise ProtocolError(
                "is not a text", subject=key, expected=f"at most {self._limits.name_chars} characters", got=shown(text)
            )
        return text

    def parameters(self, form: dict[str, Any]) -> Mapping[str, Scalar]:
        """The parameters of an object."""
        found = form.get("parameters", {})
        if not isinstance(found, dict):
            raise ProtocolError("is not an object", subject="parameters", got=shown(found))
        if len(found) > self._limits.parameters:
            raise _too_much("too many parameters", self._limits.parameters, len(found), "")
        for key, value in found.items():
            is_long = len(key) > self._limits.name_chars or (
                isinstance(value, str) and len(value) > self._limits.name_chars
            )
            if is_long or not isinstance(value, str | int | float):
                raise ProtocolError(
                    f"the parameter {shown(key)} is not a text, a number, true or false", got=shown(value)
                )
        return found

    def check_keys(self, form: dict[str, Any], known: set[str], subject: str) -> None:
        """Refuse what the protocol does not have."""
        unknown = next((key for key in form if key not in known), None)
        if unknown is not None:
            raise ProtocolError(
                "has a field that the protocol does not have", subject=subject, expected=", ".join(sorted(known)),
                got=shown(unknown),
            )  # fmt: skip


def _refuse_twice(names: Iterable[str], key: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ProtocolError("a name appears twice", subject=key, got=shown(name))
        seen.add(name)


def _too_much(problem: str, most: int, got: int, unit: str) -> ProtocolError:
    return ProtocolError(problem, expected=f"at most {most:,} {unit}".strip(), got=f"{got:,} {unit}".strip())
