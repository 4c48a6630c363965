"""Builds a TensorRT plan from an ONNX file, reports progress, and stops when asked.

TensorRT silently accepts files that are not models, options without effect and impossible shapes. Each of these is
refused here, with a message that says what is wrong and why.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yoloship._util.reading import file_sha256, open_regular
from yoloship.cuda.device import find_gpu
from yoloship.engine.config import BuildConfig, InputProfile, resolve_profiles
from yoloship.engine.flavours import Flavour, FlavourName, Messages, listening, open_flavour
from yoloship.engine.network import (
    apply_options,
    check_features,
    check_precision,
    check_targets,
    network_dtypes,
    parse_network,
    save_timing_cache,
    tensor_specs,
)
from yoloship.engine.objects import construct, hint_for, made, reason_of
from yoloship.engine.rtx_precisions import update_hint
from yoloship.errors import EngineError, visible
from yoloship.kinds import wrong_kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from yoloship._util.text import OnProgress
    from yoloship.model import ModelInfo, TensorSpec

_logger = logging.getLogger("yoloship.engine")


_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass(slots=True)
class _Phase:
    name: str
    parent: str | None
    total: int
    done: int = 0


class Tracker:
    """Keeps the tree of phases, reports how much of the build is done, and keeps the reason to stop a build.

    The reported share never falls. It is reported on TensorRT's thread, for every step.

    TensorRT swallows exceptions of a callback, also KeyboardInterrupt. So a callback raises nothing. The exception is
    kept here, and raised after the build has returned.
    """

    def __init__(self, on_progress: OnProgress | None, title: str = "TensorRT") -> None:
        self._on_progress = on_progress
        self._title = title
        self._phases: dict[str, _Phase] = {}
        self._started_s = time.monotonic()
        self._fraction = 0.0
        self._stopped_by: BaseException | None = None
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the build began."""
        return time.monotonic() - self._started_s

    def stop(self, reason: BaseException) -> None:
        """Let the build end at its next step. If this is called more than once, the first reason counts."""
        if self._stopped_by is None:
            self._stopped_by = reason

    def raise_if_stopped(self) -> None:
        """Raise the exception that stopped the build, if there is one. It is forgotten here.

        Its traceback leads to TensorRT's objects, and they lead to the monitor, and so to this tracker, in a way that
        Python's garbage collector does not see. Kept, it would keep the builder alive for ever.
        """
        stopped_by, self._stopped_by = self._stopped_by, None
        if stopped_by is not None:
            try:
                raise stopped_by
            finally:
                del stopped_by

    def start(self, phase: str, parent: str | None, total: int) -> None:
        """Note that a phase begins."""
        with self._lock:
            self._phases[phase] = _Phase(phase, parent, max(total, 1))
        self._report(phase)

    def step(self, phase: str, step: int) -> bool:
        """Note that a step of a phase is finished. Returns whether the build should go on."""
        with self._lock:
            if (entry := self._phases.get(phase)) is not None:
                entry.done = min(max(entry.done, step + 1), entry.total)
        self._report(phase)
        return self._stopped_by is None

    def end(self, phase: str) -> None:
        """Note that a phase is over."""
        with self._lock:
            if (entry := self._phases.get(phase)) is not None:
                entry.done = entry.total
        self._report(phase)
        with self._lock:
            self._phases.pop(phase, None)

    def _report(self, phase: str) -> None:
        if self._on_progress is None or self._stopped_by is not None:
            return
        with self._lock:
            entry = self._phases.get(phase)
            if entry is None:
                return
            line = self._line_to_root(entry)
            fraction = 0.0
            for place in line:
                fraction = (min(place.done, place.total) + (fraction if place.done < place.total else 0)) / place.total
            self._fraction = max(self._fraction, min(fraction, 1.0))
            share = self._fraction
        try:
            self._on_progress(f"{self._title}: {phase}", share, 1)
        except BaseException as error:  # whatever it is, it is raised again after the build
            self.stop(error)

    def _line_to_root(self, phase: _Phase) -> list[_Phase]:
        line = [phase]
        while (parent := line[-1].parent) is not None and len(line) < 20:
            if (above := self._phases.get(parent)) is None:
                break
            line.append(above)
        return line


def monitor(flavour: Flavour, tracker: Tracker) -> Any:
    """A TensorRT progress monitor that reports to a tracker."""
    module = flavour.module

    class Monitor(module.IProgressMonitor):  # type: ignore[misc,name-defined]  # the base exists only once a flavour is imported
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            tracker.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return tracker.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            tracker.end(phase_name)

    return Monitor()


@contextmanager
def interruptible(tracker: Tracker) -> Iterator[None]:
    """Turn Ctrl-C and a termination signal into a request to stop, as long as the build runs.

    TensorRT would swallow the exception of a signal handler, and the process would go on as if there had been no
    signal. So the handlers are called as before, and their exception ends the build. Only the main thread gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}

    def stop(number: int, frame: FrameType | None) -> None:
        try:
            before[signal.Signals(number)](number, frame)
        except BaseException as error:  # whatever it is, it is raised again after the build
            tracker.stop(error)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A plan, and everything that is known about it after the build.

    Attributes:
        plan: The serialized engine. trtexec, Triton and any other TensorRT program can load it.
        flavour: The flavour of TensorRT that built it.
        version: The version of that flavour.
        compute_capability: The compute capability of the GPU on which it was built, such as ``sm89``; None without a
            GPU.
        inputs: The network's inputs, with names on dynamic axes.
        outputs: The network's outputs, with names on dynamic axes.
        profiles: Allowed shapes of dynamic inputs.
        dtypes: Element types of all tensors in the compiled network.
        onnx_sha256: SHA-256 of the ONNX file's bytes, lower-case hex. Data beside the file does not count.
        config: The configuration of the build.
        warnings: Warnings of TensorRT.
        elapsed_s: Seconds for parsing and building.
    """

    plan: bytes
    flavour: FlavourName
    version: str
    compute_capability: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[InputProfile, ...]
    dtypes: frozenset[str]
    onnx_sha256: str
    config: BuildConfig
    warnings: tuple[str, ...]
    elapsed_s: float


def build_engine(
    onnx: Path,
    config: BuildConfig | None = None,
    *,
    flavour: Flavour | None = None,
    info: ModelInfo | None = None,
    on_progress: OnProgress | None = None,
    onnx_sha256: str | None = None,
) -> BuiltEngine:
    """Build a plan.

    Args:
        onnx: The graph. Weights outside it are looked for beside it. TensorRT's parser can end the process on damaged
            graphs, so check untrusted files first, as `yoloship.models.building.build` does.
        config: The configuration of the build; None takes TensorRT's defaults.
        flavour: The TensorRT to use; None takes the first one that is installed and can build.
        info: What is known about the model. Sizes are checked against its strides, and the graph's element types
            against the precision that it claims.
        on_progress: Called for each step, on TensorRT's thread. An exception that it raises cancels the build and is
            raised again from here. Ctrl-C does the same.
        onnx_sha256: SHA-256 of the file when it was checked; None takes the file as it is now.

    Raises:
        DependencyError: no TensorRT is installed.
        EngineError: TensorRT cannot take the file, an option is missing or ignored, or the build failed.
    """
    config = config or BuildConfig()
    flavour = flavour or open_flavour()
    device = find_gpu()
    check_features(flavour, config, has_device=device is not None)
    onnx_sha256 = onnx_sha256 or _digest(onnx)
    tracker = Tracker(on_progress, flavour.title)
    with listening(flavour) as (logger, messages):
        builder = construct(flavour, "Builder", messages, logger)
        network = parse_network(flavour, builder, logger, onnx, messages)
        if _digest(onnx) != onnx_sha256:  # TensorRT reads the file itself, and must have read what was checked
            raise EngineError(
                "was changed while it was being read", subject=str(onnx), hint="build it again once it is complete"
            )
        inputs, outputs = tensor_specs(network)
        dtypes = network_dtypes(network)
        if info is not None:
            check_precision(info.precision, dtypes, subject=str(onnx))
        check_targets(config.targets, dtypes, subject=str(onnx))
        profiles = resolve_profiles(inputs, config, info)
        settings = made(builder.create_builder_config(), "build configuration", flavour, messages)
        apply_options(flavour, settings, config, messages)
        _add_profiles(builder, settings, profiles, messages)
        if flavour.lacks("progress") is None:
            settings.progress_monitor = monitor(flavour, tracker)
        with _advised(update_hint(flavour, dtypes)):
            plan = _run(builder, network, settings, tracker, subject=str(onnx), messages=messages)
        _logger.info("built an engine of %s by %s in %.1f s", visible(onnx.name), flavour.title, tracker.elapsed_s)
        save_timing_cache(settings, config)
        return BuiltEngine(
            plan=plan,
            flavour=flavour.name,
            version=flavour.version,
            compute_capability=device.sm if device else None,
            inputs=inputs,
            outputs=outputs,
            profiles=profiles,
            dtypes=dtypes,
            onnx_sha256=onnx_sha256,
            config=config,
            warnings=messages.warnings,
            elapsed_s=tracker.elapsed_s,
        )


def _digest(onnx: Path) -> str:
    """The file's SHA-256. Refuses what is not a file or is empty, because TensorRT's parser accepts it."""
    with open_regular(onnx, error=EngineError, wanted="an ONNX model") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise wrong_kind("empty", "onnx", subject=str(onnx), error=EngineError)
        return file_sha256(file)


def _add_profiles(builder: Any, settings: Any, profiles: tuple[InputProfile, ...], messages: Messages) -> None:
    if not profiles:
        return
    profile = builder.create_optimization_profile()
    for entry in profiles if profile is not None else ():
        profile.set_shape(entry.name, entry.minimum, entry.optimum, entry.maximum)
    if not profile or settings.add_optimization_profile(profile) < 0:
        raise EngineError(
            "TensorRT refuses the optimization profile",
            subject=", ".join(entry.name for entry in profiles),
            got=messages.first_error,
        )


@contextmanager
def _advised(hint: str | None) -> Iterator[None]:
    """Give advice with an error that has none."""
    try:
        yield
    except EngineError as problem:
        problem.hint = problem.hint or hint
        raise


def _run(builder: Any, network: Any, settings: Any, tracker: Tracker, *, subject: str, messages: Messages) -> bytes:
    with interruptible(tracker):
        memory = builder.build_serialized_network(network, settings)
    tracker.raise_if_stopped()
    if memory is None:
        reason = reason_of(messages)
        hint = (
            "give it a larger workspace (--workspace), or leave that to TensorRT"
            if "workspace limit" in reason
            else None
        )
        raise EngineError(f"TensorRT could not build it: {reason}", subject=subject, hint=hint or hint_for(reason))
    return bytes(memory)
