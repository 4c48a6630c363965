"""Official release weights by name: downloaded once, checked against a pinned SHA-256, and kept in the cache.

Only releases whose checksum is confirmed by at least two independent public sources are downloaded. For the others, the
error says where the file is and how to use it. The sizes and digests of v7.0's ``yolov5n``, ``yolov5s`` and ``yolov5m``
are in manifests of several unrelated public repositories, which agree with each other.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship._util.cache import cache_folder, make_room
from yoloship._util.reading import file_sha256, open_regular, refuse_address
from yoloship._util.text import similar_file
from yoloship._util.writing import replacing
from yoloship.errors import DownloadError, InputError, OutputError, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_logger = logging.getLogger("yoloship.releases")


SOURCE = "https://github.com/ultralytics/yolov5/releases/download/v7.0"
LICENCE = "AGPL-3.0"
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Release:
    """One official checkpoint.

    Attributes:
        name: The name that the user types.
        file_name: The file's name below `SOURCE`.
        size_bytes: The file's size.
        sha256: The file's SHA-256, lower-case hex.
    """

    name: str
    file_name: str
    size_bytes: int
    sha256: str


RELEASES: Mapping[str, Release] = MappingProxyType(
    {
        release.name: release
        for release in (
            Release(
                "yolov5n",
                "yolov5n.pt",
                4_062_133,
                "4f180cf23ba0717ada0badd6c685026d73d48f184d00fc159c2641284b2ac0a3",
            ),
            Release(
                "yolov5s",
                "yolov5s.pt",
                14_808_437,
                "8b3b748c1e592ddd8868022e8732fde20025197328490623cc16c6f24d0782ee",
            ),
            Release(
                "yolov5m",
                "yolov5m.pt",
                42_806_829,
                "61d933360ba5a7733a36764996c800287d973889d875227f5beedd2473a97a56",
            ),
        )
    }
)

UNPINNED = frozenset({"yolov5l", "yolov5x", "yolov5n6", "yolov5s6", "yolov5m6", "yolov5l6", "yolov5x6"})
"""Official names whose checksum could not be confirmed; the error explains how to download them by hand."""


def resolve(
    model: Path | str,
    *,
    cache: Path | None = None,
    source: str = SOURCE,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Turn a model argument into a path; for the name of a release, download its weights.

    Args:
        model: A path, or a name such as ``yolov5s``. If a file of that name exists, it is taken.
        cache: Folder for downloaded weights; None takes ``weights`` in the cache folder.
        source: Address of the files, without a slash at the end.
        say: Called with one line before a download; None writes the line to the log.

    Returns:
        A path: the argument itself, or the verified file in the cache.

    Raises:
        InputError: there is no such file, or the name is an address on the network.
        DownloadError: there is no network, the file has another checksum, or the name has no pinned checksum.
        OutputError: the cache cannot be written.
    """
    name = str(model)
    refuse_address(name, error=InputError)
    path = Path(model)
    if os.path.lexists(name):
        return path
    if name not in RELEASES and name not in UNPINNED:
        raise InputError("no such file", subject=name or "''", hint=_meant(name, path))
    if name in UNPINNED:
        raise DownloadError(
            "is not downloaded, because its checksum is not known",
            subject=name,
            expected=f"one of {', '.join(RELEASES)}",
            hint=f"download it by hand from {SOURCE}/{name}.pt and pass the path",
        )
    release = RELEASES[name]
    path = (cache or cache_folder() / "weights") / f"{release.sha256[:12]}-{release.file_name}"
    if not _is_whole(path, release):
        _fetch(release, path, source, say or _logger.info)
    return path


def _meant(name: str, path: Path) -> str | None:
    """A hint at what the name of a missing file was probably meant to be."""
    if re.fullmatch(r"yolo\w*", name):
        return f"the releases that can be downloaded by name are {', '.join(RELEASES)}"
    if path.suffix == ".pt" and path.stem in RELEASES and path.name == str(path):
        return f"give {path.stem!r}, without .pt, to download the official weights"
    similar = similar_file(path)
    return f"did you mean {similar!r}?" if similar else None


def _is_whole(path: Path, release: Release) -> bool:
    """Whether the cached file has the right checksum; if not, it is downloaded again."""
    try:
        with open_regular(path, error=DownloadError, limit_bytes=release.size_bytes) as file:
            return file_sha256(file) == release.sha256
    except (DownloadError, InputError):
        return False


def _fetch(release: Release, path: Path, source: str, say: Callable[[str], None]) -> None:
    url = f"{source}/{release.file_name}"
    by_hand = f"download it by hand from {SOURCE}/{release.file_name} and pass the path"
    say(
        f"{release.name}: downloading {url} ({release.size_bytes / 1e6:.1f} MB, licence {LICENCE}) "
        f"to {visible(str(path))}"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the cache cannot be created: {error.strerror or error}",
            subject=str(path.parent),
            hint="set YOLOSHIP_CACHE to a folder that you can write to",
        ) from error
    make_room("weights", path.parent, release.size_bytes)
    digest, received = hashlib.sha256(), 0
    with replacing(path) as file:
        for chunk in _chunks(url, by_hand):
            received += len(chunk)
            digest.update(chunk)
            if received > release.size_bytes:  # it is the wrong file, whatever follows
                break
            file.write(chunk)
        if received != release.size_bytes or digest.hexdigest() != release.sha256:
            raise DownloadError(
                "is not the official file; nothing was kept",
                subject=url,
                expected=f"{release.size_bytes} bytes with SHA-256 {release.sha256}",
                got="more bytes" if received > release.size_bytes else f"{received} with {digest.hexdigest()}",
                hint=by_hand,
            )


def _chunks(url: str, by_hand: str) -> Iterator[bytes]:
    """The body of an HTTP response; every network error becomes a DownloadError."""
    import http.client
    import urllib.error
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "yoloship"})  # noqa: S310 - our own constant address
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            while chunk := response.read(CHUNK_BYTES):
                yield chunk
    except urllib.error.HTTPError as error:
        raise DownloadError(f"the server answered {error.code} {error.reason}", subject=url, hint=by_hand) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(f"cannot be downloaded: {reason}", subject=url, hint=by_hand) from error
