"""Why ONNX Runtime refuses a model on a CPU, if it has no kernels for what the model computes in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship.errors import SessionError, YoloshipError

if TYPE_CHECKING:
    from yoloship.graph.onnx_file import Model


_NO_KERNEL: Final = "Could not find an implementation"
"""What ONNX Runtime says of an operator that it has for other element types only (1.20 to 1.32)."""


def explained(error: SessionError, model: Path | bytes, subject: str) -> SessionError:
    """The refusal of a model with its reason, if that is its element type; else as it was.

    Args:
        error: What the runtime said.
        model: The file or its bytes; looked at only if the runtime lacked a kernel.
        subject: The file's name, for the message.
    """
    if _NO_KERNEL not in error.problem:
        return error
    from yoloship.graph.onnx_file import parse_onnx, read_file

    try:
        parsed = parse_onnx(read_file(model) if isinstance(model, Path) else model, subject)
    except YoloshipError:
        return error
    return refusal(parsed, subject) or error


def refusal(model: Model, subject: str) -> SessionError | None:
    """Why ONNX Runtime has no kernels for a model on a CPU, found by its element types; None if they do not say.

    Args:
        model: The graph.
        subject: The file's name, for the message.

    Source: measured with ONNX Runtime 1.32.0 on a processor with AVX-512 BF16: no convolution of bfloat16 is
    implemented by the CPU provider, whatever the processor has.
    """
    from yoloship.graph.body import body_precision

    if body_precision(model) != "bfloat16":
        return None
    return SessionError(
        "computes in bfloat16, for which ONNX Runtime has no kernels on a CPU",
        subject=subject,
        hint="use float32 or float16 on a CPU; 'yoloship build' makes an engine of it, and 'yoloship verify' emulates "
        "it",
    )
