"""OpenVINO on the CPU. The caller chooses the precision, not the library.

By default OpenVINO computes in bfloat16 if the processor supports it and in float32 otherwise, so the same file gives
different boxes on different machines. This session always sets the precision and reads it back from the compiled model.

This file is long because everything that knows OpenVINO's API is here, but for the changes to the graph
(`openvino_graph`): opening, compiling, the compiled models in the cache, and running.
"""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.bfloat16 import BFLOAT16, to_float32
from yoloship._util.cache import cached
from yoloship._util.cores import quota_cores
from yoloship._util.reading import read_bounded
from yoloship._util.text import shortened
from yoloship._version import __version__
from yoloship.bounds import read_outline
from yoloship.bounds.outline import FLOAT
from yoloship.errors import DependencyError, InputError, SessionError
from yoloship.kinds import damaged_onnx
from yoloship.model import DType, TensorSpec
from yoloship.runtime import openvino_graph
from yoloship.runtime.onnxruntime.cpu import open_source
from yoloship.runtime.openvino_graph import keep_channel_order, tune_for_bfloat16
from yoloship.runtime.session import RunOptions, Runtime, Session, check_feeds
from yoloship.runtime.watch import watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.bounds.outline import Outline
    from yoloship.runtime.session import RuntimePrecision, TunedFor

_DEVICE: Final = "CPU"
_TYPES: Final[Mapping[str, str]] = MappingProxyType({"float32": "f32", "bfloat16": "bf16"})
"""OpenVINO's names of the precisions."""
_DTYPES: Final[Mapping[str, DType]] = MappingProxyType(
    {
        "boolean": "bool", "u8": "uint8", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
        "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "f8e4m3": "float8_e4m3fn",
    }
)  # fmt: skip
_NEWEST_OPSET: Final = 26
"""Newest opset that was tested, with OpenVINO 2026.4; operators of later opsets may mean something else."""
_MAX_ONNX_BYTES: Final = (1 << 31) - 1
_MAX_COMPILED_BYTES: Final = 1 << 31
_CPUINFO: Final = Path("/proc/cpuinfo")
_FIRST_USE: Final = threading.Lock()
_MAX_RUNS: Final = 16
"""Largest number of runs at the same time; each has its own activations."""


def import_openvino() -> ModuleType:
    """Import OpenVINO without the telemetry that its import would send.

    Measured with 2026.4.1: the import writes an identifier into ``~/intel`` and sends an event to an analytics service,
    unless the user has opted out or the package `openvino_telemetry` cannot be imported. Therefore that package is
    blocked during the import.

    Raises:
        DependencyError: it is not installed, or cannot be imported.
    """
    name = "openvino_telemetry"
    with _FIRST_USE:  # two threads that come first at once would unblock that package twice
        hide = name not in sys.modules
        if hide:
            sys.modules[name] = None  # type: ignore[assignment]  # this makes Python refuse to import the module
        try:
            import openvino
            from openvino import Core  # noqa: F401 - a folder of that name in the working directory has none
        except (ImportError, OSError) as error:  # a library that it needs is not there
            raise DependencyError(
                "is not installed, or cannot be imported",
                subject="openvino",
                got=plain_text(str(error)),
                hint="pip install 'yoloship[openvino]'",
            ) from error
        finally:
            if hide:
                del sys.modules[name]
        # Its tables of element types are made at their first use, and two threads that come first at once wait for each
        # other for ever: one holds the table and wants the interpreter's lock, the other the reverse (seen with
        # 2026.4.1).
        openvino.Tensor(np.zeros(1, np.uint8)).data  # noqa: B018 - reading it is what makes the table
    return openvino  # type: ignore[no-any-return]  # mypy does not read this package


class OpenVino(Runtime):
    """OpenVINO on the CPU, in float32 unless bfloat16 is asked for."""

    title = "OpenVINO"
    packages = ("openvino",)
    install = "pip install 'yoloship[openvino]'"
    opens = frozenset({"onnx", "unknown"})  # a file of unknown kind may be an unusual ONNX file
    devices = frozenset({"cpu"})
    precisions = frozenset({"float32", "bfloat16"})

    @classmethod
    def check(cls, precision: RuntimePrecision | None) -> None:
        """Refuse a precision that cannot work on this machine.

        Raises:
            DependencyError: OpenVINO is not installed.
            InputError: the processor would only emulate bfloat16.
        """
        super().check(precision)
        if precision == "bfloat16":
            check_precision(precision, import_openvino().Core())

    @classmethod
    def open(cls, model: Path | bytes, options: RunOptions) -> Session:
        """Load a model on the CPU; `OpenVinoSession.open` says what it raises."""
        return OpenVinoSession.open(
            model,
            precision=options.precision or "float32",
            tuned_for=options.tuned_for,
            threads=options.cores,
            subject=options.model_name,
            limit_s=options.limit_s,
        )


class OpenVinoSession(Session):
    """A model that OpenVINO has compiled for the CPU; make one with `open`."""

    def __init__(self, compiled: Any, outline: Outline, settings: RunOptions, version: str) -> None:
        subject = settings.model_name or "model"
        names = _axis_names(outline)
        self._channels_last = frozenset(
            place for place, port in enumerate(compiled.outputs) if _is_channels_last(port, outline)
        )
        super().__init__(
            (_tensor_spec(port, names, subject) for port in compiled.inputs),
            (
                _planes_spec(port, names) if place in self._channels_last else _tensor_spec(port, names, subject)
                for place, port in enumerate(compiled.outputs)
            ),
            {entry.key: entry.value for entry in outline.metadata_props},
        )
        streams = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        # There are more requests than streams, so that no stream waits for our threads: they also read the images.
        self.concurrent_runs = min(3 * streams, _MAX_RUNS) if settings.tuned_for == "throughput" else 1
        self._requests: _Requests | None = _Requests(compiled, self.concurrent_runs)
        self._precision = settings.precision or "float32"
        self._version = version
        self._subject = subject
        self._limit_s = settings.limit_s

    @classmethod
    def open(
        cls,
        model: Path | str | bytes,
        *,
        precision: RuntimePrecision = "float32",
        tuned_for: TunedFor = "latency",
        threads: int | None = None,
        subject: str | None = None,
        limit_s: float | None = None,
    ) -> Self:
        """Load an ONNX model; the compiled model is kept in the user's cache.

        Args:
            model: A file, or its bytes. Weights in other files (external data) are found only for a file.
            precision: The arithmetic of float32 layers.
            tuned_for: ``latency``: one run uses all cores. ``throughput``: several runs at once share them.
            threads: Threads in total; None takes the cores that this process may use.
            subject: The name of a model that is given as bytes, for messages.
            limit_s: Time limit in seconds for opening the model and for each run, for untrusted files. None sets no
                limit.

        Raises:
            DependencyError: OpenVINO is not installed.
            InputError: the file is missing, the number of threads is not positive, or the processor does not support
                the precision.
            SessionError: the file is empty, not ONNX, damaged, or uses an operator that OpenVINO does not have.
        """
        if threads is not None and threads < 1:
            raise InputError("too few threads", subject="threads", expected="1 or more", got=str(threads))
        if precision not in _TYPES:
            raise InputError(
                "OpenVINO cannot compute in this precision",
                subject="runtime_precision",
                expected=" or ".join(_TYPES),
                got=str(precision),
            )
        source, subject = open_source(model, subject)
        openvino = import_openvino()
        core = openvino.Core()
        check_precision(precision, core)
        data = (
            source
            if isinstance(source, bytes)
            else read_bounded(Path(source), _MAX_ONNX_BYTES, error=SessionError, wanted="an ONNX model")
        )
        outline = read_outline(data, subject)
        _check_opset(outline, subject)
        asked: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            "PERFORMANCE_HINT": tuned_for.upper(),
        }
        threads = threads or quota_cores()
        if threads is not None:
            # OpenVINO respects the affinity, but not a quota: its pinned threads would use the first cores of the
            # machine, as would those of every other container.
            asked |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        if any(node.op_type == "DequantizeLinear" for node in outline.graph.node):
            # Its int8 kernels do not compute what the graph says: a calibrated yolov5n lost one box in five.
            asked["LP_TRANSFORMS_MODE"] = False
        compilation = _Compilation(openvino, core, asked, subject)
        beside = _has_weights_beside(outline)  # the cache's key does not change when those files change

        def make() -> Any:
            return compilation.from_source(source) if beside else compilation.from_cache(data)

        try:
            compiled = make() if limit_s is None else watched(make, lambda: None, limit_s, subject)
        except RuntimeError as error:
            raise _load_error(str(error), subject) from error
        found = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if found != _TYPES[precision]:
            raise SessionError(
                "OpenVINO does not compute in the precision that was set",
                subject=subject,
                expected=_TYPES[precision],
                got=found,
            )
        version = openvino.get_version().partition("-")[0]
        return cls(compiled, outline, RunOptions(precision, tuned_for, subject, limit_s), version)

    @property
    def name(self) -> str:
        """The runtime and its precision, as text: ``openvino 2026.4.1 (CPU, bfloat16)``."""
        return f"openvino {self._version} ({_DEVICE}, {self._precision})"

    @property
    def precision(self) -> RuntimePrecision:
        """The arithmetic of float32 layers."""
        return self._precision

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once; many threads may call it at the same time. `Session.run` explains the arguments.

        The outputs are not copied: they lie in OpenVINO's own memory, which is used again once all of them are gone.
        Until then they also keep the model's memory, even if the session is closed. Maps in bfloat16 are copied.

        Raises:
            InputError: a feed is missing, unknown, not contiguous, or of the wrong shape or dtype.
            SessionError: the runtime failed or took too long, or the session is closed.
        """
        outputs = self.run_as_computed(feeds)
        return tuple(to_float32(output) if output.dtype == BFLOAT16 else output for output in outputs)

    def run_as_computed(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Do what `run` does, and leave maps of a convolution in bfloat16 as they are: no output is copied."""
        requests = self._requests
        if requests is None:
            raise SessionError("the session is closed", subject=self._subject)
        check_feeds(self.inputs, feeds)
        given = dict(feeds)
        try:
            with requests.one() as request:
                if self._limit_s is None:
                    outputs = _infer(request, given)
                else:
                    outputs = watched(lambda: _infer(request, given), request.cancel, self._limit_s, self._subject)
                lent = requests.lent(request, outputs)
        except RuntimeError as error:
            raise SessionError(f"the runtime failed: {plain_text(str(error))}", subject=self._subject) from error
        return tuple(
            output.view(BFLOAT16).transpose(0, 3, 1, 2) if place in self._channels_last else output
            for place, output in enumerate(lent)
        )

    def close(self) -> None:
        """Release the model when no run is active. It may be called twice."""
        self._requests = None


class _Requests:
    """Infer requests of OpenVINO, each for one run at a time; made when they are needed.

    A request owns the memory of its outputs, and its next run writes over them. It is therefore idle again only when
    nobody holds an output of its last run. The undecoded maps of a yolov5n are 8.5 MB, so copies of them would cost a
    twentieth of a run and more, and new pages of memory each time.
    """

    def __init__(self, compiled: Any, count: int) -> None:
        self._compiled = compiled
        self._turns = threading.BoundedSemaphore(count)
        self._idle: list[Any] = []

    @contextmanager
    def one(self) -> Iterator[Any]:
        """A request that nobody else uses. It is used again only if its outputs are handed out by `lent`."""
        with self._turns:
            try:
                request = self._idle.pop()
            except IndexError:
                request = self._compiled.create_infer_request()
            yield request

    def lent(self, request: Any, outputs: tuple[npt.NDArray[np.generic], ...]) -> tuple[npt.NDArray[np.generic], ...]:
        """The same outputs as arrays that keep the request from being used again as long as any of them is held."""
        lease = _Lease(request, self._idle)
        return tuple(np.asarray(_LentMemory(output, lease)) for output in outputs)


class _Lease:
    """Gives a request back when it is forgotten."""

    def __init__(self, request: Any, idle: list[Any]) -> None:
        self._request = request
        self._idle = idle

    def __del__(self) -> None:
        self._idle.append(self._request)  # one bytecode of a list: safe in whatever thread this happens


class _LentMemory:
    """What NumPy makes an array of without copying; the array and all views of it keep the lease."""

    def __init__(self, output: npt.NDArray[np.generic], lease: _Lease) -> None:
        self.__array_interface__ = output.__array_interface__
        self._held = output, lease


class _Compilation:
    """How a model is compiled: everything that determines the result, and its key in the cache."""

    def __init__(self, openvino: ModuleType, core: Any, asked: Mapping[str, Any], subject: str) -> None:
        self._openvino = openvino
        self._core = core
        self._asked = dict(asked)
        self._subject = subject
        machine = (core.get_property(_DEVICE, "FULL_DEVICE_NAME"), core.get_property(_DEVICE, "DEVICE_ARCHITECTURE"))
        made_by = (__version__, *_own_state(), openvino.get_version())
        self._made_from = (*made_by, *machine, _processor_flags(), sorted(self._asked.items()))

    def from_source(self, source: str | bytes) -> Any:
        """Compile a file, or its bytes."""
        model = self._core.read_model(source)
        keep_channel_order(self._openvino, model)
        if self._asked["INFERENCE_PRECISION_HINT"] == _TYPES["bfloat16"]:
            tune_for_bfloat16(self._openvino, model)
        return self._core.compile_model(model, _DEVICE, self._asked)

    def from_cache(self, data: bytes) -> Any:
        """Load the compiled model from the cache, or compile it and cache it."""
        made_from = (hashlib.sha256(data).hexdigest(), *self._made_from)
        made: list[Any] = []

        def build() -> bytes:
            made.append(self.from_source(data))
            exported = BytesIO()
            made[0].export_model(exported)
            return exported.getvalue()

        kept = cached("compiled", made_from, ".blob", _MAX_COMPILED_BYTES, build)
        if made:
            return made[0]
        try:
            return self._core.import_model(kept, _DEVICE, self._asked)
        except RuntimeError:  # another build of the same version made it
            return self.from_source(data)


def _own_state() -> tuple[int, ...]:
    """Sizes and modification times of what determines how a model is compiled and can change without the version."""
    try:
        states = [Path(file).stat() for file in (__file__, openvino_graph.__file__)]
    except OSError:  # they were imported from an archive
        return ()
    return tuple(number for state in states for number in (state.st_size, state.st_mtime_ns))


def check_precision(precision: RuntimePrecision, core: Any) -> None:
    """Refuse bfloat16 if this processor would only emulate it.

    Measured with 2026.4.1 on a yolov5n: if the processor has AVX-512 but no bfloat16, a run takes 3.4 times as long as
    in float32; with only AVX2 the model is not compiled at all.

    Args:
        precision: The requested precision.
        core: OpenVINO's core, which lists what it supports on this machine.

    Raises:
        InputError: the processor would emulate bfloat16.
    """
    if precision != "bfloat16":
        return
    flags = _processor_flags()
    can = "BF16" in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    if can and (not flags or {"amx_bf16", "avx512_bf16"} & set(flags.split())):
        return
    raise InputError(
        "this processor has no bfloat16 arithmetic (AMX or AVX-512 BF16)",
        subject="runtime_precision",
        expected="float32",
        got=precision,
        hint="use float32: emulated bfloat16 would be several times slower",
    )


def _processor_flags() -> str:
    """The feature flags that Linux lists for the processor; empty if the system lists none."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else ""


def _infer(request: Any, feeds: dict[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
    return tuple(request.infer(feeds, share_outputs=True).to_tuple())


def _check_opset(outline: Outline, subject: str) -> None:
    """Refuse an opset that OpenVINO does not know; it would silently read it as the newest opset that it knows."""
    for entry in outline.opset_import:
        if entry.domain in {"", "ai.onnx"} and entry.version > _NEWEST_OPSET:
            raise SessionError(
                "was made for a newer runtime",
                subject=subject,
                expected=f"ONNX opset {_NEWEST_OPSET} at most",
                got=str(entry.version),
                hint="export it for an older opset",
            )


def _has_weights_beside(outline: Outline) -> bool:
    stored = [*outline.graph.initializer, *(entry.t for node in outline.graph.node for entry in node.attribute)]
    return any(tensor.data_location for tensor in stored)


def _axis_names(outline: Outline) -> dict[str, tuple[str, ...]]:
    """Names of the axes of the file's inputs and outputs; empty for an axis without a name."""
    return {
        value.name: tuple(axis.dim_param for axis in value.type.tensor_type.shape.dim)
        for value in (*outline.graph.input, *outline.graph.output)
    }


def _is_channels_last(port: Any, outline: Outline) -> bool:
    """Whether `tune_for_bfloat16` changed this output: it is bfloat16, and float32 in the file."""
    floats = {value.name for value in outline.graph.output if value.type.tensor_type.elem_type == FLOAT}
    return port.element_type.to_string() == "bf16" and not floats.isdisjoint(port.get_names())


def _planes_spec(port: Any, names: Iterable[str]) -> TensorSpec:
    """The output as it is in the file: planes in float32."""
    batch, height, width, channels = port.get_shape()
    return TensorSpec(_name(port, names), "float32", (batch, channels, height, width))


def _name(port: Any, names: Iterable[str]) -> str:
    known = port.get_names()
    return next((name for name in names if name in known), port.any_name)


def _tensor_spec(port: Any, names: Mapping[str, tuple[str, ...]], subject: str) -> TensorSpec:
    """An input or output of a compiled model. OpenVINO does not keep the names of axes, so they come from the file."""
    name = _name(port, names)
    kind = port.element_type.to_string()
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise SessionError(
            f"{name!r} has a type that no array has", subject=subject, expected=", ".join(_DTYPES.values()), got=kind
        )
    if dtype in {"bfloat16", "float8_e4m3fn"}:
        raise SessionError(
            f"{name!r} has elements that NumPy does not have", subject=subject, got=dtype,
            hint="export it with float32 inputs and outputs",
        )  # fmt: skip
    if port.partial_shape.rank.is_dynamic:
        raise SessionError(f"{name!r} has no fixed number of axes", subject=subject)
    axis_names = names.get(name, ())
    axes: list[int | str] = []
    for place, axis in enumerate(port.partial_shape):
        given = axis_names[place] if place < len(axis_names) else ""
        axes.append(axis.get_length() if axis.is_static else given or f"{name}.{place}")
    return TensorSpec(name, dtype, tuple(axes))


def _load_error(text: str, subject: str) -> SessionError:
    plain = plain_text(text)
    if "Unable to read the model" in text or "Error during import of ONNX model" in text:
        return damaged_onnx(subject, error=SessionError)
    if (beside := re.search(r"externally stored data in file \(([^,)]+)", text)) is not None:
        return SessionError(
            "the weights that belong beside it are missing or too short",
            subject=subject,
            expected=Path(beside[1]).name,
            hint="keep the external data file in the same folder",
        )
    hint = "leave out runtime (--runtime), so that ONNX Runtime runs it"
    if (lacking := re.search(r"No conversion rule found for operations: (.+?)(?= To facilitate|$)", plain)) is not None:
        return SessionError(f"OpenVINO does not have its operators {lacking[1]}", subject=subject, hint=hint)
    return SessionError(f"OpenVINO refuses it: {plain}", subject=subject, hint=hint)


def plain_text(text: str) -> str:
    """OpenVINO's message, without the source locations that each of its layers adds."""
    lines = [re.sub(r"Check '.*' failed at \S+?:\d+:?", "", line).strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith("Exception from ")]
    plain = " ".join(" ".join(kept or lines).split())
    return shortened(plain, 300)
