"""Several sources of different kinds in one run, one after the other."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions
from yoloship.sources.source import Source, open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from yoloship.sources.reader import VideoDecoding
    from yoloship.sources.source import Frame, Stream


class Chain(Source):
    """Sources that follow each other, the live ones last, because they may have no end.

    Args:
        parts: The sources; closed with the chain.
    """

    help = "Several sources, one after the other."

    def __init__(self, parts: Sequence[Source]) -> None:
        self._parts = sorted(parts, key=lambda part: part.is_live)  # the sort is stable
        self.is_live = any(part.is_live for part in parts)
        self.has_videos = any(part.has_videos for part in parts)
        self._current: Source | None = None

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:
        """Open each text as a source of its own."""
        with ExitStack() as stack:
            parts = [stack.enter_context(open_source([text], options)) for text in texts]
            stack.pop_all()
        return cls(parts)

    @classmethod
    def of(cls, kinds: Sequence[tuple[type[Source], Sequence[str]]], options: SourceOptions) -> Self:
        """Open sources of the given classes; all live texts of one class are opened together."""
        merged: list[tuple[type[Source], list[str]]] = []
        for kind, texts in kinds:
            same = next((rests for other, rests in merged if kind.is_live and other is kind), None)
            if same is None:
                merged.append((kind, list(texts)))
            else:
                same.extend(texts)
        with ExitStack() as stack:
            parts = [stack.enter_context(kind.open(texts, options)) for kind, texts in merged]
            stack.pop_all()
        return cls(parts)

    def __iter__(self) -> Iterator[Frame]:
        return each_once(self._all())

    def _all(self) -> Iterator[Frame]:
        for part, following in zip(self._parts, [*self._parts[1:], None], strict=True):
            self._current = part
            if part.is_live or following is None or not following.is_live:
                yield from part
                continue
            last = None  # one frame ahead: with the last one, it is known that the next comes from a camera
            for frame in part:
                if last is not None:
                    yield last
                last = frame
            self._current = following
            if last is not None:
                yield last
        self._current = None

    def decode_with(self, decoding: VideoDecoding) -> None:
        """Decode the videos of all parts with a device."""
        for part in self._parts:
            part.decode_with(decoding)

    @property
    def live_streams(self) -> int | None:
        """The streams of the live part that has most, as parts are read one by one; None if a part does not know."""
        known = [part.live_streams for part in self._parts if part.is_live]
        return None if None in known else max(filter(None, known), default=0)

    def is_ready(self) -> bool:
        """Whether the part that is read now has its next frame."""
        return self._current is None or self._current.is_ready()

    @property
    def files(self) -> Sequence[Path] | None:
        """The files of all parts; None unless each part knows its own."""
        known = [part.files for part in self._parts]
        paths = (path for files in known if files is not None for path in files)
        return list(dict.fromkeys(paths)) if None not in known else None

    @property
    def inputs(self) -> Sequence[Path]:
        """The files that any part reads, as far as they are known."""
        return [path for part in self._parts for path in part.inputs]

    @property
    def count(self) -> int | None:
        """The frames of all parts, including skipped ones; None unless each part knows its own."""
        if (files := self.files) is not None:
            return len(files)
        counts = [part.count for part in self._parts]
        return sum(count for count in counts if count is not None) if None not in counts else None

    @property
    def notes(self) -> Sequence[str]:
        """The notes of all parts."""
        return [note for part in self._parts for note in part.notes]

    def close(self) -> None:
        """Close all parts, each even if another cannot be closed."""
        with ExitStack() as stack:
            for part in self._parts:
                stack.callback(part.close)


def each_once(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Skip images and videos that appear a second time, from another source of the same run.

    Results and files have the name of a frame, and a run that goes on after a stop knows by it what is done. So no two
    frames may have one. Only hashes of the names of images are kept, and the names of videos.
    """
    images: set[int] = set()
    streams: dict[str, Stream] = {}
    for frame in frames:
        stream = frame.stream
        if stream is None:
            key = hash(str(frame.image) if isinstance(frame.image, os.PathLike) else frame.name)
            if key in images:
                continue
            images.add(key)
        elif not stream.is_live and streams.setdefault(stream.name, stream) is not stream:
            continue
        yield frame
