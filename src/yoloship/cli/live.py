"""The options of ``yoloship predict`` for cameras and streams, and ``--show``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from yoloship.cli.command import WholeNumber, flag, option
from yoloship.cli.output import print_err

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.sinks import DrawStyle
    from yoloship.sinks.show import ShowPage
    from yoloship.sources import Source

MAX_TIMEOUT_S: Final = 86_400
LOOPBACK: Final = "127.0.0.1"


policy = option(
    "--live",
    type=click.Choice(["newest", "every"]),
    metavar="newest|every",
    help="Which frames of cameras and streams to use: newest, so results are never late (the default), or every one, "
    "so a stream may have to wait.",
)
timeout = option(
    "--live-timeout",
    type=WholeNumber(1, MAX_TIMEOUT_S),
    metavar="SECONDS",
    help="Reconnect to a stream that has given no frame for this long. Default: 20.",
)
retries = option(
    "--live-retries",
    type=WholeNumber(min=0),
    metavar="N",
    help="Give up on a stream after N failed connection attempts in a row. Default: never.",
)
show = flag("--show", help="Show the run in your browser; the address, on this machine, is printed.")
show_at = option(
    "--show-at",
    metavar="[HOST:]PORT",
    help="Like --show, at this port and network address; 0.0.0.0 is all addresses of this machine.",
)


def refuse_without_effect(source: Source, values: Mapping[str, object]) -> None:
    """Refuse options for live sources if there is none.

    Args:
        source: What is read.
        values: Name of an option → its value; None if it was not given.

    Raises:
        click.UsageError: one was given.
    """
    given = [name for name, value in values.items() if value is not None]
    if given and not source.is_live:
        raise click.UsageError(f"{' and '.join(given)}: only cameras and streams are live")


def place_of(text: str | None) -> tuple[str, int]:
    """The address and the port that ``--show-at`` names; without it, any port of this machine.

    Raises:
        click.UsageError: it is not an address with a port.
    """
    if text is None:
        return LOOPBACK, 0
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = "?"  # an IPv6 address without its brackets
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536) or host == "?":
        raise click.UsageError(f"--show-at takes a port such as 8080, or HOST:PORT, not {text!r}")
    return host or LOOPBACK, int(port)


def opened_page(show_at: str | None, style: DrawStyle) -> ShowPage:
    """Open the page, and say where it is.

    Raises:
        click.UsageError: ``--show-at`` is not an address with a port.
        OutputError: it cannot be listened on.
    """
    from yoloship.sinks.show import ShowPage

    host, wanted = place_of(show_at)
    page = ShowPage(host, wanted, style)
    print_err(f"show: {page.address}")
    port = page.address.split("/")[2].rpartition(":")[2]
    if host not in {LOOPBACK, "::1", "localhost"}:
        print_err(f"warning: anyone who can reach port {port} and knows this address can see the run, unencrypted")
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - the user asked for it
            print_err(f"from another machine, use the IP address of this machine instead of {host}")
    elif "SSH_CONNECTION" in os.environ:
        print_err(f"from your own machine: ssh -L {port}:{LOOPBACK}:{port} HOST, and open the same address there")
    return page
