"""Measures what it costs `yoloship serve` to refuse an image, in microseconds of a processor.

    python bench/serve_refusals.py MODEL.onnx [--requests 1500] [--rounds 6] [--sizes 100,130000,487000]

The server has no room, so it answers each request with 429. They come one after the other, on one connection. All of
the server's threads count. To compare two commits, run it for both in turns, with PYTHONPATH at their `src`.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

SERVER = """
import sys, threading, time
from pathlib import Path
from yoloship.serve.engine import ModelHost
from yoloship.serve.listening import Listening, serve
from yoloship.serve.logs import begin_log
from yoloship.serve.settings import ServedModel, ServeSettings

take = ModelHost.take

def take_and_have_no_room(host, loaded):
    take(host, loaded)
    host.admission.room = 0
    print("ready", flush=True)

def tell():
    for _ in sys.stdin:
        print(time.process_time(), flush=True)

ModelHost.take = take_and_have_no_room
begin_log("none")
threading.Thread(target=tell, daemon=True).start()
settings = ServeSettings((ServedModel("m", sys.argv[1]),))
serve(settings, Listening(port=0), lambda address: print(address, flush=True))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--sizes", default="100,130000,487000")
    options = parser.parse_args()
    command = [sys.executable, "-c", SERVER, str(options.model)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def cpu_s() -> float:
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    try:
        said = sorted((process.stdout.readline().strip(), process.stdout.readline().strip()))
        port = int(said[0].rstrip("/").rpartition(":")[2])
        for size in map(int, options.sizes.split(",")):
            head = f"POST /v1/models/m/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
            request = head.encode() + b"\xff" * size
            rounds: list[tuple[float, float]] = []
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(options.rounds):
                    server_s, client_s = cpu_s(), time.process_time()
                    for _ in range(options.requests):
                        connection.sendall(request)
                        answer = connection.recv(1 << 16)
                        if not answer.startswith(b"HTTP/1.1 429"):
                            raise RuntimeError(f"not refused: {answer[:200]!r}")
                    spent = cpu_s() - server_s, time.process_time() - client_s
                    rounds.append(tuple(one * 1e6 / options.requests for one in spent))
            server = [us for us, _ in rounds]
            print(
                f"{size:8,} bytes: server {min(server):.0f} us (median {statistics.median(server):.0f}), "
                f"client {min(us for _, us in rounds):.0f} us",
                flush=True,
            )
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
