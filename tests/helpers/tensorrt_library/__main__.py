"""Runs a command in which `import tensorrt` gives the real bindings of a version over the stand-in library.

    PYTHONPATH=tests python -m helpers.tensorrt_library [--stand-in-driver] 10.13.0.35 python -m pytest -n0 tests/gpu

With `--stand-in-driver` it needs no GPU: device memory is the host's, and ONNX Runtime computes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from helpers.cuda_emulator import with_stand_in_driver
from helpers.tensorrt_library.wheels import with_bindings


def main() -> None:
    """Replace this process by the command."""
    version, *command = [word for word in sys.argv[1:] if word != "--stand-in-driver"]
    environment = dict(os.environ)
    if "--stand-in-driver" in sys.argv:
        environment = with_stand_in_driver(Path(tempfile.mkdtemp(prefix="yoloship-")))
    os.execvpe(command[0], command, with_bindings(version, environment))


if __name__ == "__main__":
    main()
