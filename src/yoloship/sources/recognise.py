"""Which source reads a text that names none: by its form for addresses and cameras, by its content for files."""

from __future__ import annotations

import os
from typing import Final

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
    | {".gif", ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpc", ".pgm", ".ppm", ".pbm", ".pnm"}
)
"""Suffixes of images in a folder or a pattern, in lower case. A file that is given by name may have any suffix."""
VIDEO_SUFFIXES: Final = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"}
    | {".ogv", ".y4m", ".mjpg", ".mjpeg", ".h264", ".264", ".h265", ".hevc"}
)
LIST_SUFFIXES: Final = frozenset({".txt", ".list", ".streams"})
LIVE_SCHEMES: Final = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "udp", "tcp", "srt", "rtp"})
IMAGES: Final = "images"
"""The source of every text that no other source is for."""
_ARCHIVES: Final = frozenset({"checkpoint", "zip", "tar", "gzip", "bzip2", "xz"})
"""Kinds of `yoloship.kinds` that may be an archive of images; every zip archive counts as a checkpoint there."""


def recognise(text: str) -> str:
    """The name of the source in `yoloship.sources.source.SOURCES` that reads a text.

    `open_source` does not ask for a file with the suffix of an image, so that it is not opened twice.
    """
    suffix = os.path.splitext(text)[1].lower()
    if text == "-":
        return "stdin"
    scheme, mark, _ = text.partition("://")
    try:
        is_file = os.path.isfile(text)
        if mark and not os.path.lexists(text):
            return _by_scheme(scheme.lower())
        if text.isdecimal() and not os.path.lexists(text):
            return "live"
    except ValueError:  # a name that no system takes
        return IMAGES
    return _by_content(text, suffix) if is_file else "video" if suffix in VIDEO_SUFFIXES else IMAGES


def _by_scheme(scheme: str) -> str:
    if scheme in LIVE_SCHEMES:
        return "live"
    return "url" if scheme in {"http", "https"} else IMAGES


def _by_content(path: str, suffix: str) -> str:
    from yoloship.kinds import HEAD_BYTES, kind_of

    try:
        with open(path, "rb") as file:
            kind = kind_of(file.read(HEAD_BYTES))
    except OSError:
        return IMAGES
    if kind in _ARCHIVES:
        return "archive"
    # A bare stream of H.264 has no signature. A text may be what a server said instead of giving the video.
    if kind == "video" or (suffix in VIDEO_SUFFIXES and kind in {"unknown", "text"}):
        return "video"
    if kind == "text" and suffix == ".csv":
        return "csv"
    return "list" if kind in {"text", "unknown"} and suffix in LIST_SUFFIXES else IMAGES
