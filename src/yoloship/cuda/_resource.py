"""One handle of the driver: counted, and given back exactly once, whichever thread comes first."""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from yoloship.closing import Closing
from yoloship.errors import CudaError

if TYPE_CHECKING:
    from yoloship.cuda.device import Device, ResourceKind


class Resource(Closing):
    """Base of all that is opened on a device. A context manager; closing twice is no error.

    Subclasses open the handle in `_acquire` and give it back in `_release`; both run with the device's context current.
    """

    __slots__ = ("_handle", "_kind", "_lock", "_size_bytes", "device")

    def __init__(self, device: Device, kind: ResourceKind, size_bytes: int = 0) -> None:
        self.device = device
        self._kind: ResourceKind = kind
        self._size_bytes = size_bytes
        self._lock = threading.Lock()
        self._handle: Any = None
        device.hold(kind, size_bytes)
        try:
            with device.current():
                self._handle = self._acquire()
        except BaseException:
            device.drop(kind, size_bytes)
            raise

    @abstractmethod
    def _acquire(self) -> Any:
        """Open the handle."""

    @abstractmethod
    def _release(self, handle: Any) -> None:
        """Give the handle back."""

    @property
    def handle(self) -> Any:
        """The driver's handle, as the bindings have it.

        Raises:
            CudaError: it is closed.
        """
        if self._handle is None:
            raise CudaError(
                "is closed", code=400, name="CUDA_ERROR_INVALID_HANDLE", subject=self._kind.replace("_", " ")
            )
        return self._handle

    @property
    def is_closed(self) -> bool:
        """Whether the handle was given back."""
        return self._handle is None

    def close(self) -> None:
        """Give the handle back. In a forked child it is only forgotten: it belongs to the parent."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            if self.device.in_this_process:
                with self.device.current():
                    self._release(handle)
        finally:
            self.device.drop(self._kind, self._size_bytes)
