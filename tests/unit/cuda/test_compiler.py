from __future__ import annotations

import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from helpers.shared import IN_CI
from yoloship.cuda import compiler
from yoloship.cuda.compiler import KERNELS, SOURCES, compile_kernels, compile_text, nvrtc_version, source_text
from yoloship.errors import CudaError, DependencyError

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.cuda.compiler import Compiled

ARCHITECTURES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))


@pytest.fixture(autouse=True)
def _nvrtc() -> None:
    try:
        nvrtc_version()
    except DependencyError as error:
        if IN_CI:
            pytest.fail(f"{error}; CI must have it")
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Compiled, Path]:
    """A kernel file, compiled, and the cache that it is in."""
    folder = tmp_path_factory.mktemp("compiled")
    return compile_kernels("nms.cu", (9, 0), folder), folder


@pytest.fixture
def first(compiled: tuple[Compiled, Path], tmp_path: Path) -> Compiled:
    """What is in the cache `tmp_path / "cache"`."""
    shutil.copytree(compiled[1], tmp_path / "cache")
    return compiled[0]


def architectures_for(source: str) -> set[tuple[int, int]]:
    """The oldest, the newest, and in turn some of those between: our sources ask for no architecture's number."""
    turn = sorted(SOURCES).index(source)
    return {ARCHITECTURES[0], ARCHITECTURES[-1], *ARCHITECTURES[1:-1][turn :: len(SOURCES)]}


def test_every_architecture_is_compiled_for_and_no_source_depends_on_one() -> None:
    assert set().union(*map(architectures_for, SOURCES)) == set(ARCHITECTURES)
    assert not [source for source in SOURCES if "__CUDA_ARCH__" in source_text(source)]


@pytest.mark.parametrize("source", SOURCES)
def test_every_kernel_compiles_without_a_gpu(source: str) -> None:
    for capability in architectures_for(source):
        compiled = compile_kernels(source, capability, None)
        assert (compiled.form, compiled.architecture) == ("cubin", capability[0] * 10 + capability[1])
        assert compiled.code.startswith(b"\x7fELF")
        for spec in KERNELS:
            assert (spec.entry.encode() in compiled.code) == (spec.source == source), spec.entry


def test_an_architecture_that_the_compiler_does_not_know_yet_gets_ptx() -> None:
    compiled = compile_kernels("nms.cu", (99, 0), None)
    assert compiled.form == "ptx"
    assert b".visible .entry nms(" in compiled.code


def test_a_gpu_that_is_too_old_is_refused() -> None:
    with pytest.raises(
        CudaError, match=r"nms\.cu: the GPU is too old .*expected compute capability 7\.5 or newer, got 7\.0"
    ):
        compile_kernels("nms.cu", (7, 0), None)


def test_a_kernel_that_does_not_compile_is_an_error_with_the_first_line_of_the_log() -> None:
    with pytest.raises(CudaError) as caught:
        compile_text("broken.cu", 'extern "C" __global__ void broken()\n{ this is not C; }\n', (9, 0), None)
    assert str(caught.value).startswith(
        "broken.cu for sm_90: does not compile (NVRTC_ERROR_COMPILATION, code 6): broken.cu(2): error:"
    )
    assert (caught.value.code, caught.value.name) == (6, "NVRTC_ERROR_COMPILATION")


def test_compiled_code_is_kept_and_taken_again(
    first: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = (tmp_path / "cache").iterdir()
    assert re.fullmatch(r"nms-sm90-[0-9a-f]{32}\.cubin", kept.name)

    def not_again(*_: Any) -> bytes:
        raise AssertionError

    monkeypatch.setattr(compiler, "_compile", not_again)
    assert compile_kernels("nms.cu", (9, 0), tmp_path / "cache") == first
    with pytest.raises(AssertionError):
        compile_kernels("nms.cu", (8, 0), tmp_path / "cache")
    with pytest.raises(AssertionError):
        compile_text("nms.cu", source_text("nms.cu") + "\n", (9, 0), tmp_path / "cache")
    monkeypatch.setattr(compiler, "nvrtc_version", lambda: (99, 9))
    with pytest.raises(AssertionError):
        compile_kernels("nms.cu", (9, 0), tmp_path / "cache")


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_cache_file_is_replaced(first: Compiled, tmp_path: Path, damage: bytes | None) -> None:
    (kept,) = (tmp_path / "cache").iterdir()
    data = kept.read_bytes()
    kept.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if damage is None else damage)
    assert compile_kernels("nms.cu", (9, 0), tmp_path / "cache") == first
    assert kept.read_bytes() == data


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert compile_kernels("nms.cu", (9, 0), tmp_path / "file" / "cache").form == "cubin"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps users apart by other means")
def test_code_that_somebody_else_may_have_written_is_compiled_again(
    first: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    (kept,) = folder.iterdir()
    monkeypatch.setattr(compiler, "_compile", lambda *_: b"compiled now")
    assert compile_kernels("nms.cu", (9, 0), folder) == first
    folder.chmod(0o770)
    assert compile_kernels("nms.cu", (9, 0), folder).code == b"compiled now"
    folder.chmod(0o700)
    kept.chmod(0o602)
    assert compile_kernels("nms.cu", (9, 0), folder).code == b"compiled now"
