"""What requests and answers are made of: `Tensor`, `InferRequest`, `InferAnswer`; and what they may cost: `Limits`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from yoloship.kserve.datatypes import NUMPY_TYPES, canonical, datatype_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

Scalar: TypeAlias = "str | int | float | bool"
"""What a parameter may be."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request or an answer may cost. Whoever reads one refuses more.

    Attributes:
        body_bytes: The whole body.
        head_bytes: The JSON in front of binary tensors.
        elements: Elements of one tensor.
        texts: Elements of one BYTES tensor.
        json_commas: Commas of the JSON, which bounds its numbers: one takes up to 40 bytes of memory.
        json_brackets: Lists and objects of the JSON: one takes up to 100 bytes of memory.
        tensors: Inputs, and outputs.
        dimensions: Extents of a shape.
        parameters: Parameters of a request, and of each tensor.
        name_chars: Characters of a name, an id, or the text of a parameter.
    """

    body_bytes: int = 256 << 20
    head_bytes: int = 1 << 20
    elements: int = 1 << 30
    texts: int = 100_000
    json_commas: int = 5_000_000
    json_brackets: int = 250_000
    tensors: int = 64
    dimensions: int = 8
    parameters: int = 32
    name_chars: int = 1000


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A named array.

    Attributes:
        name: Its name.
        datatype: Its datatype in the protocol, a name in `yoloship.kserve.datatypes.NUMPY_TYPES`.
        array: Of that type of NumPy, C-contiguous; read only. BF16 is `yoloship._util.bfloat16.BFLOAT16`, and BYTES is
            an array of objects, each of them `bytes`.
        parameters: Parameters of the tensor, without those that say how it travels.
    """

    name: str
    datatype: str
    array: npt.NDArray[Any]
    parameters: Mapping[str, Scalar] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, array: npt.ArrayLike) -> Tensor:
        """The tensor of an array of any type that the protocol has; of texts and bytes too.

        Raises:
            ProtocolError: the protocol has no such type.
        """
        given = np.asarray(array)
        datatype = datatype_of(given.dtype)
        return cls(name, datatype, canonical(given, datatype, name))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents, outermost first."""
        return self.array.shape

    def __post_init__(self) -> None:
        assert self.array.dtype == NUMPY_TYPES[self.datatype], "as Tensor.of makes it"


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that a request asks for.

    Attributes:
        name: Its name.
        parameters: Its parameters, such as ``binary_data``.
    """

    name: str
    parameters: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    """A request to run a model.

    Attributes:
        inputs: The tensors, each name once.
        outputs: The outputs that are wanted, each name once; empty asks for all.
        id: The client's name for the request; empty if it has none.
        parameters: Parameters of the request, such as ``binary_data_output``.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[WantedOutput, ...] = ()
    id: str = ""
    parameters: Mapping[str, Scalar] = field(default_factory=dict)

    def is_binary(self, output: str) -> bool:
        """Whether an output is wanted as bytes: as its own parameter says, else as that of the request."""
        own = next((one.parameters for one in self.outputs if one.name == output), {})
        return own.get("binary_data", self.parameters.get("binary_data_output", False)) is True


@dataclass(frozen=True, slots=True, eq=False)
class InferAnswer:
    """The answer of a model.

    Attributes:
        model_name: The model.
        outputs: Its tensors, each name once.
        model_version: The version that answered; empty if the server does not say.
        id: That of the request.
        parameters: Parameters of the answer.
    """

    model_name: str
    outputs: tuple[Tensor, ...]
    model_version: str = ""
    id: str = ""
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
