"""An S3 server in this process, on the loopback interface: `s3_server`."""

from __future__ import annotations

import os
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Store:
    """A server that is running.

    Attributes:
        endpoint: ``127.0.0.1:PORT``.
    """

    endpoint: str

    def environment(self) -> Mapping[str, str]:
        """What a process needs to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{self.endpoint}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def put(self, place: str, data: bytes = b"") -> None:
        """Make a bucket, or write an object."""
        request = urllib.request.Request(f"http://{self.endpoint}/{place}", data=data, method="PUT")
        request.add_header("Content-Type", "application/octet-stream")
        request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request")
        urllib.request.urlopen(request).close()


@contextmanager
def s3_server() -> Iterator[Store]:
    """Run moto's server, with the environment that leads to it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        store = Store(f"{host}:{port}")
        with mock.patch.dict(os.environ, store.environment()):
            yield store
    finally:
        server.stop()
