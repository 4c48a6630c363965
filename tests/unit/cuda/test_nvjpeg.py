"""Finding NVIDIA's library nvJPEG, and naming what it says. Decoding is tested where there is a device."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from yoloship.cuda import nvjpeg
from yoloship.cuda.nvjpeg import libraries
from yoloship.errors import CudaError, DependencyError


def test_a_driver_for_cuda_13_takes_either_library_and_the_newer_one_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOME", "/opt/cuda")
    found = [(major, Path(path)) for major, path in libraries((13, 0))]
    names = [(major, path) for major, path in found if "site-packages" not in path.parts]
    assert names == [
        (13, Path("libnvjpeg.so.13")),
        (13, Path("/opt/cuda/lib64/libnvjpeg.so.13")),
        (13, Path("/usr/local/cuda/lib64/libnvjpeg.so.13")),
        (12, Path("libnvjpeg.so.12")),
        (12, Path("/opt/cuda/lib64/libnvjpeg.so.12")),
        (12, Path("/usr/local/cuda/lib64/libnvjpeg.so.12")),
    ]
    wheels = found[: len(found) - len(names)]
    assert [(major, path.parts[-4:]) for major, path in wheels[:1]] in (
        [],
        [(13, ("nvidia", "cu13", "lib", "libnvjpeg.so.13"))],
    )


def test_a_driver_for_cuda_12_takes_no_library_for_cuda_13() -> None:
    assert {major for major, _ in libraries((12, 8))} == {12}


def test_a_missing_library_is_named_with_the_extra_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvjpeg, "libraries", lambda _: iter([(13, "libnvjpeg.so.none"), (13, "/no/such/file")]))
    with pytest.raises(DependencyError) as caught:
        nvjpeg._loaded((13, 0))
    assert str(caught.value) == (
        "nvJPEG: the library nvJPEG is not installed (libnvjpeg for CUDA 13 or 12); pip install 'yoloship[gpu-media]'"
    )


def test_a_library_without_a_function_that_we_call_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvjpeg, "libraries", lambda _: iter([(13, "libc.so.6")]))
    with pytest.raises(DependencyError, match="not installed"):
        nvjpeg._loaded((13, 0))


def test_the_engine_is_for_linux_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(DependencyError, match="on Linux only"):
        nvjpeg._loaded((13, 0))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (4, "nvJPEG: jpeg not supported (NVJPEG_STATUS_JPEG_NOT_SUPPORTED, code 4, in nvjpegDecodeBatched)"),
        (77, "nvJPEG: 77 (NVJPEG_STATUS_77, code 77, in nvjpegDecodeBatched)"),
    ],
)
def test_a_status_is_named_and_is_not_taken_for_one_of_the_driver(status: int, expected: str) -> None:
    with pytest.raises(CudaError) as caught:
        nvjpeg._check(status, "nvjpegDecodeBatched")
    assert str(caught.value) == expected
    assert caught.value.code is None
