"""Without a GPU: tests/gpu/test_video_decoding.py, on a stand-in for the driver and one for PyAV's NVDEC."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.cuda_emulator import with_stand_in_driver
from helpers.pyav import needs_pyav_for_gpus
from yoloship.detect.gpu.video_decoding import PacketsInTurn, VideosInTurn

ROOT = Path(__file__).resolve().parents[4]

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
needs_pyav_for_gpus()


def test_a_detector_lends_its_decoders_to_sources_with_videos(tmp_path: Path) -> None:
    tests = "tests/gpu/test_video_decoding.py"
    command = (sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", tests)
    done = subprocess.run(
        command, cwd=ROOT, env=with_stand_in_driver(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "13 passed" in done.stdout


def test_several_gpus_decode_videos_in_turn() -> None:
    class Part:
        side_by_side = 8
        takes_files = True

        def __init__(self, name: str) -> None:
            self.name = name

        def open(self, path: Path, _resources: object, _tell: object) -> str:
            return f"{path} on {self.name}"

    parts: Any = [Part("cuda:0"), Part("cuda:1")]
    videos: Any = VideosInTurn(parts)
    assert (videos.side_by_side, videos.takes_files) == (16, True)
    opened = [videos.open(Path(name), None, None) for name in "abc"]
    assert opened == ["a on cuda:0", "b on cuda:1", "c on cuda:0"]


def test_several_gpus_decode_live_streams_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Part:
        def __init__(self, name: str, has_fallback: bool) -> None:
            self.name, self.has_fallback = name, has_fallback

        def nvdec(self) -> str:
            return self.name

    class Packets:
        def __init__(self, nvdec: str) -> None:
            self.nvdec = nvdec

        def open(self, coded: str) -> str:
            return f"{coded} on {self.nvdec}"

    monkeypatch.setattr("yoloship.detect.gpu.video_decoding.NvdecPackets", Packets)
    parts: Any = [Part("cuda:0", True), Part("cuda:1", True)]
    packets: Any = PacketsInTurn(parts)
    assert [packets.open(name) for name in "abc"] == ["a on cuda:0", "b on cuda:1", "c on cuda:0"]
    assert packets.has_fallback
    strict: Any = [Part("cuda:0", False)]
    assert not PacketsInTurn(strict).has_fallback
