"""What every runtime looks like to the pipeline: the `Session` protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.tensors import TensorSpec


@runtime_checkable
class Session(Protocol):
    """A loaded model that maps arrays to arrays. It owns its runtime's resources until closed.

    `run` may be called from many threads at once.
    """

    @property
    def name(self) -> str:
        """What runs it, for people: ``onnxruntime 1.32 (CPU)``."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """In the order of the file."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """In the order of the file."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Key and value texts embedded in the file; untrusted."""

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once.

        Args:
            feeds: An array for each input by name, C-contiguous; read only, not kept.

        Returns:
            One array for each output, in the order of `outputs`; the caller owns them.

        Raises:
            InputError: a feed is missing, unknown, or of the wrong shape or dtype.
            SessionError: the runtime failed, or the session is closed.
        """

    def close(self) -> None:
        """Give everything back. Closing twice is no error."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
