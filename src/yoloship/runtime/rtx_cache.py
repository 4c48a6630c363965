"""Keeps the kernels that TensorRT-RTX compiles at load in the user's cache, so that the next process starts faster.

An engine of TensorRT-RTX is finished on the machine that runs it: kernels are compiled when a context is made, and for
new shapes. A runtime cache (IRuntimeCache, in TensorRT-RTX 1.4 to 1.7) takes them out of one process and into the next.
Other flavours have none. It is code, so it is kept like engines: only files that nobody else can write to are read.

No machine of the tests could run TensorRT-RTX. That the names and parameters are those of the bindings is tested for
each version; what the cache contains and saves was not seen.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.cache import keep, recall

if TYPE_CHECKING:
    from yoloship.cuda.device import GpuInfo
    from yoloship.engine.file import EngineFile
    from yoloship.engine.flavours import Flavour

_MAX_BYTES: Final = 1 << 30
_SUFFIX: Final = ".blob"
_logger = logging.getLogger("yoloship.runtime")


def runtime_cache(flavour: Flavour, file: EngineFile, gpu: GpuInfo) -> RuntimeCache | None:
    """The runtime cache of an engine on a GPU; None if the flavour has none.

    Args:
        flavour: The TensorRT that runs the engine.
        file: The engine.
        gpu: The GPU that it runs on.
    """
    if not hasattr(flavour.module, "IRuntimeCache"):
        return None
    digest = file.record.plan_sha256 if file.record is not None else hashlib.sha256(file.plan).hexdigest()
    made_from = ("TensorRT-RTX runtime cache", flavour.version, digest, gpu.name, gpu.sm, gpu.cuda_version)
    return RuntimeCache(made_from)


class RuntimeCache:
    """Kernels of one engine on one GPU. Only one thread at a time may use it.

    Args:
        made_from: All that decides what the kernels are.
    """

    def __init__(self, made_from: tuple[object, ...]) -> None:
        self._made_from = made_from
        self._cache: Any = None
        self._loaded = b""

    def attach(self, config: Any) -> None:
        """Let the contexts of this configuration take kernels from the cache, and add to it.

        Args:
            config: An IRuntimeConfig of the engine.
        """
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._load()
        if self._cache is not None and not config.set_runtime_cache(self._cache):
            _logger.debug("TensorRT-RTX does not take its runtime cache")

    def _load(self) -> None:
        data = recall("compiled", self._made_from, _SUFFIX, _MAX_BYTES)
        if self._cache is None or data is None:
            return
        if self._cache.deserialize(data):
            self._loaded = data
        else:
            _logger.debug("TensorRT-RTX does not take the runtime cache that was kept, and compiles again")
            self._cache.reset()

    def save(self) -> None:
        """Keep what the cache contains now, if that has changed."""
        memory = None if self._cache is None else self._cache.serialize()
        data = b"" if memory is None else bytes(memory)
        if data and data != self._loaded and len(data) <= _MAX_BYTES:
            keep("compiled", self._made_from, _SUFFIX, data)
            self._loaded = data
