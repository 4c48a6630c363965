"""Kernels that TensorRT-RTX compiled, from one process to the next: kept, read back, and never trusted blindly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import tensorrt_standin as standin
from helpers.engine_records import ADA, plan_bytes, record_of, write
from yoloship._util.cache import keep
from yoloship.engine import read_engine
from yoloship.runtime.rtx_cache import RuntimeCache, runtime_cache

if TYPE_CHECKING:
    from yoloship.engine import EngineFile


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


def engine_of(folder: Path, *, described: bool = True) -> EngineFile:
    plan = plan_bytes()
    return read_engine(write(folder / "best.engine", plan, record_of(plan) if described else None))


def run(kept: RuntimeCache | None, *kernels: str) -> set[str]:
    """Attach a configuration, compile kernels, save; what was there before."""
    assert kept is not None
    config = standin.IRuntimeConfig()
    kept.attach(config)
    attached = config.get_runtime_cache()
    assert attached is not None
    before = set(attached.kernels)
    attached.kernels.update(kernels)
    kept.save()
    return before


def test_kernels_of_one_process_are_there_in_the_next(folder: Path, tmp_path: Path) -> None:
    file, rtx = engine_of(tmp_path), standin.flavour("rtx")
    assert run(runtime_cache(rtx, file, ADA), "conv") == set()
    (first,) = folder.iterdir()
    assert run(runtime_cache(rtx, file, ADA), "cast") == {"conv"}
    (second,) = folder.iterdir()  # the older one went
    assert first.name != second.name
    assert run(runtime_cache(rtx, file, ADA)) == {"conv", "cast"}
    assert list(folder.iterdir()) == [second]  # nothing new, nothing written


def test_another_engine_version_or_gpu_has_kernels_of_its_own(folder: Path, tmp_path: Path) -> None:
    file, rtx = engine_of(tmp_path), standin.flavour("rtx")
    run(runtime_cache(rtx, file, ADA), "conv")
    assert run(runtime_cache(replace(rtx, version="1.8"), file, ADA)) == set()
    assert run(runtime_cache(rtx, file, replace(ADA, name="NVIDIA RTX 5090"))) == set()
    assert run(runtime_cache(rtx, file, replace(ADA, cuda_version=(13, 0)))) == set()
    assert run(runtime_cache(rtx, engine_of(tmp_path, described=False), ADA)) == {"conv"}  # the same plan


def test_a_file_that_tensorrt_does_not_take_or_that_was_changed_is_left(folder: Path, tmp_path: Path) -> None:
    file, rtx = engine_of(tmp_path), standin.flavour("rtx")
    run(runtime_cache(rtx, file, ADA), "conv")
    (path,) = folder.iterdir()
    path.write_bytes(b'["forged"]')
    assert run(runtime_cache(rtx, file, ADA), "cast") == set()
    made_from = ("anything",)
    assert keep("compiled", made_from, ".blob", b"not what TensorRT wrote")
    assert run(RuntimeCache(made_from), "conv") == set()
    assert run(RuntimeCache(made_from)) == {"conv"}


def test_a_folder_that_others_can_write_to_is_not_used(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    file, rtx = engine_of(tmp_path), standin.flavour("rtx")
    run(runtime_cache(rtx, file, ADA), "conv")
    assert list(folder.iterdir()) == []


def test_a_flavour_without_runtime_caches_has_none(tmp_path: Path) -> None:
    assert runtime_cache(standin.flavour(), engine_of(tmp_path), ADA) is None


def test_an_engine_runs_without_a_cache_where_none_can_be_written(tmp_path: Path, folder: Path) -> None:
    folder.parent.write_bytes(b"a file where the folder should be")
    kept = runtime_cache(standin.flavour("rtx"), engine_of(tmp_path), ADA)
    assert run(kept, "conv") == set()
    assert run(kept) == {"conv"}  # of this process
    assert run(runtime_cache(standin.flavour("rtx"), engine_of(tmp_path), ADA)) == set()
