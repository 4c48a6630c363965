"""Names for the files that a run writes for its images: `RunNames` for images, `class_folders` for classes.

Names of files, videos, cameras and classes are untrusted. What is made of them here is one name without a folder, which
every usual file system takes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from yoloship._util.writing import free_name, name_key, shortened
from yoloship.errors import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.sources import Frame

MAX_STEM_BYTES: Final = 200
"""Leaves room for numbers and suffixes in the 255 bytes of a name."""
_FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*]')
_DEVICES: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
"""Names that Windows gives to devices, with any suffix."""
_NUMBERED: Final = re.compile(r"(.+)_[0-9]+")


def safe_name(text: str, empty: str) -> str:
    r"""A text as the name of a file or folder: other characters become ``_``, and a name of dots is not left.

    Args:
        text: Anything.
        empty: The name of a text from which nothing is left.
    """
    name = _FORBIDDEN.sub("_", visible(text)).strip().rstrip(". ").lstrip(".")
    name = shortened(name, "", MAX_STEM_BYTES).rstrip(". ")
    return f"_{name}" if _DEVICES.fullmatch(name) else name or empty


def stem_of(name: str) -> str:
    """The stem for the files of an image: ``b`` for ``in/b.jpg``, ``a.zip/b.jpg`` and ``https://host/b.jpg?size=9``."""
    if "://" in name:
        try:
            parts = urlsplit(name)
        except ValueError:
            return safe_name(name, "image")
        if not (name := parts.path.strip("/")):
            return safe_name(parts.netloc, "image")  # the numbers of an address have dots, but no suffix
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    stem, dot, _ = last.rpartition(".")
    return safe_name(stem if dot and stem.strip(".") else last, "image")


class RunNames:
    """Gives each image of a run the stem of its files. All differ, also on file systems that ignore case.

    Give it the images in the order of the run, also those that are passed over because an earlier run did them: then
    each image has the same stem in every run.
    """

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._streams: dict[str, str] = {}
        self._prefixes: set[str] = set()
        self._numbered: set[str] = set()

    def stem(self, name: str, frame: Frame | None = None) -> str:
        """The stem of the next image: ``photo``, ``photo-2`` if that is taken, ``clip_17`` for a frame of a video.

        Args:
            name: The name of the image.
            frame: Its frame; None for an image that came without one.
        """
        if frame is not None and frame.stream is not None:
            return f"{self._prefix(frame.stream.name)}_{frame.index}"
        stem = stem_of(name)
        while True:
            free = free_name(stem, "", self._taken)
            match = _NUMBERED.fullmatch(name_key(free))
            if match is None:
                return free
            if match[1] not in self._prefixes:  # otherwise it may be that of a frame
                self._numbered.add(match[1])
                return free

    def continue_stream(self, stream: str, known: str) -> None:
        """Let a video or a camera have the stem of one that came before under another name.

        Args:
            stream: Its name now.
            known: The name that it had; nothing changes if there was none of that name.
        """
        if known in self._streams:
            self._streams[stream] = self._streams[known]

    def _prefix(self, stream: str) -> str:
        """The stem of all frames of a video or a camera."""
        if stream not in self._streams:
            stem = free_name(stem_of(stream), "", self._taken)
            while name_key(stem) in self._numbered:
                stem = free_name(stem_of(stream), "", self._taken)
            self._streams[stream] = stem
            self._prefixes.add(name_key(stem))
        return self._streams[stream]


def class_folders(class_names: Sequence[str]) -> tuple[str, ...]:
    """The name of a folder for each class, by class id. All differ, also on file systems that ignore case."""
    taken: dict[str, int] = {}
    return tuple(free_name(safe_name(name, f"class {number}"), "", taken) for number, name in enumerate(class_names))
