from __future__ import annotations

from pathlib import Path

import pytest

import yoloship
from yoloship.cuda.device import Device
from yoloship.errors import CudaError, SessionError
from yoloship.runtime.tensorrt import TensorRT


@pytest.mark.parametrize("is_installed", [True, False])
def test_an_engine_without_a_gpu_says_what_it_needs_and_what_a_cpu_takes(
    is_installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorRT, "is_installed", classmethod(lambda _: is_installed))

    def absent(_: int = 0) -> Device:
        raise CudaError("no NVIDIA driver", subject="CUDA", code=35, hint="install it")

    monkeypatch.setattr(Device, "open", absent)
    engine = tmp_path / "best.engine"
    engine.write_bytes(b"vtrt" + b"\0" * 60)
    with pytest.raises(SessionError) as caught:
        yoloship.load(engine)
    assert str(caught.value) == (
        f"{engine}: an engine runs on an NVIDIA GPU, and none can be used here (CUDA: no NVIDIA driver); "
        "run 'yoloship doctor --for cuda'; on a CPU use the ONNX file that it was built from"
    )
