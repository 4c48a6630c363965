from __future__ import annotations

from pathlib import Path

import pytest

import yoloship
from yoloship.cuda.device import Device
from yoloship.errors import CudaError, SessionError
from yoloship.pipeline.gpu_loading import is_engine


def test_an_engine_without_a_gpu_says_what_it_needs_and_what_a_cpu_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_: int = 0) -> Device:
        raise CudaError("no NVIDIA driver", subject="CUDA", code=35, hint="install it")

    monkeypatch.setattr(Device, "open", absent)
    engine = tmp_path / "best.engine"
    engine.write_bytes(b"vtrt" + b"\0" * 60)
    with pytest.raises(SessionError) as caught:
        yoloship.load(engine)
    assert str(caught.value) == (
        f"{engine}: an engine runs on an NVIDIA GPU, and none can be used here (CUDA: no NVIDIA driver); "
        "see 'yoloship doctor --for cuda'; on a CPU take the ONNX file it was built from"
    )


@pytest.mark.parametrize("start", [b"vtrt", b"ftrt", b"\x10\0\0\0{"])
def test_an_engine_is_known_by_its_first_bytes_whatever_its_name(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(start + b"\0" * 60)
    assert is_engine(tmp_path / "model.onnx")


def test_an_onnx_file_is_no_engine(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08" + b"\0" * 60)
    assert not is_engine(tmp_path / "model.onnx")
