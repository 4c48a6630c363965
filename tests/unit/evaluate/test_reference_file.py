"""Archives of a training environment, as users make them and as attackers do."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.evaluate.reference_file import MAX_ARRAY_BYTES, read_reference

IMAGES = np.zeros((1, 3, 32, 32), np.float32)
ROWS = np.zeros((1, 63, 8), np.float32)


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "r.npz", **arrays)
    return folder / "r.npz"


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES}, "has no array 'output': expected images and output, got images.npy"),
        ({"images": IMAGES[0], "output": ROWS}, "'images' has another shape"),
        ({"images": IMAGES, "output": ROWS[0]}, "'output' has another shape: expected decoded rows for 1 images"),
        ({"images": IMAGES, "output": ROWS, "prototypes": ROWS}, "'prototypes' has another shape: expected (1, P"),
        ({"images": IMAGES, "output": np.zeros((2, 63, 8), np.float32)}, "'output' has another shape"),
        ({"images": IMAGES + 255, "output": ROWS}, "outside 0 to 1"),
        ({"images": IMAGES.astype(np.uint8), "output": ROWS}, "expected float32, got |u1"),
        ({"images": np.zeros((1, 3, 0, 32), np.float32), "output": ROWS}, "is empty or too large"),
        ({"images": np.array([{"a": 1}]), "output": ROWS}, "a different element type: expected float32, got |O"),
    ],
)
def test_other_arrays_are_refused_in_one_line(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_reference(saved(tmp_path, **arrays))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def forged(folder: Path, header: str, data: bytes = b"") -> Path:
    """An archive whose array claims what this header says."""
    text = header.encode()
    array = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data
    with zipfile.ZipFile(folder / "r.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", array)
        archive.writestr("output.npy", array)
    return folder / "r.npz"


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 40000, 40000)}", b"", "empty or too large"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 32, 32)}", b"1234", "is damaged: expected 12,288"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1)}", b"1234567", "is damaged"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cposix", "a different element type"),
        ("__import__('os').system('true')", b"", "is not readable"),
        ("(" * 5000, b"", "is not readable"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3, 32, 32)}", b"", "is not readable"),
    ],
)
def test_headers_that_lie_are_refused(header: str, data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_reference(forged(tmp_path, header, data))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("images.npy", b"\x93NUMPY")
    data = path.read_bytes()
    entry = data.rindex(b"PK\x01\x02") + 24  # the length that the directory states
    path.write_bytes(data[:entry] + (MAX_ARRAY_BYTES * 2).to_bytes(4, "little") + data[entry + 4 :])
    with pytest.raises(InputError, match="too large"):
        read_reference(path)


@pytest.mark.parametrize("seed", range(200))
def test_damaged_archives_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=IMAGES, output=ROWS)
    data, rng = bytearray(buffer.getvalue()), np.random.default_rng(seed)
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    (tmp_path / "r.npz").write_bytes(data)
    try:
        found = read_reference(tmp_path / "r.npz")
    except InputError:
        return
    assert found.images.ndim == 4


def test_an_archive_that_numpy_would_not_write_is_refused_in_one_line(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "r.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in (("images", IMAGES), ("output", ROWS)):
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    with pytest.raises(InputError, match="'images' is compressed in a way that NumPy does not use"):
        read_reference(path)
