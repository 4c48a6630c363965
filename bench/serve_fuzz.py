"""Fuzzes `yoloship serve` by its own OpenAPI document with schemathesis, for a time, and looks for faults in its log.

    pip install schemathesis
    python bench/serve_fuzz.py MODEL.onnx [--minutes 20]

Bodies that fit the document and are not images are refused with 422. The check that would call this a fault is left
out: no schema can say what an image is. So is the check for 5xx: 504 is right for a deadline of a microsecond. The log
is searched for 500 instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from serve_load import footprint, free_port, wait_ready


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        command = [sys.executable, "-m", "yoloship", "serve", f"m={options.model.resolve()}", "--port", str(port)]
        server = subprocess.Popen(command, stderr=log)
        try:
            wait_ready(port)
            before = footprint(server.pid)
            done = subprocess.run(
                [
                    Path(sys.executable).with_name("st"), "run", f"http://127.0.0.1:{port}/openapi.json", "--no-color",
                    "--exclude-checks", "positive_data_acceptance,not_a_server_error", "--max-examples", "1000000",
                    "--max-time", str(int(options.minutes * 60)),
                ],
                cwd=folder, check=False,
            )  # fmt: skip
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
    raise SystemExit(done.returncode or bool(faults))


if __name__ == "__main__":
    main()
