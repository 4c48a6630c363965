"""What a server serves, and its limits: `ServeSettings`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import InputError
from yoloship.images import ImageLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship._util.addresses import AddressRules
    from yoloship.serve.keys import ApiKeys

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The name of a model in addresses: it needs no escapes, and is not a path."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model to serve.

    Attributes:
        name: Its name in addresses.
        source: A file, or the name of a release.
        arguments: Further arguments of `yoloship.load`, such as ``device``.
    """

    name: str
    source: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, arguments: Mapping[str, Any]) -> ServedModel:
        """``best.pt`` → the model ``best``; ``night=runs/best.pt`` → the model ``night``.

        Raises:
            InputError: the name is not allowed.
        """
        given, sign, source = text.partition("=")
        if not sign or Path(text).exists():
            given, source = Path(text).stem, text
        if NAME.fullmatch(given) is None or not source:
            raise InputError(
                "cannot be the name of a model in a URL",
                subject=text,
                expected="letters, digits, '.', '_' and '-', at most 64",
                got=repr(given[:80]),
                hint="name it: NAME=FILE",
            )
        return cls(given, source, arguments)


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of one request, and of all requests together.

    Attributes:
        max_body_bytes: Maximum size of a body.
        max_images: Maximum number of images in a request.
        image: The limits of one image.
        body_timeout_s: Seconds for a whole body, from the first byte of the request.
        head_timeout_s: Seconds for the head of a request, from when the connection was made; and for TLS before it.
        answer_timeout_s: Seconds for the client to read an answer.
        deadline_s: Seconds until an answer, from the first byte of the request. A request may ask for less.
        queue: Images that may wait or run, for each model; None chooses from the model's speed.
        max_connections: Connections at the same time.
        held_body_bytes: Bytes of all bodies in memory at the same time.
    """

    max_body_bytes: int = 32 << 20
    max_images: int = 32
    image: ImageLimits = field(default_factory=lambda: ImageLimits(max_pixels=50_000_000, max_file_bytes=32 << 20))
    body_timeout_s: float = 20.0
    head_timeout_s: float = 10.0
    answer_timeout_s: float = 60.0
    deadline_s: float = 10.0
    queue: int | None = None
    max_connections: int = 2048
    held_body_bytes: int = 512 << 20


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What a server serves, and how.

    Attributes:
        models: The models; each name once.
        limits: The limits of requests.
        keys: The API keys, one of which each request must have; None means that no key is needed.
        hosts: Host names that requests may be for; None takes any.
        addresses: The rules for addresses of images in requests; None allows no addresses.
        watch_s: Seconds between checks of the models' files; 0 never loads them again.

    Raises:
        InputError: there are no models, or two have the same name.
    """

    models: tuple[ServedModel, ...]
    limits: RequestLimits = field(default_factory=RequestLimits)
    keys: ApiKeys | None = None
    hosts: frozenset[str] | None = None
    addresses: AddressRules | None = None
    watch_s: float = 1.0

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        if not names:
            raise InputError("there is no model to serve", expected="at least one")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError("two models have this name", subject=twice, hint="name one of them: NAME=FILE")
