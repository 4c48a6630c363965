"""The table of the runtimes, `RUNTIMES`, and the choice of one. A new runtime is one file and one line here.

Packages of third parties add runtimes by entry points of the group ``yoloship.runtimes``.
"""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from yoloship._util.tables import Table
from yoloship.errors import InputError, YoloshipError
from yoloship.runtime.session import DeviceSession, RunOptions, Runtime, Session

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.cuda.device import Device
    from yoloship.kinds import Kind
    from yoloship.runtime.session import DeviceKind, RuntimePrecision

RUNTIMES: Table[Runtime] = Table(
    "yoloship.runtimes",
    "runtime",
    MappingProxyType(
        {
            "onnxruntime": "yoloship.runtime.onnxruntime.cpu:OnnxRuntime",
            "openvino": "yoloship.runtime.openvino:OpenVino",
            "tensorrt": "yoloship.runtime.tensorrt:TensorRT",
            "rtx-plugin": "yoloship.runtime.onnxruntime.rtx_plugin:RtxPlugin",
        }
    ),
    base="yoloship.runtime.session:Runtime",
)
"""Name of a runtime → its class; ``auto`` takes the first built-in runtime that can do what is asked."""

AUTO: Final = "auto"
_WHERE: Final = {"cpu": "a CPU", "cuda": "an NVIDIA GPU"}

_Loaded = TypeVar("_Loaded", Session, DeviceSession)
_logger = logging.getLogger("yoloship.runtime")


def open_session(
    model: Path | bytes, options: RunOptions | None = None, *, runtime: str | None = None, kind: Kind = "onnx"
) -> Session:
    """Load a model on the CPU.

    Args:
        model: A file, or its bytes. Weights beside the file (external data) are found for a file only.
        options: How it is to be run.
        runtime: A name of `RUNTIMES`, ``auto``, or None for the default of the kind of file.
        kind: What the file is.

    Raises:
        DependencyError: the runtime is not installed.
        InputError: there is no such runtime, or it cannot do what is asked.
        SessionError: the runtime refuses the model.
    """
    options = options or RunOptions()
    chosen, reason = choose_runtime(runtime, kind, "cpu", options.precision, model_name=options.model_name)
    return _logged(chosen.open(model, options), reason)


def open_on_device(
    device: Device,
    model: Path | bytes,
    options: RunOptions | None = None,
    *,
    runtime: str | None = None,
    kind: Kind = "onnx",
) -> DeviceSession:
    """Load a model on an NVIDIA GPU.

    Args:
        device: Where it runs; open longer than the session.
        model: A file, or its bytes.
        options: How it is to be run.
        runtime: A name of `RUNTIMES`, ``auto``, or None for the default of the kind of file.
        kind: What the file is.

    Raises:
        CudaError: out of device memory, or the device failed.
        DependencyError: the runtime is not installed.
        EngineError: an engine is damaged, or does not fit what is installed here.
        InputError: there is no such runtime, or it cannot do what is asked.
        SessionError: the runtime refuses the model.
    """
    options = options or RunOptions()
    chosen, reason = choose_runtime(runtime, kind, "cuda", options.precision, model_name=options.model_name)
    return _logged(chosen.open_on(device, model, options), reason)


def choose_runtime(
    asked: str | None,
    kind: Kind,
    device: DeviceKind,
    precision: RuntimePrecision | None = None,
    *,
    model_name: str | None = None,
) -> tuple[type[Runtime], str]:
    """Choose the runtime for a file, and refuse one that cannot do what is asked, before the file is opened.

    Args:
        asked: A name of `RUNTIMES`. ``auto`` takes the first built-in runtime that can do what is asked. None takes the
            default: TensorRT for an engine, ONNX Runtime for a graph.
        kind: The kind of file.
        device: Where to run it.
        precision: The arithmetic of float32 layers; None takes the runtime's default.
        model_name: The model's name, for messages.

    Returns:
        The runtime, and the reason for the choice if `asked` is ``auto``, else an empty text.

    Raises:
        DependencyError: the runtime is not installed, or a third party's cannot be loaded.
        InputError: there is no such runtime, or it cannot do what is asked.
    """
    names = list(RUNTIMES.own) if asked == AUTO else [asked or ("tensorrt" if kind == "engine" else "onnxruntime")]
    refused: list[YoloshipError] = []
    for runtime in map(RUNTIMES.load, names):
        problem: YoloshipError | None = None
        if asked == AUTO and not _fits(runtime, kind, device):
            continue
        if kind not in runtime.opens:
            what = "is a TensorRT engine" if kind == "engine" else "is a graph"
            problem = InputError(
                f"{what}, which {runtime.title} does not run",
                subject=model_name or "model",
                expected=f"runtime {_able(kind, device)}",
                hint="build an engine from it with 'yoloship build'" if runtime.opens == {"engine"} else None,
            )
        elif device not in runtime.devices:
            problem = InputError(
                f"{runtime.title} does not run on {_WHERE[device]}", subject="runtime", expected=_able(kind, device)
            )
        elif precision is not None and precision not in runtime.precisions:
            able = " or ".join(sorted(runtime.precisions))
            problem = InputError(
                f"{runtime.title} cannot compute in {precision}",
                subject="runtime_precision",
                expected=able or "none: it was chosen when the engine was built",
                hint=None if kind == "engine" else "name another runtime: 'openvino' computes in bfloat16",
            )
        else:
            try:
                runtime.check(precision)
            except YoloshipError as error:
                problem = error
        if problem is None:
            passed_over = "; ".join(error.problem for error in refused)
            first = f"it is the first choice for {precision or 'float32'} on {_WHERE[device]}"
            return runtime, (passed_over or first) if asked == AUTO else ""
        refused.append(problem)
    if refused:
        raise refused[-1]
    raise InputError("no runtime can run it", subject=model_name or "model", expected=_WHERE[device], got=kind)


def _fits(runtime: type[Runtime], kind: Kind, device: DeviceKind) -> bool:
    return kind in runtime.opens and device in runtime.devices


def _able(kind: Kind, device: DeviceKind) -> str:
    """Names of the runtimes that run such files on such a device."""
    return " or ".join(name for name in RUNTIMES.own if _fits(RUNTIMES.load(name), kind, device)) or "another device"


def _logged(session: _Loaded, reason: str) -> _Loaded:
    """Log which runtime was opened, and why."""
    session.reason = reason
    _logger.info("runs on %s%s", session, f": {reason}" if reason else "")
    return session
