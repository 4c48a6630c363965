"""Writes the annotated frames of one video or camera into one MP4 file, with the times and the sound of the source.

While the file grows, it has a temporary name and can be played up to its last two seconds, also if the process is
killed. When it is closed, it gets its own name.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import contextmanager, suppress
from io import FileIO
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.closing import Closing
from yoloship._util.writing import create_part, find_place, name_taken, part_of, publish, write_error
from yoloship.errors import OutputError
from yoloship.sinks.mp4 import Mp4Encoder, load_encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from yoloship.sources import Frame, Stream

    Image = npt.NDArray[np.uint8]

FRAMES_WAITING: Final = 2
"""Drawn frames that wait for the encoder, besides the one that it has."""
_HEAD_BYTES: Final = 1 << 20
"""The first fragment begins before this, if there is one."""


class AnnotatedVideo(Closing):
    """A video file that grows in a thread of its own.

    Args:
        path: Its final name. Its folder must exist.
        stream: The video or camera whose frames are written.
        overwrite: Whether a file of that name may be replaced. The source itself is never replaced.
        protected: Other files that are never replaced.

    Attributes:
        path: Its final name.
        part: Its name while it grows.

    Raises:
        OutputError: the file exists and may not be replaced, or is not one.
        DependencyError: PyAV is not installed, or has no encoder for H.264.
    """

    def __init__(self, path: Path, stream: Stream, *, overwrite: bool, protected: Sequence[Path] = ()) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._av = load_encoder()
        self._place = find_place(path)
        if self._place.is_stream:
            raise OutputError("is not a regular file, which a video needs", subject=str(path))
        if self._place.status is not None:
            if not overwrite:
                raise name_taken(path)
            inputs = protected if stream.path is None else (stream.path, *protected)
            if any(_is_same(one, self._place.status) for one in inputs):
                raise OutputError("would replace an input", subject=str(path), hint="give another folder")
        self.path, self._stream, self._overwrite = path, stream, overwrite
        self.part = part_of(self._place)
        self._file: _WholeWrites | None = None
        self._encoder: Mp4Encoder | None = None
        self._closed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="yoloship-encode")
        self._pending: deque[Future[None]] = deque()

    def write(self, image: Image, frame: Frame) -> None:
        """Append a frame.

        Args:
            image: (height, width, 3) uint8 BGR, drawn on already; it must not change any more.
            frame: The frame that it is of.

        Raises:
            OutputError: a frame before it could not be written; the message says where the others are.
        """
        while len(self._pending) > FRAMES_WAITING:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._append, image, frame))

    def close(self) -> None:
        """Finish the video and give it its name. Without frames, no file is left. It may be called twice.

        Raises:
            OutputError: a frame could not be written, or the video not be finished; the message says where the rest is.
        """
        self._end(Mp4Encoder.finish)

    def abort(self) -> None:
        """Finish the video in the middle: its sound ends with its last frame. Otherwise as `close`."""
        self._end(Mp4Encoder.stop)

    def _end(self, finish: Callable[[Mp4Encoder], None]) -> None:
        if self._closed:
            return
        self._closed = True
        self._pending.append(self._pool.submit(self._publish, finish))
        with self._pool:
            errors = [error for one in self._pending if (error := one.exception()) is not None]
        if errors:
            raise errors[0]

    def _append(self, image: Image, frame: Frame) -> None:
        with self._explained():
            if self._file is None:
                self._file = _WholeWrites(create_part(self.part, self._place.status), "r+b")
                self._encoder = Mp4Encoder(self._file, self._stream, image.shape[:2])
            if self._encoder is not None:
                self._encoder.add(image, frame)

    def _publish(self, finish: Callable[[Mp4Encoder], None]) -> None:
        if self._encoder is None or self._file is None:
            return
        with self._explained():
            finish(self._encoder)
            self._encoder = None
            with self._file:
                os.fsync(self._file.fileno())
            publish(self.part, self.path, self._place, overwrite=self._overwrite)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what fails inside into an `OutputError`, and release the encoder: nothing is written after it."""
        try:
            yield
        except (self._av.FFmpegError, OSError, ValueError, OverflowError, OutputError) as error:
            encoder, self._encoder = self._encoder, None
            if self._file is not None:
                self._file.is_sealed = True
                if encoder is not None:
                    with suppress(self._av.FFmpegError, OSError):
                        encoder.close()
                self._file.close()
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> OutputError:
        said = error
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            said = write_error(error, self.path)
        elif not isinstance(error, OutputError):
            said = OutputError(f"cannot be encoded: {error}", subject=str(self.path))
        assert isinstance(said, OutputError)
        with suppress(OSError):
            with self.part.open("rb") as file:
                can_be_played = b"moof" in file.read(_HEAD_BYTES)
            if can_be_played:
                said.hint = f"the frames before it are in {self.part}"
            else:
                self.part.unlink()
        return said


def _is_same(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except OSError:  # it is gone, so nothing can replace it
        return False


class _WholeWrites(FileIO):
    """A file that is written through at once, and whole: FFmpeg takes what it gave for written.

    Attributes:
        is_sealed: Whether nothing more is written, so that closing the container does not spoil the fragments.
    """

    is_sealed = False

    def write(self, data: Any) -> int:
        """Write all bytes."""
        view = memoryview(data)
        done = len(view) if self.is_sealed else 0
        while done < len(view):
            done += super().write(view[done:]) or 0
        return done
