"""What every sink is: it takes one image's results after the other, and is closed at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from yoloship.errors import YoloshipError
    from yoloship.results.detections import Detections


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one image.

    Attributes:
        image: Its path as the user gave it.
        found: None if it could not be read or run.
        error: What went wrong with it, or with its annotated image; None if nothing did.
        annotated: Where its annotated image was written; None if there is none.
    """

    image: str
    found: Detections | None
    error: YoloshipError | None = None
    annotated: Path | None = None


class Sink(ABC):
    """Takes entries in the order of the images. A context manager, which closes it however the block ends."""

    @abstractmethod
    def write(self, entry: Entry) -> None:
        """Take what became of the next image.

        Raises:
            OutputError: it cannot be written; what was written before stays.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish: what was written is complete and valid from then on, also if images are missing at its end.

        Raises:
            OutputError: it cannot be finished.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
