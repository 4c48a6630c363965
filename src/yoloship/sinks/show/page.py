"""Shows a run in the browser: `ShowPage` takes its entries, draws the newest of each stream, and serves them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.closing import Closing
from yoloship.errors import YoloshipError
from yoloship.sinks.annotated import DEFAULT_STYLE, DrawStyle, drawn
from yoloship.sinks.show.server import LOOPBACK, PageServer, new_token
from yoloship.sinks.show.shown_stream import ShownStream

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.sinks.sink import Entry

MAX_STREAMS: Final = 64
IMAGES: Final = "images"
"""The name of what is not a frame of a stream."""
WIDTH_PX: Final = 1280
"""Wider pictures are made smaller, because they only have to be looked at."""
QUALITY: Final = 80
_STATE_S: Final = 1.0
_GOODBYE_S: Final = 1.0


class ShowPage(Closing):
    """A page that shows the annotated images of a run while it runs.

    Nothing is drawn while nobody looks. Drawing takes at most half of one core, in a thread of its own, and a viewer
    gets the newest picture when it has taken the last one. So viewers do not slow the run down.

    Args:
        host: The address to listen at. On an address of the network, everybody who knows the page's address sees it.
        port: The port; 0 takes a free one.
        style: How the images look.

    Raises:
        OutputError: the address cannot be listened on.
    """

    def __init__(self, host: str = LOOPBACK, port: int = 0, style: DrawStyle = DEFAULT_STYLE) -> None:
        self._style = style
        self._changed = threading.Condition()
        self._streams: dict[str, ShownStream] = {}
        self._viewers = 0
        self._has_ended = self._is_painted = False  # the run; and the last pictures after it
        self._server = PageServer(self, host, port, new_token())
        self._painter = threading.Thread(target=self._paint, name="yoloship-show-painter", daemon=True)
        self._painter.start()

    @property
    def address(self) -> str:
        """The page's address, with a token that nobody can guess."""
        return self._server.address

    def write(self, entry: Entry) -> None:
        """Take the next entry; it only notes it, and never waits for a viewer."""
        stream = None if entry.frame is None else entry.frame.stream
        name = IMAGES if stream is None else stream.name
        with self._changed:
            if name not in self._streams and len(self._streams) >= MAX_STREAMS:
                return
            shown = self._streams.setdefault(name, ShownStream(name))
            shown.take(entry, time.monotonic())
            if self._viewers:
                self._changed.notify_all()

    def close(self) -> None:
        """Tell the viewers that the run has ended, and stop. It may be called twice."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
        self._painter.join()
        until_s = time.monotonic() + _GOODBYE_S
        with self._changed:
            while self._viewers and (left_s := until_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
        self._server.close()

    # What the server's threads call.

    def enter(self) -> None:
        """A viewer begins to look."""
        with self._changed:
            self._viewers += 1
            self._changed.notify_all()

    def leave(self) -> None:
        """A viewer is gone."""
        with self._changed:
            self._viewers -= 1
            self._changed.notify_all()

    def names(self) -> list[str]:
        """The names of the streams, in the order in which they came."""
        with self._changed:
            return [shown.name for shown in self._streams.values()]

    def news(self, seen: dict[int, int], state_s: float) -> tuple[dict[int, bytes], dict[str, Any] | None]:
        """Wait for what a viewer has not seen yet.

        Args:
            seen: Place of a stream → number of the last picture that the viewer has; updated.
            state_s: When the viewer got the state last.

        Returns:
            The new pictures by the place of their stream, and the state if it is time for it or the run has ended.
        """
        with self._changed:
            while True:
                pictures = {
                    place: shown.picture
                    for place, shown in enumerate(self._streams.values())
                    if shown.picture is not None and shown.number > seen.get(place, 0)
                }
                now_s = time.monotonic()
                is_due = now_s - state_s >= _STATE_S
                is_over = self._is_painted
                if pictures or is_due or is_over:
                    break
                self._changed.wait(_STATE_S)
            for place, shown in enumerate(self._streams.values()):
                seen[place] = shown.number
            if not (is_due or is_over):
                return pictures, None
            streams = [shown.state(now_s) for shown in self._streams.values()]
            return pictures, {"streams": streams, "ended": is_over}

    def _paint(self) -> None:
        """Make pictures of the newest entries, in turn, while somebody looks; at the end, of the last ones."""
        turn = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_ended or (self._viewers and self._waiting()))
                waiting = self._waiting() if self._viewers else []
                if self._has_ended and not waiting:
                    self._is_painted = True
                    self._changed.notify_all()
                    return
                shown = min(waiting, key=lambda one: (waiting.index(one) - turn) % len(waiting))
                entry, shown.entry = shown.entry, None
            turn += 1
            began_s = time.monotonic()
            picture = None if entry is None else self._picture(entry)
            with self._changed:
                if picture is not None:
                    shown.picture, shown.number = picture, shown.number + 1
                    self._changed.notify_all()
                if not self._has_ended:
                    self._changed.wait_for(lambda: self._has_ended, time.monotonic() - began_s)

    def _waiting(self) -> list[ShownStream]:
        return [shown for shown in self._streams.values() if shown.entry is not None]

    def _picture(self, entry: Entry) -> bytes | None:
        """A JPEG file of an entry; None if it cannot be drawn, which is not worth ending a run for."""
        import cv2

        try:
            image = drawn(entry, self._style)
            assert image is not None  # other entries do not come here
            small: npt.NDArray[Any] = image
            height, width = image.shape[:2]
            if width > WIDTH_PX:
                size = (WIDTH_PX, max(1, round(height * WIDTH_PX / width)))
                small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            is_written, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        except (YoloshipError, cv2.error):
            return None
        return data.tobytes() if is_written else None
