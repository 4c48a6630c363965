"""A small client for a server of the protocol, such as Triton or `yoloship serve`: `Client`."""

from __future__ import annotations

import http.client
import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from yoloship._util.closing import Closing
from yoloship.errors import InputError
from yoloship.kserve.codec import HEAD_LENGTH, decode_answer, encode_request, head_length
from yoloship.kserve.failures import ProtocolError, RemoteError
from yoloship.kserve.json_tensors import parse
from yoloship.kserve.tensors import DEFAULT_LIMITS, InferRequest, Tensor, WantedOutput

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.kserve.tensors import InferAnswer, Limits

_KEPT: Final = 8
"""Connections that wait for the next request."""
_SHOWN_CHARS: Final = 300


class Client(Closing):
    """Asks a server. Many threads may use it at once; each request that runs has a connection of its own.

    Args:
        url: ``http://host:8000`` or ``https://host``, perhaps with a path in front of ``/v2``.
        timeout_s: The longest wait for the server to take or to send the next bytes.
        api_key: Sent as ``Authorization: Bearer``.
        headers: Headers of each request.
        tls: How the server's certificate is checked; None takes the authorities of this machine.
        limits: What an answer may cost.

    Raises:
        InputError: the address is not one of a server.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.url = url.rstrip("/")
        self._scheme, self._host, self._port, self._base = _parts(url)
        self._timeout_s, self._tls, self._limits = timeout_s, tls, limits
        self._headers = dict(headers or {})
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        for name, value in self._headers.items():
            if not (name.isascii() and name.isprintable() and value.isprintable() and _is_latin(value)):
                raise InputError(
                    "cannot be a header", subject=name, hint="leave out line ends and other control characters"
                )
        self._idle: list[http.client.HTTPConnection] = []

    def is_live(self) -> bool:
        """Whether the server answers. A server that cannot be reached does not.

        Raises:
            RemoteError: it takes no requests without another API key.
        """
        return self._is("health/live")

    def is_ready(self, model: str | None = None) -> bool:
        """Whether all models answer, or the one of this name. A server that cannot be reached is not ready.

        Raises:
            RemoteError: it takes no requests without another API key.
        """
        return self._is("health/ready" if model is None else f"{_model(model)}/ready")

    def server_metadata(self) -> dict[str, Any]:
        """The server's name, version and extensions.

        Raises:
            RemoteError: the server cannot be reached, or refuses.
            ProtocolError: its answer does not follow the protocol.
        """
        return self._object("GET", "")

    def model_metadata(self, name: str, version: str = "") -> dict[str, Any]:
        """A model's inputs and outputs: names, datatypes and shapes, with -1 for extents that are open.

        Raises:
            RemoteError: the server cannot be reached, or there is no such model.
            ProtocolError: its answer does not follow the protocol.
        """
        return self._object("GET", _model(name, version))

    def model_config(self, name: str, version: str = "") -> dict[str, Any]:
        """A model's configuration: Triton's extension "model configuration".

        Raises:
            RemoteError: the server cannot be reached, or does not have the extension or the model.
            ProtocolError: its answer does not follow the protocol.
        """
        return self._object("GET", f"{_model(name, version)}/config")

    def statistics(self, name: str = "", version: str = "") -> dict[str, Any]:
        """What a model has done so far, or all models: Triton's extension "statistics".

        Raises:
            RemoteError: the server cannot be reached, or does not have the extension or the model.
            ProtocolError: its answer does not follow the protocol.
        """
        return self._object("GET", f"{_model(name, version)}/stats" if name else "models/stats")

    def infer(
        self,
        name: str,
        tensors: Mapping[str, npt.ArrayLike],
        outputs: Sequence[str] = (),
        *,
        version: str = "",
        binary: bool = True,
    ) -> dict[str, npt.NDArray[Any]]:
        """Run a model.

        Args:
            name: The model.
            tensors: An array for each input. Texts and bytes are BYTES. NumPy has no bfloat16: for BF16 give arrays of
                `yoloship._util.bfloat16.BFLOAT16` or of the package ml_dtypes.
            outputs: The outputs that are wanted; empty asks for all.
            version: The version of the model; empty leaves it to the server.
            binary: Whether tensors travel as bytes; else as JSON, which is far slower.

        Returns:
            An array for each output, read only, in the types of `yoloship.kserve.datatypes.NUMPY_TYPES`.

        Raises:
            RemoteError: the server cannot be reached, or refuses.
            ProtocolError: a tensor has no form in the protocol, or the answer does not follow it.
        """
        request = InferRequest(
            tuple(Tensor.of(*item) for item in tensors.items()),
            tuple(WantedOutput(one, {"binary_data": binary}) for one in outputs),
            parameters={} if outputs else {"binary_data_output": binary},
        )
        answer = self.ask(name, request, version=version, binary=binary)
        return {one.name: one.array for one in answer.outputs}

    def ask(self, name: str, request: InferRequest, *, version: str = "", binary: bool = True) -> InferAnswer:
        """Run a model with a whole request: ids and parameters too.

        Args:
            name: The model.
            request: The request.
            version: The version of the model; empty leaves it to the server.
            binary: Whether its tensors travel as bytes.

        Raises:
            RemoteError: the server cannot be reached, or refuses.
            ProtocolError: a tensor has no form in the protocol, or the answer does not follow it.
        """
        encoded = encode_request(request, binary=binary)
        body, said = self._call("POST", f"{_model(name, version)}/infer", encoded.body, encoded.headers)
        answer = decode_answer(body, head_length(said), self._limits)
        names = [one.name for one in answer.outputs]
        missing = next((one.name for one in request.outputs if one.name not in names), None)
        if missing is not None:
            raise ProtocolError("the answer does not have this output", subject=missing, got=", ".join(names)[:200])
        return answer

    def close(self) -> None:
        """Close the connections that wait. It may be called twice."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _is(self, path: str) -> bool:
        try:
            self._call("GET", path)
        except RemoteError as error:
            if error.status in {401, 403}:
                raise
            return False
        return True

    def _object(self, method: str, path: str) -> dict[str, Any]:
        return parse(self._call(method, path)[0], self._limits)

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, str | None]:
        """The body of the answer to a request, and its header ``Inference-Header-Content-Length``.

        A connection that waited may be closed by the server at the moment at which it is used; then the request, which
        changes nothing on a server, is sent once more on a new one.
        """
        target = f"{self._base}/v2/{path}".rstrip("/")
        while True:
            connection, is_new = self._take()
            try:
                connection.request(method, target, body, {**self._headers, **(headers or {})})
                answer = connection.getresponse()
                data = _read(answer, self._limits.body_bytes, self.url)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                connection.close()
                if is_new:
                    raise RemoteError(f"ended the connection: {error}", subject=self.url) from error
                continue
            except http.client.HTTPException as error:
                connection.close()
                problem = f"its answer is broken: {type(error).__name__}: {error}"
                raise RemoteError(problem[:_SHOWN_CHARS], subject=self.url) from error
            except OSError as error:
                connection.close()
                reason = str(error) or type(error).__name__
                raise RemoteError(
                    f"cannot be reached: {reason[:_SHOWN_CHARS]}", subject=self.url, hint="is the server started?"
                ) from error
            except BaseException:
                connection.close()
                raise
            break
        if len(self._idle) < _KEPT and not answer.will_close:
            self._idle.append(connection)
        else:
            connection.close()
        if answer.status != http.client.OK:
            raise RemoteError(
                f"{method} {target}: {_said(data, answer)}", status=answer.status, subject=self.url,
                hint="give the server's API key" if answer.status == http.client.UNAUTHORIZED else None,
            )  # fmt: skip
        return data, answer.getheader(HEAD_LENGTH)

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it is new."""
        with suppress(IndexError):
            return self._idle.pop(), False
        if self._scheme == "http":
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s), True
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls), True


def _parts(url: str) -> tuple[str, str, int | None, str]:
    """Scheme, host, port and path of a server's address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _no_address(url) from error
    is_plain = url.isascii() and url.isprintable() and not any(one in url for one in " ?#@\\")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not is_plain:
        raise _no_address(url)
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


def _no_address(url: str) -> InputError:
    return InputError("is not the address of a server", subject=url[:200] or "url", expected="http://HOST:PORT")


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _model(name: str, version: str = "") -> str:
    """The path of a model."""
    if not name or name in {".", ".."}:
        raise InputError("cannot be the name of a model", subject=repr(name))
    path = f"models/{quote(name, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _read(answer: http.client.HTTPResponse, limit_bytes: int, url: str) -> bytes:
    stated = answer.length if answer.length is not None else math.inf
    data = answer.read(limit_bytes + 1) if stated > limit_bytes else answer.read()
    if len(data) > limit_bytes:
        raise RemoteError("the answer is too long", subject=url, hint=f"at most {limit_bytes:,} bytes are read")
    return data


def _said(data: bytes, answer: http.client.HTTPResponse) -> str:
    """What an answer says of its error: ``{"error": "…"}`` as the protocol has it, or ``{"error": {"message": …}}``."""
    text = None
    with suppress(ValueError, RecursionError, AttributeError):
        text = json.loads(data[:65_536]).get("error")
    if isinstance(text, dict):
        text = text.get("message")
    if not isinstance(text, str) or not text:
        text = answer.reason or "no reason given"
    return f"{answer.status}: {text[:_SHOWN_CHARS]}"
