"""Opening a graph in Netron, where that is installed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from yoloship.cli.output import print_err
from yoloship.errors import DependencyError

if TYPE_CHECKING:
    from pathlib import Path


def require_netron() -> Any:
    """The viewer's module.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return import_module("netron")
    except ModuleNotFoundError as error:
        raise DependencyError("is not installed", subject="netron", hint="pip install netron") from error


def view(netron: Any, path: Path) -> None:
    """Open a graph in the browser and serve it, from this machine to itself, until Ctrl-C."""
    host, port = netron.start(str(path))
    print_err(f"Netron shows {path} at http://{host}:{port}; Ctrl-C ends it")
    netron.wait()
