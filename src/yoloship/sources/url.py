"""Images at addresses on the network, read into memory one by one: `WebImages`."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import Future
from itertools import islice
from threading import Thread
from typing import TYPE_CHECKING, Final

from yoloship._util.addresses import parse_address, redacted
from yoloship.errors import InputError, YoloshipError
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions
from yoloship.sources.source import Frame, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

    from yoloship._util.addresses import AddressRules

AHEAD: Final = 4
"""Images that are fetched at the same time, and wait in memory."""
_STREAMS: Final = ("video/", "audio/", "multipart/", "application/vnd.apple.mpegurl", "application/x-mpegurl")
_MAYBE_IMAGES: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})


class WebImages(Source):
    """The images at some addresses, in their order, each once.

    Args:
        urls: The addresses.
        rules: Which of them may be read.
    """

    help = "Images at https addresses."

    def __init__(self, urls: Sequence[str], rules: AddressRules) -> None:
        self._urls, self._rules = urls, rules

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:
        """Check the addresses; they are read later.

        Raises:
            InputError: one of them may not be read.
        """
        for text in texts:
            parse_address(text, options.addresses)
        return cls(list(dict.fromkeys(texts)), options.addresses)

    @property
    def count(self) -> int:
        """How many addresses there are."""
        return len(self._urls)

    def __iter__(self) -> Iterator[Frame]:
        urls, names = iter(self._urls), iter(_names(self._urls))
        waiting = deque(self._begin(url) for url in islice(urls, AHEAD))
        index = 0
        while waiting:
            coming = waiting.popleft()
            name = next(names)
            try:
                frame = Frame(index, name, coming.result())
            except YoloshipError as error:
                frame = Frame(index, name, None, error=error)
            del coming  # its bytes are in the frame, which the consumer may drop
            waiting.extend(self._begin(following) for following in islice(urls, 1))
            yield frame
            index += 1

    def _begin(self, url: str) -> Future[bytes]:
        """Fetch in a thread of its own. It ends with the program, which need not wait for a slow server."""
        coming: Future[bytes] = Future()

        def work() -> None:
            from yoloship._util.fetching import fetch

            try:
                coming.set_result(fetch(url, self._rules, _check_type).data)
            except BaseException as error:  # it is raised again where the result is asked for
                coming.set_exception(error)

        Thread(target=work, name="yoloship-fetch", daemon=True).start()
        return coming


def _names(urls: Sequence[str]) -> list[str]:
    """What each address is called: without its secrets, and with a number if others look alike then."""
    counts: Counter[str] = Counter()
    names = []
    for shown in map(redacted, urls):
        counts[shown] += 1
        names.append(shown if counts[shown] == 1 else f"{shown} ({counts[shown]})")
    return names


def _check_type(content_type: str, shown: str) -> None:
    """Refuse what is not an image before it is read."""
    if content_type.startswith("image/") or content_type in _MAYBE_IMAGES:
        return
    hint = f"give it as live:{shown}" if content_type.startswith(_STREAMS) else "give the address of the image itself"
    raise InputError(f"is of the type {content_type!r}, not an image", subject=shown, hint=hint)
