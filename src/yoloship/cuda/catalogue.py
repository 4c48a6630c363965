"""The kernels, their parameters and the files that they come from."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import numpy as np

from yoloship.errors import InputError

if TYPE_CHECKING:
    from yoloship.cuda.stream import Stream

Parameter: TypeAlias = Literal["pointer", "int32", "float32"]
Argument: TypeAlias = "int | float | np.integer | np.floating"
Packed: TypeAlias = "ctypes.c_void_p | ctypes.c_int32 | ctypes.c_float"
Extent: TypeAlias = tuple[int, int, int]

HEADER: Final = "common.cuh"


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One entry point of a kernel file.

    Attributes:
        source: The file's name in `kernels/`.
        entry: The name of the function, with C linkage.
        parameters: In order.
    """

    source: str
    entry: str
    parameters: tuple[Parameter, ...]

    def pack(self, arguments: tuple[Argument, ...]) -> tuple[Packed, ...]:
        """Arguments as the exact C types of the parameters.

        The driver copies bytes and checks nothing: a Python float passed for a float32 would arrive as other bits. So
        this is the one way in.

        Raises:
            InputError: too few or too many, of the wrong type, or outside the type's range.
        """
        if len(arguments) != len(self.parameters):
            raise InputError(
                "wrong number of arguments",
                subject=self.entry,
                expected=str(len(self.parameters)),
                got=str(len(arguments)),
            )
        return tuple(
            _pack(value, kind, f"{self.entry} argument {number}")
            for number, (value, kind) in enumerate(zip(arguments, self.parameters, strict=True))
        )


class Launchable(Protocol):
    """A kernel that is ready to run: loaded on a device, or emulated by a test."""

    def launch(self, stream: Stream, grid: Extent, block: Extent, *arguments: Argument) -> None:
        """Queue it.

        Args:
            stream: Its place among other work.
            grid: Blocks along x, y, z.
            block: Threads of each along x, y, z.
            arguments: As the `KernelSpec` says.

        Raises:
            InputError: the arguments do not fit the parameters.
            CudaError: the launch failed.
        """


_LETTERBOX: Final[tuple[Parameter, ...]] = ("pointer", "pointer", "int32", "int32", "int32")
_CANDIDATES: Final[tuple[Parameter, ...]] = (*("pointer",) * 5, "int32")
_HEADS: Final[tuple[Parameter, ...]] = ("pointer", "int32", "int32", "int32", "float32", "pointer", *_CANDIDATES)
_RAW: Final[tuple[Parameter, ...]] = ("pointer", "int32", "int32", "float32", "pointer", *_CANDIDATES)

KERNELS: Final = (
    KernelSpec("fetch.cu", "fetch_frames", ("pointer",)),
    KernelSpec("letterbox.cu", "letterbox_f32", _LETTERBOX),
    KernelSpec("letterbox.cu", "letterbox_f16", _LETTERBOX),
    KernelSpec("letterbox.cu", "letterbox_u8", _LETTERBOX),
    KernelSpec("letterbox.cu", "letterbox_area_f32", _LETTERBOX),
    KernelSpec("letterbox.cu", "letterbox_area_f16", _LETTERBOX),
    KernelSpec("letterbox.cu", "letterbox_area_u8", _LETTERBOX),
    KernelSpec("decode.cu", "decode_heads_f32", _HEADS),
    KernelSpec("decode.cu", "decode_heads_f16", _HEADS),
    KernelSpec("decode.cu", "decode_raw_f32", _RAW),
    KernelSpec("decode.cu", "decode_raw_f16", _RAW),
    KernelSpec("nms.cu", "nms", (*_CANDIDATES, "float32", "int32", "int32", *("pointer",) * 4)),
)
"""All of them; a test compares the parameters with the source files."""

SOURCES: Final = tuple(dict.fromkeys(spec.source for spec in KERNELS))


def source_text(name: str) -> str:
    """A kernel file's text, or the header's.

    Args:
        name: One of `SOURCES`, or `HEADER`.
    """
    return (files("yoloship.cuda") / "kernels" / name).read_text(encoding="utf-8")


def _pack(value: Argument, kind: Parameter, subject: str) -> Packed:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if kind == "pointer" and whole and 0 <= value < 2**64:
        return ctypes.c_void_p(int(value))
    if kind == "int32" and whole and -(2**31) <= value < 2**31:
        return ctypes.c_int32(int(value))
    if kind == "float32" and (whole or isinstance(value, float | np.floating)):
        return ctypes.c_float(float(np.float32(value)))
    raise InputError("wrong argument", subject=subject, expected=kind, got=f"{type(value).__name__} {value!r}")
