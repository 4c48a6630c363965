"""A network with more channels that answers the same: every channel of a checkpoint's network, several times.

The reference checkpoints of the families are too narrow for a figure of speed. Here each convolution between the image
and the head's last ones gets `factor` copies of its outputs, and takes the mean of the copies of its inputs. So the
network costs about `factor` squared as much and gives the same boxes. It works for networks of convolutions,
batch-norm, sums, concatenations and halvings of channels (YOLOv8 and the like) and for ResNets, not for attention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from yoloship.checkpoint import Tensor

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.checkpoint import Checkpoint, Module
    from yoloship.model import DType

_COLOURS = 3


@dataclass(frozen=True)
class _Memory:
    """A storage over an array."""

    array: npt.NDArray[np.float32]

    @property
    def dtype(self) -> DType:
        return "float32"

    @property
    def length(self) -> int:
        return self.array.size

    def elements(self) -> npt.NDArray[np.float32]:
        return self.array.reshape(-1)

    def release(self) -> None:
        pass


def widened(checkpoint: Checkpoint, factor: int) -> Checkpoint:
    """The checkpoint with `factor` times as many channels."""
    return checkpoint if factor == 1 else replace(checkpoint, module=_widened(checkpoint.module, factor))


def _widened(module: Module, factor: int, outputs: int | None = None) -> Module:
    """The module with copies of its channels: `factor` of its inputs, and `outputs` of its outputs, usually as many."""
    if module.class_name == "DFL":
        return module
    outputs = factor if outputs is None else outputs
    children = {
        name: None if child is None else _widened(child, factor, 1 if _is_last_of_prototypes(module, name) else outputs)
        for name, child in module.children.items()
    }
    parameters, buffers, attributes = dict(module.parameters), dict(module.buffers), dict(module.attributes)
    if module.class_name == "Conv2d":
        weight = parameters["weight"]
        assert weight is not None
        values, groups = weight.float64(), attributes["groups"]
        is_last = parameters.get("bias") is not None  # only the last convolutions of a head have one
        if not is_last:
            values = np.repeat(values, outputs, axis=0)
        if groups != 1:
            attributes["groups"] = groups * factor
        elif values.shape[1] != _COLOURS:
            values = np.repeat(values, factor, axis=1) / factor
        parameters["weight"] = _tensor(values)
    elif module.class_name == "ConvTranspose2d":
        weight, bias = parameters["weight"], parameters["bias"]
        assert weight is not None
        assert bias is not None
        values = np.repeat(weight.float64(), factor, axis=0) / factor
        parameters = {
            "weight": _tensor(np.repeat(values, outputs, axis=1)),
            "bias": _tensor(np.repeat(bias.float64(), outputs)),
        }
    elif module.class_name == "Linear":  # the last layer of a classifier: its outputs stay
        weight = parameters["weight"]
        assert weight is not None
        parameters["weight"] = _tensor(np.repeat(weight.float64(), factor, axis=1) / factor)
    elif module.class_name == "BatchNorm2d":
        parameters = {
            name: value and _tensor(np.repeat(value.float64(), outputs)) for name, value in parameters.items()
        }
        buffers = {
            name: _tensor(np.repeat(value.float64(), outputs)) if name.startswith("running_") else value
            for name, value in buffers.items()
        }
    return replace(
        module,
        attributes=MappingProxyType(attributes),
        parameters=MappingProxyType(parameters),
        buffers=MappingProxyType(buffers),
        children=MappingProxyType(children),
    )


def _is_last_of_prototypes(module: Module, child: str) -> bool:
    """Whether a child gives the prototypes of masks, which are as many as the head's coefficients."""
    return module.class_name == "Proto" and child == "cv3"


def _tensor(values: npt.NDArray[np.float64]) -> Tensor:
    array = np.ascontiguousarray(values, np.float32)
    return Tensor(_Memory(array), 0, array.shape, tuple(step // array.itemsize for step in array.strides))
