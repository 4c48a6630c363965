"""The configuration of a model for Triton: what goes into ``config.pbtxt``, as data and as text.

Everything that matters is written out, so that a server started with ``--disable-auto-complete-config`` reads the same
as one that completes configurations itself.

Source: the message ``ModelConfig`` of Triton's published schema, ``model_config.proto``, and its documentation, "Model
Configuration". A batch dimension is not written in ``dims`` if ``max_batch_size`` is above 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from yoloship.errors import InputError, SessionError
from yoloship.triton.pbtxt import Word, to_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from yoloship.model import DType, TensorSpec
    from yoloship.triton.pbtxt import Field

Kind = Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"]

TYPES: Final[Mapping[DType, str]] = MappingProxyType(
    {
        "bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "int8": "TYPE_INT8", "int16": "TYPE_INT16",
        "int32": "TYPE_INT32", "int64": "TYPE_INT64", "float16": "TYPE_FP16", "bfloat16": "TYPE_BF16",
        "float32": "TYPE_FP32", "float64": "TYPE_FP64",
    }
)  # fmt: skip
"""Triton's names of element types. It has none for float8."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""Names of models and configurations. They are folders and parts of addresses."""
OPEN: Final = -1
"""An extent that differs between requests."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output of a model, as Triton has it.

    Attributes:
        name: Of the tensor.
        dtype: Element type.
        dims: Extents, without the batch if the model has one; `OPEN` for one that differs.
        is_ragged: Whether requests with other extents can be in one batch; inputs only.
        labels: The file with the names of the classes whose scores it holds; outputs only.
    """

    name: str
    dtype: DType
    dims: tuple[int, ...]
    is_ragged: bool = False
    labels: str | None = None

    @classmethod
    def of(cls, spec: TensorSpec, *, batched: bool, labels: str | None = None) -> Port:
        """The port of a tensor of a network.

        Args:
            spec: The tensor.
            batched: Whether its first axis is the batch of the server.
            labels: As the attribute.

        Raises:
            SessionError: Triton has no such element type.
        """
        if spec.dtype not in TYPES:
            raise SessionError("Triton has no such type", subject=spec.name, expected=", ".join(TYPES), got=spec.dtype)
        axes = spec.shape[1:] if batched else spec.shape
        return cls(
            spec.name, spec.dtype, tuple(OPEN if isinstance(axis, str) else axis for axis in axes), labels=labels
        )

    def fields(self) -> Iterator[Field]:
        """Its message. A tensor with one number for each image has no extents, which Triton writes as a reshape."""
        yield "name", self.name
        yield "data_type", Word(TYPES[self.dtype])
        yield from (("dims", extent) for extent in self.dims or (1,))
        if not self.dims:
            yield "reshape", []
        if self.is_ragged:
            yield "allow_ragged_batch", True
        if self.labels is not None:
            yield "label_filename", self.labels


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests become batches.

    Attributes:
        max_batch: Images of the largest batch; 0 if the network takes only what one request brings.
        preferred: Sizes for which the server waits; empty takes whatever is there.
        queue_delay_us: How long a request may wait for others, in microseconds.
    """

    max_batch: int
    preferred: tuple[int, ...] = ()
    queue_delay_us: int = 0

    def __post_init__(self) -> None:
        if any(not 1 <= size <= self.max_batch for size in self.preferred):
            raise InputError(
                "is not a size of a batch", subject="preferred", expected=f"1 to {self.max_batch}",
                got=", ".join(map(str, self.preferred)),
            )  # fmt: skip

    def fields(self) -> Iterator[Field]:
        """The dynamic batcher; nothing for a network without a batch."""
        if self.max_batch > 0:
            sizes: list[Field] = [("preferred_batch_size", size) for size in sorted(set(self.preferred))]
            yield "dynamic_batching", [*sizes, ("max_queue_delay_microseconds", self.queue_delay_us)]

    @property
    def warm_sizes(self) -> tuple[int, ...]:
        """The sizes to warm up for, ascending: one image, those that are preferred, and the largest."""
        return tuple(sorted({1, *self.preferred, max(self.max_batch, 1)}))


@dataclass(frozen=True, slots=True)
class Instances:
    """Where a model runs, and how often at the same time.

    Attributes:
        kind: On GPUs, on the CPU, or on GPUs if the server has some.
        count: Instances on each GPU, or on the CPU.
        gpus: Numbers of the GPUs; empty takes all that there are.
    """

    kind: Kind = "KIND_CPU"
    count: int = 1
    gpus: tuple[int, ...] = ()

    def fields(self) -> list[Field]:
        """Its message."""
        return [("count", self.count), ("kind", Word(self.kind)), *(("gpus", gpu) for gpu in self.gpus)]


@dataclass(frozen=True, slots=True)
class WarmInput:
    """One input of the requests that the server makes itself before a model is ready.

    Attributes:
        name: Of the input.
        dtype: Element type.
        dims: Extents, all fixed, without the batch.
        file: A file in the folder ``warmup`` with its bytes; None takes zeros.
    """

    name: str
    dtype: DType
    dims: tuple[int, ...]
    file: str | None = None

    def fields(self) -> list[Field]:
        """Its message."""
        data: Field = ("zero_data", True) if self.file is None else ("input_data_file", self.file)
        return [("data_type", Word(TYPES[self.dtype])), *(("dims", extent) for extent in self.dims), data]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The configuration of one model.

    Attributes:
        name: Of the model, which its folder has too.
        backend: ``onnxruntime``, ``tensorrt`` or ``python``.
        platform: The older name of the backend, which some tools still read; empty for ``python``.
        file: The file in the folder of the version that the backend opens.
        inputs: What a request brings.
        outputs: What an answer has.
        batching: How requests become batches.
        instances: Where it runs.
        warm_inputs: Inputs of the requests that warm it up.
        parameters: Texts for the backend and for clients.
    """

    name: str
    backend: str
    platform: str
    file: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batching: Batching
    instances: Instances
    warm_inputs: tuple[WarmInput, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name, "the name of a model")

    def to_text(self) -> str:
        """The text of ``config.pbtxt``."""
        return to_text(list(self._fields()))

    def _fields(self) -> Iterator[Field]:
        yield "name", self.name
        if self.platform:
            yield "platform", self.platform
        yield "backend", self.backend
        yield "default_model_filename", self.file
        yield "max_batch_size", self.batching.max_batch
        yield "version_policy", [("latest", [("num_versions", 1)])]
        yield from (("input", list(port.fields())) for port in self.inputs)
        yield from (("output", list(port.fields())) for port in self.outputs)
        yield from self.batching.fields()
        yield "instance_group", self.instances.fields()
        yield from (("model_warmup", list(self._warm_up(size))) for size in self.batching.warm_sizes)
        for key, text in sorted(self.parameters.items()):
            yield "parameters", [("key", key), ("value", [("string_value", text)])]

    def _warm_up(self, size: int) -> Iterator[Field]:
        yield "name", f"batch of {size}"
        yield "batch_size", size
        for one in self.warm_inputs:
            yield "inputs", [("key", one.name), ("value", one.fields())]


def check_name(name: str, what: str) -> str:
    """Refuse a name that cannot be a folder and a part of an address.

    Raises:
        InputError: it is such a name.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"cannot be {what}", subject=name or "''", expected="letters, digits, _ . and -, first a letter or a digit",
            hint="give another: NAME=MODEL",
        )  # fmt: skip
    return name


def is_batched(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether every tensor of a network begins with an axis of any extent, so that the server can make batches."""
    return all(spec.shape and isinstance(spec.shape[0], str) for spec in (*inputs, *outputs))
