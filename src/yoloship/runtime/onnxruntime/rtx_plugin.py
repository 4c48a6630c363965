"""TensorRT-RTX inside ONNX Runtime: NVIDIA's plugin ``onnxruntime-ep-nv-tensorrt-rtx``, where it is installed.

The plugin is a library that is registered with ONNX Runtime (1.24 or later) and then offers devices. It takes an ONNX
file, builds an engine of it in memory, and serves GPUs of compute capability 8.6, 8.9 and 12.0 or later (its header,
version 0.5.0). No machine of the tests had one. Registration was tried without a GPU, and everything after it was
tested with a stand-in for ONNX Runtime: whether the plugin takes our buffers and streams is not known.

Importing the plugin's package changes LD_LIBRARY_PATH and makes links beside its libraries. So it is imported only when
a model is opened with it.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import DependencyError, InputError
from yoloship.runtime.onnxruntime.cpu import failures, import_onnxruntime, plain_text
from yoloship.runtime.onnxruntime.cuda import CudaProviderOptions, OnnxRuntimeCudaSession, refusals, session_options
from yoloship.runtime.session import DeviceSession, RunOptions, Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.cuda.device import Device

PACKAGE: Final = "onnxruntime_ep_nv_tensorrt_rtx"
_INSTALL: Final = "pip install 'yoloship[rtx_plugin]'"


class RtxPlugin(Runtime):
    """ONNX Runtime with NVIDIA's plugin for TensorRT-RTX."""

    title = "TensorRT-RTX in ONNX Runtime"
    packages = (PACKAGE,)
    install = _INSTALL
    opens = frozenset({"onnx"})
    devices = frozenset({"cuda"})
    precisions = frozenset()

    @classmethod
    def open_on(cls, device: Device, model: Path | bytes, options: RunOptions) -> DeviceSession:
        """Load a model on an RTX GPU. `RtxPluginSession.open` says what else it raises.

        Raises:
            InputError: the plugin does not serve this GPU.
        """
        major, minor = device.compute_capability
        if (major, minor) not in {(8, 6), (8, 9)} and major < 12:
            raise InputError(
                "is not a GPU that TensorRT-RTX supports", subject=str(device), expected="8.6, 8.9, or 12.0 and later",
                got=f"{device.name} ({major}.{minor})", hint="use the runtime onnxruntime, or build an engine",
            )  # fmt: skip
        return RtxPluginSession.open(model, device, CudaProviderOptions(recorded=False), subject=options.model_name)


class RtxPluginSession(OnnxRuntimeCudaSession):
    """A `DeviceSession` that runs ONNX models through the plugin; make one with `open`."""

    @classmethod
    def open_runtime(
        cls, source: str | bytes, subject: str, device: Device, chosen: dict[str, str], *, optimize: bool = True
    ) -> Any:
        """Open a session of ONNX Runtime with the plugin; it is an error if it would run on the CPU instead.

        Args:
            source: A file's name, or the bytes of a model.
            subject: The model, for messages.
            device: Where it runs.
            chosen: Options of the CUDA provider; only the stream among them has an effect here.
            optimize: Whether the graph is optimised.

        Raises:
            CudaError: out of device memory, or the device failed.
            DependencyError: the plugin cannot be registered, or shows no device.
            SessionError: ONNX Runtime refuses the model.
        """
        onnxruntime = import_onnxruntime()
        name = registered()
        options = session_options(onnxruntime, optimize=optimize)
        of_plugin = {}
        if "user_compute_stream" in chosen:
            of_plugin = {"has_user_compute_stream": "1", "user_compute_stream": chosen["user_compute_stream"]}
        options.add_provider_for_devices([_device(onnxruntime, name, device)], of_plugin)
        with refusals(device, subject):
            session = onnxruntime.InferenceSession(source, options)
        if name not in session.get_providers():
            raise DependencyError(
                "would run the model on the CPU instead", subject=name, got=", ".join(session.get_providers())
            )
        return session

    @property
    def name(self) -> str:
        """The runtime and its device, as text: ``onnxruntime 1.32.0 with TensorRT-RTX (cuda:0)``."""
        return f"onnxruntime {import_onnxruntime().__version__} with TensorRT-RTX ({self._device})"


@functools.cache  # ONNX Runtime takes a name once for each process
def registered() -> str:
    """Register the plugin with ONNX Runtime.

    Returns:
        The name of its provider.

    Raises:
        DependencyError: it is not installed, ONNX Runtime is too old for plugins, or its libraries do not load.
    """
    onnxruntime = import_onnxruntime()
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise DependencyError(
            "has no plugins", subject=f"onnxruntime {onnxruntime.__version__}", expected="1.24 or later",
            hint="pip install --upgrade onnxruntime",
        )  # fmt: skip
    try:
        plugin = import_module(PACKAGE)
    except ModuleNotFoundError as error:
        raise DependencyError("is not installed", subject=PACKAGE, hint=_INSTALL) from error
    name = str(plugin.get_ep_name())
    known: tuple[type[Exception], ...] = (*failures(), RuntimeError, OSError)
    try:
        onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
    except known as error:
        raise DependencyError(
            "cannot be registered with ONNX Runtime", subject=f"{PACKAGE} {plugin.__version__}",
            got=plain_text(str(error))[:300],
            hint="it needs NVIDIA's driver, and libcudart of its own CUDA version on LD_LIBRARY_PATH",
        ) from error  # fmt: skip
    return name


def _device(onnxruntime: Any, name: str, device: Device) -> Any:
    """The plugin's device; it does not say which of CUDA's numbers a device has."""
    found = [one for one in onnxruntime.get_ep_devices() if one.ep_name == name]
    if not found:
        raise DependencyError("shows no device", subject=name, expected=device.name, hint="update NVIDIA's driver")
    if len(found) > 1:
        raise InputError(
            f"shows {len(found)} GPUs and does not say which is {device}", subject=name,
            hint="set CUDA_VISIBLE_DEVICES to one of them",
        )  # fmt: skip
    return found[0]
