"""Fuzzes `yoloship serve` and looks for faults in its log: by its OpenAPI document, or on raw sockets.

    pip install schemathesis
    python bench/serve_fuzz.py MODEL.onnx [--minutes 20]
    python bench/serve_fuzz.py MODEL.onnx --raw [--minutes 5] [--seed 0]

On raw sockets, whole conversations of one or more requests are damaged, cut into parts, and sometimes left.

Bodies that fit the document and are not images are refused with 422. The check that would call this a fault is left
out: no schema can say what an image is. So is the check for 5xx: 504 is right for a deadline of a microsecond. The log
is searched for 500 instead.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
from serve_load import footprint, free_port, wait_ready

_WORDS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\0", b": ", b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
    b"Content-Encoding: gzip\r\n", b"X-Deadline-Ms: nan\r\n", b"Expect: 100-continue\r\n", b"ffffffffffffffff\r\n",
    b"%00", b"%ff", b"../", b"?conf=nan", b"&", b"=", b"\xff\xfe", b"--XX", b"{", b"[[[[[[[[", b'"', b"null", b"1e999",
)  # fmt: skip
"""What parsers of HTTP, forms and JSON take note of."""


def by_schema(port: int, minutes: float, folder: str) -> bool:
    """Run schemathesis; whether it found something."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("st"), "run", f"http://127.0.0.1:{port}/openapi.json", "--no-color",
            "--exclude-checks", "positive_data_acceptance,not_a_server_error", "--max-examples", "1000000",
            "--max-time", str(int(minutes * 60)),
        ],
        cwd=folder, check=False,
    )  # fmt: skip
    return done.returncode != 0


def conversations(port: int) -> list[bytes]:
    """What is damaged: requests of every kind, alone and one after the other."""
    import cv2
    import numpy as np

    photo = bytes(cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1])
    form = b'--XX\r\nContent-Disposition: form-data; name=a; filename="a.jpg"\r\n\r\n' + photo + b"\r\n--XX--\r\n"
    text = json.dumps({"images": [{"name": "a", "data": base64.b64encode(photo).decode()}]}).encode()

    def post(kind: str, body: bytes, extra: str = "", query: str = "?conf=0.1&classes=0,cat&iou=0.5") -> bytes:
        head = f"POST /v1/models/m/predict{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{extra}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    chunked = post("image/jpeg", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunked += b"%x\r\n%b\r\n0\r\nX-Trailer: y\r\n\r\n" % (len(photo), photo)
    paths = httpx.get(f"http://127.0.0.1:{port}/openapi.json").json()["paths"]
    gets = ["/", *(path.format(name="m", version="1") for path, methods in paths.items() if "get" in methods)]
    asked = [f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in gets]
    posts = [
        post("image/jpeg", photo, "Accept: image/png;q=0.5, application/json\r\nX-Deadline-Ms: 900\r\n"),
        post("image/jpeg", photo, "Expect: 100-continue\r\nX-Request-Id: abc\r\n"),
        post("multipart/form-data; boundary=XX", form),
        post("application/json", text),
        chunked,
        *tensors(port),
    ]
    return [*asked, *posts, asked[0] + posts[0] + asked[1] + posts[2], posts[4] + posts[3] + posts[-1] + asked[0]]


def tensors(port: int) -> list[bytes]:
    """A request of KServe's protocol with its tensor as JSON, and one with it as bytes."""
    first = httpx.get(f"http://127.0.0.1:{port}/v2/models/m").json()["inputs"][0]
    shape = [max(extent, 1) for extent in first["shape"]]
    count = math.prod(shape)
    item = {"name": first["name"], "datatype": first["datatype"], "shape": shape}
    head = "POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\n"
    text = json.dumps({"id": "1", "inputs": [{**item, "data": [0] * count}]}).encode()
    size = count * {"UINT8": 1, "FP16": 2}.get(first["datatype"], 4)
    binary = json.dumps(
        {"inputs": [{**item, "parameters": {"binary_data_size": size}}], "parameters": {"binary_data_output": True}}
    ).encode()
    length = f"Inference-Header-Content-Length: {len(binary)}\r\nContent-Length: {len(binary) + size}\r\n\r\n"
    return [
        f"{head}Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text,
        f"{head}Content-Type: application/octet-stream\r\n{length}".encode() + binary + bytes(size),
    ]


def damaged(chance: random.Random, data: bytes) -> bytes:
    """The same bytes with some of them changed, repeated, left out or moved; mostly in the head."""
    made = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        at = chance.randrange(min(len(made), chance.choice((60, 300, 1 << 20))) or 1)
        what = chance.randrange(6)
        if what == 0 and made:
            made[at % len(made)] = chance.randrange(256)
        elif what == 1:
            del made[at : at + chance.randint(1, 50)]
        elif what == 2:
            made[at:at] = chance.randbytes(chance.randint(1, 50))
        elif what == 3:
            made[at:at] = chance.choice(_WORDS)
        elif what == 4:
            made[at:at] = made[at : at + 200] * chance.randint(1, 20)
        else:
            del made[at:]
    return bytes(made)


def raw(port: int, options: argparse.Namespace) -> bool:
    """Send damaged conversations; whether an answer had a fault in it, or a whole request got a wrong answer."""
    chance, statuses, failed = random.Random(options.seed), Counter[str](), False
    whole, end = conversations(port), time.monotonic() + options.minutes * 60
    while time.monotonic() < end:
        data = damaged(chance, chance.choice(whole))
        said = b""
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(0.02)
            try:
                cut = chance.choice((0, 0, chance.randrange(len(data) + 1)))
                for part in (data[:cut], data[cut:]):
                    connection.sendall(part)
                while chance.random() < 0.9 and (more := connection.recv(1 << 16)):
                    said += more
            except OSError:
                pass
        found = re.findall(rb"HTTP/1\.1 (\d{3}) ", said)
        statuses.update(one.decode() for one in found or [b"none"])
        if b"Traceback" in said or b'File "' in said or b" 500 " in said[:20]:
            failed = True
            print("FAULT", data[:2000], said[:2000])
    print(dict(sorted(statuses.items())))
    statuses.clear()
    for data in whole:  # undamaged, all of them must be answered as they should
        with socket.create_connection(("127.0.0.1", port)) as connection:
            before, _, last = data.rpartition(b"\r\nHost")  # the last request ends the connection
            connection.sendall(before + b"\r\nConnection: close\r\nHost" + last)
            statuses[connection.makefile("rb").read(12).decode()] += 1
    print("undamaged:", dict(statuses))
    return failed or any(status[9:] not in {"200", "100"} for status in statuses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        command = [sys.executable, "-m", "yoloship", "serve", f"m={options.model.resolve()}", "--port", str(port)]
        server = subprocess.Popen(command, stderr=log)
        try:
            wait_ready(server, port)
            before = footprint(server.pid)
            failed = raw(port, options) if options.raw else by_schema(port, options.minutes, folder)
            after = footprint(server.pid)
            log.seek(0)
            lines = log.read().splitlines()
            print(
                f"memory {before[0]:.0f} → {after[0]:.0f} MB, descriptors {before[1]} → {after[1]}, {len(lines)} lines"
            )
            faults = [line for line in lines if "Traceback" in line or " 500 " in line]
            print(f"{len(faults)} faults in the log", *faults[:5], sep="\n")
        finally:
            server.terminate()
            print("exit code of the server:", server.wait())
    raise SystemExit(failed or bool(faults))


if __name__ == "__main__":
    main()
