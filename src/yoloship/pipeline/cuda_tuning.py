"""How a detector shares a GPU out: `CudaTuning`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from yoloship.errors import InputError
from yoloship.pipeline.transfer import TransferPolicy

OnFullMemory: TypeAlias = Literal["raise", "halve"]
"""What to do where a batch does not fit the device's memory: say so, or try it as two halves."""

MAX_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class CudaTuning:
    """How a `CudaDetector` shares the device out. The defaults suit a server's GPU.

    Attributes:
        lanes: Batches in flight at once, each on a stream with memory of its own; made when first needed.
        max_batch: Pictures of a run, where the network's batch is dynamic.
        plans: Batches and canvases that a lane keeps ready.
        transfer: Which ways frames take to the device.
        on_full_memory: See `OnFullMemory`.

    Raises:
        InputError: a value is outside its range.
    """

    lanes: int = 4
    max_batch: int = MAX_BATCH
    plans: int = 6
    transfer: TransferPolicy = field(default_factory=TransferPolicy)
    on_full_memory: OnFullMemory = "raise"

    def __post_init__(self) -> None:
        for name, most in (("lanes", 64), ("max_batch", 1024), ("plans", 1024)):
            if not 1 <= getattr(self, name) <= most:
                raise InputError("out of range", subject=name, expected=f"1 to {most}", got=str(getattr(self, name)))
        if self.on_full_memory not in get_args(OnFullMemory):
            raise InputError(
                "no such choice", subject="on_full_memory", expected="raise or halve", got=str(self.on_full_memory)
            )
