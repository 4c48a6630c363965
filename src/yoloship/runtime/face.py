"""What sessions have in common, whatever runs them: how they describe their model, and that `with` closes them."""

from __future__ import annotations

from contextlib import nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from yoloship.cuda.device import Device
    from yoloship.engine.config import InputProfile
    from yoloship.tensors import TensorSpec


class SessionFace(Closing):
    """Base of sessions.

    Args:
        inputs: In the order of the file.
        outputs: In the order of the file.
        metadata: Key and value texts that belong to the model; copied.
    """

    def __init__(
        self, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec], metadata: Mapping[str, str]
    ) -> None:
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._metadata = MappingProxyType(dict(metadata))

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """In the order of the file; names on dynamic axes."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """In the order of the file; names on dynamic axes."""
        return self._outputs

    @property
    def metadata(self) -> Mapping[str, str]:
        """Key and value texts that belong to the model; untrusted."""
        return self._metadata


class DeviceSessionFace(SessionFace):
    """Base of sessions whose tensors lie on a GPU.

    Args:
        device: Where they lie; whoever opened it closes it.
        inputs: See `SessionFace`.
        outputs: See `SessionFace`.
        metadata: See `SessionFace`.
        profiles: Shapes of the dynamic inputs that are allowed, for each profile; empty where any shape will do.
    """

    def __init__(
        self,
        device: Device,
        inputs: Iterable[TensorSpec],
        outputs: Iterable[TensorSpec],
        metadata: Mapping[str, str],
        profiles: Iterable[Iterable[InputProfile]] = (),
    ) -> None:
        super().__init__(inputs, outputs, metadata)
        self._device = device
        self._profiles = tuple(map(tuple, profiles))

    @property
    def device(self) -> Device:
        """Where it runs."""
        return self._device

    @property
    def profiles(self) -> tuple[tuple[InputProfile, ...], ...]:
        """Shapes of the dynamic inputs that are allowed, for each profile; empty where any shape will do."""
        return self._profiles

    @property
    def making(self) -> AbstractContextManager[object]:
        """Held while something is made or closed; here nothing, because the runtime's own locks suffice."""
        return nullcontext()
