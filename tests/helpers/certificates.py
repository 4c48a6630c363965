"""Certificates for tests of HTTPS."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def self_signed(folder: Path, host: str) -> Path:
    """A file with a key and a certificate for a host, which signs itself; skip if there is nothing to make it with."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("this machine has no openssl to make a certificate with")
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", "key.pem", "-out", "both.pem", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    with (folder / "both.pem").open("a") as file:
        file.write((folder / "key.pem").read_text())
    return folder / "both.pem"
