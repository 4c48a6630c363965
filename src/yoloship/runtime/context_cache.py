"""Contexts by input shape on one stream, the least recently used let go first: `ContextCache`."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from yoloship.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.cuda.stream import Stream
    from yoloship.runtime.device_session import DeviceContext, DeviceSession

Key = tuple[tuple[str, tuple[int, ...]], ...]


class ContextCache(Closing):
    """A context, with its recorded graph, for each shape met lately. One thread at a time may use it.

    Args:
        session: Makes the contexts; it outlives the cache.
        stream: They are bound to it.
        capacity: How many to keep, 1 or more; each has device memory of its own.
    """

    def __init__(self, session: DeviceSession, stream: Stream, capacity: int = 4) -> None:
        self._session = session
        self._stream = stream
        self._capacity = capacity
        self._contexts: OrderedDict[Key, DeviceContext] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contexts)

    def get(self, input_shapes: Mapping[str, tuple[int, ...]]) -> DeviceContext:
        """The context for these shapes; the cache owns it, and may close it when another is asked for.

        Raises:
            CudaError: see `DeviceSession.context`; so for the others.
            InputError: a shape does not fit.
            SessionError: the runtime refuses, or the session is closed.
        """
        key = tuple(sorted((name, tuple(shape)) for name, shape in input_shapes.items()))
        found = self._contexts.get(key)
        if found is not None:
            self._contexts.move_to_end(key)
            return found
        while len(self._contexts) >= self._capacity:  # before the new one, so that its memory is free by then
            self._contexts.popitem(last=False)[1].close()
        made = self._session.context(input_shapes, self._stream)
        self._contexts[key] = made
        return made

    def close(self) -> None:
        """Close all of them. Closing twice is no error."""
        while self._contexts:
            self._contexts.popitem()[1].close()
