"""A server of KServe's protocol that says whatever a test wants."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

_TYPES = {"uint8": "UINT8", "int32": "INT32", "float32": "FP32"}


def answer_of(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[int, dict[str, str], bytes]:
    """The answer with these outputs, as bytes."""
    outputs = [
        {"name": name, "datatype": _TYPES[str(array.dtype)], "shape": array.shape,
         "parameters": {"binary_data_size": array.nbytes}}
        for name, array in arrays.items()
    ]  # fmt: skip
    head = json.dumps({"model_name": "m", "outputs": outputs}).encode()
    body = head + b"".join(array.tobytes() for array in arrays.values())
    return 200, {"Inference-Header-Content-Length": str(len(head))}, body


@contextmanager
def canned(answers: Mapping[str, Any], infer: Callable[[bytes], Any] | None = None) -> Iterator[str]:
    """A server on loopback.

    Args:
        answers: By path: data for JSON, bytes, or (status, headers, body). Other paths are 404.
        infer: Makes the answer to a request with a body.

    Yields:
        Its address.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._give(answers.get(self.path, (404, {}, b'{"error": "no such thing"}')))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert infer is not None
            self._give(infer(body))

        def _give(self, answer: Any) -> None:
            if isinstance(answer, bytes):
                answer = (200, {}, answer)
            elif not isinstance(answer, tuple):
                answer = (200, {}, json.dumps(answer).encode())
            status, headers, body = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
