"""A folder for a command to work in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from helpers.models import finds_a_cat

if TYPE_CHECKING:
    import pytest


def work_in_cat_folder(folder: Path, hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a new folder with ``cat.onnx``, which finds a cat in any image, and images ``a.png`` and ``b.png``.

    Args:
        folder: Not there yet.
        hw: (height, width) of the canvas and of the images.
        monkeypatch: Goes back in the end.
    """
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("cat.onnx").write_bytes(finds_a_cat(hw).SerializeToString())
    for name in ("a.png", "b.png"):
        cv2.imwrite(name, np.full((*hw, 3), 90, np.uint8))
    return folder
