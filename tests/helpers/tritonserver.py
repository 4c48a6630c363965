"""A real Triton server, from the package `nvidia-pytriton`, which holds one with the Python backend.

The package itself wants an old NumPy, so its wheel is unpacked aside, and only the server in it is used. The wheel has
55 MB and is downloaded once, into the tests' cache (see `helpers.kept`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.kept import kept
from helpers.shared import IN_CI

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACKAGE = "nvidia-pytriton"
VERSION = "0.7.0"
SHA256 = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_PARTS = re.compile(r"pytriton/tritonserver/(bin|backends|python_backend_stubs)/|nvidia_pytriton\.libs/|[^/]+/LICENSE$")
_TYPES = {"uint8": "UINT8", "int32": "INT32", "float32": "FP32"}
START_S, END_S = 120, 30
"""For a loaded machine; a server is usually there in two seconds."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        address: ``127.0.0.1:PORT``.
        log: The file with all that it wrote.
        pid: Of its process.
    """

    address: str
    log: Path
    pid: int

    def ask(self, path: str) -> Any:
        """The JSON document at an address."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=60) as answer:
            return json.loads(answer.read())

    def infer(self, name: str, inputs: dict[str, Any], wanted: Sequence[str], **parameters: Any) -> dict[str, Any]:
        """Send arrays, and give those back that are wanted. Written here so that it shares nothing with ours.

        Raises:
            urllib.error.HTTPError: the server refuses the request; its body says why.
        """
        heads = [
            {"name": key, "datatype": _TYPES[str(value.dtype)], "shape": value.shape,
             "parameters": {"binary_data_size": value.nbytes}}
            for key, value in inputs.items()
        ]  # fmt: skip
        outputs = [{"name": key, "parameters": {"binary_data": True}} for key in wanted]
        head = json.dumps({"inputs": heads, "outputs": outputs, "parameters": parameters}).encode()
        body = head + b"".join(value.tobytes() for value in inputs.values())
        request = urllib.request.Request(
            f"http://{self.address}/v2/models/{name}/infer", body, {"Inference-Header-Content-Length": str(len(head))}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            data, at = answer.read(), int(answer.headers["Inference-Header-Content-Length"])
        found = {}
        types = {value: key for key, value in _TYPES.items()}
        for entry in json.loads(data[:at])["outputs"]:
            size = entry["parameters"]["binary_data_size"]
            found[entry["name"]] = np.frombuffer(data[at : at + size], types[entry["datatype"]]).reshape(entry["shape"])
            at += size
        return found

    def statistics(self, name: str) -> dict[str, Any]:
        """What it has counted for a model."""
        (found,) = self.ask(f"/v2/models/{name}/stats")["model_stats"]
        return dict(found)


def installation() -> Path:
    """The unpacked server. Without it the test skips with a reason, but fails in CI."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        _absent(f"there is no Triton server for {sys.platform} on {platform.machine()}")
    folder = kept("tritonserver", f"{VERSION}-{PYTHON}", _unpack)
    if not (folder / "backends/python/triton_python_backend_stub").exists():
        _absent(f"the Triton server of {PACKAGE} {VERSION} has no Python backend for Python {PYTHON}")
    return folder


def _absent(reason: str) -> None:
    if IN_CI:
        pytest.fail(f"{reason}; CI must have it")
    pytest.skip(reason)


def _unpack(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    ran = subprocess.run([*command, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True, check=False)
    if ran.returncode:
        _absent(f"{PACKAGE} {VERSION} cannot be downloaded: {ran.stderr.strip().splitlines()[-1:]}")
    (wheel,) = folder.glob("*.whl")
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == SHA256
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if _PARTS.match(name)])
    wheel.unlink()
    home = folder / "pytriton/tritonserver"
    for part in ("bin", "backends"):  # beside the libraries, as the programs look for them
        shutil.move(home / part, folder / part)
    stub = home / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    if stub.exists():
        shutil.move(stub, folder / "backends/python" / stub.name)
    shutil.rmtree(folder / "pytriton")
    for program in (folder / "bin/tritonserver", folder / "backends/python" / stub.name):
        if program.exists():
            program.chmod(0o755)


@contextmanager
def serving(repository: Path, log: Path, *arguments: str) -> Iterator[Server]:
    """A server that is ready, on loopback alone and over HTTP alone; it is always ended.

    Args:
        repository: All models in it are loaded.
        log: Where to write what it says.
        arguments: More arguments of ``tritonserver``.
    """
    process, address = start(repository, log, *arguments)
    try:
        _wait_ready(process, address, log)
        yield Server(address, log, process.pid)
    finally:
        end(process)


def start(repository: Path, log: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server. The caller ends it.

    Returns:
        Its process and its address.
    """
    home = installation()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    libraries = [str(home / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR") or ""]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [
        str(home / "bin/tritonserver"), f"--model-repository={repository}", f"--backend-directory={home / 'backends'}",
        "--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false",
        "--disable-auto-complete-config", *arguments,
    ]  # fmt: skip
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    return process, f"127.0.0.1:{port}"


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server and the processes of its models."""
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    latest = time.monotonic() + START_S
    while time.monotonic() < latest:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            with urllib.request.urlopen(f"http://{address}/v2/health/ready", timeout=10):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(log.read_text(errors="replace"))
