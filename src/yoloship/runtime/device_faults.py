"""Out of device memory, in one form for all runtimes: how much was asked for, how much is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from yoloship.cuda.buffers import size_text
from yoloship.errors import CudaError

if TYPE_CHECKING:
    from yoloship.cuda.device import Device

OUT_OF_MEMORY: Final = 2
"""CUDA_ERROR_OUT_OF_MEMORY."""


def no_memory(asked_bytes: int | None, device: Device, subject: str) -> CudaError:
    """The error for a runtime that ran out of device memory.

    Args:
        asked_bytes: What it asked for; None where it does not say.
        device: Asked for its free memory.
        subject: The model.
    """
    try:
        free_bytes, total_bytes = device.memory()
        state = f"{size_text(free_bytes)} free of {size_text(total_bytes)} on {device}"
    except CudaError:
        state = f"{device} does not say how much is free"
    asked = size_text(asked_bytes) if asked_bytes else "an amount that the runtime does not name"
    return CudaError(
        f"out of memory (CUDA_ERROR_OUT_OF_MEMORY, code {OUT_OF_MEMORY}): asked for {asked}, {state}",
        code=OUT_OF_MEMORY,
        name="CUDA_ERROR_OUT_OF_MEMORY",
        subject=subject,
        hint="use a smaller batch or input size, fewer streams, or free memory on the device",
    )
