"""Watching an interpreter for anything that a checkpoint could have made it do.

Python raises audit events for imports, compiled and executed code, opened files, processes, sockets and changes of the
file system. A hook cannot be taken away again, so this belongs into a process of its own: `python -m
helpers.watched FOLDER` reads every file below FOLDER and prints one JSON line for each.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

WATCHED = (
    "import", "exec", "compile", "marshal.", "pickle.", "os.", "subprocess.", "socket.", "ctypes.", "shutil.", "pty.",
    "webbrowser.", "code.", "builtins.", "sys.settrace", "sys.setprofile", "cpython.run", "fcntl.", "signal.",
    "urllib.", "http.", "ftplib.", "smtplib.", "sqlite3.", "tempfile.", "glob.", "winreg.", "msvcrt.",
)  # fmt: skip
"""Beginnings of the names of events that reading a checkpoint has no reason to raise."""
HARMLESS = frozenset({"os.fspath", "builtins.id", "os.listdir", "os.scandir"})


CODECS = ("ascii", "latin-1", "utf-8", "utf-8-sig", "utf-16", "utf-32-le", "utf-32-be", "raw-unicode-escape", "cp437")
"""Text codecs of the standard library that the reader uses; Python imports each when it is first asked for."""


class Watch:
    """Collects events while it is entered; everything that was to be imported must have been before."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._thread: int | None = None
        sys.addaudithook(self._heard)

    def __enter__(self) -> Watch:
        self.events = []
        self._thread = threading.get_ident()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread = None

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._thread != threading.get_ident():
            return
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & writes):
                self.events.append(f"open for writing {arguments[0]!r}")
        elif event.startswith(WATCHED) and event not in HARMLESS:
            self.events.append(f"{event} {arguments!r}"[:200])


def examine(data: bytes | Path) -> str:
    """Read a checkpoint, try to export it, and say what came of it; any other error than ours is let through."""
    from yoloship.checkpoint import read_checkpoint
    from yoloship.errors import CheckpointError, GraphError
    from yoloship.graph import GraphConfig, build_graph

    try:
        checkpoint = read_checkpoint(data)
    except CheckpointError as error:
        return str(error)
    try:
        build_graph(checkpoint, GraphConfig((64, 64)))
    except (CheckpointError, GraphError) as error:
        return f"read; {error}"
    return "exported"


def main(folder: Path) -> None:
    from helpers import forge

    for warm in (forge.checkpoint(), forge.end(forge.call("posix.system", forge.text("id")))):
        for container in (forge.zip_bytes, forge.legacy_bytes):
            examine(container(warm))  # imports inside functions happen now
    for codec in CODECS:
        "".encode(codec)
    watch = Watch()
    for path in sorted(folder.rglob("*.pt")):
        with watch:
            said = examine(path)
        sys.stdout.write(json.dumps({"file": path.name, "said": said, "events": watch.events}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
