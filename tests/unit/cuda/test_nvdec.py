"""Without a GPU: the tests of tests/gpu/test_nvdec.py, on a stand-in for the driver and one for PyAV's NVDEC."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cuda_emulator import with_stand_in_driver
from helpers.nvdec_stand_in import SIZE
from helpers.pyav import needs_pyav_for_gpus
from helpers.videos import Clip, write_clip

ROOT = Path(__file__).resolve().parents[3]

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
needs_pyav_for_gpus()


def test_decoders_of_the_gpu_open_decode_and_close(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", "tests/gpu/test_nvdec.py")
    done = subprocess.run(
        command, cwd=ROOT, env=with_stand_in_driver(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "18 passed" in done.stdout


@pytest.mark.parametrize(("stated", "said"), [("cuda", "Invalid argument"), ("yuv420p", "Function not implemented")])
def test_why_the_decoder_of_av1_must_not_be_told_the_format_of_the_gpu(tmp_path: Path, stated: str, said: str) -> None:
    """What PyAV does with a GPU, without one: a stated format of a device counts as chosen. Another makes it choose."""
    import av

    path = write_clip(tmp_path / "a.mp4", Clip(codec="libsvtav1", size=SIZE, options={"preset": "12"}))
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        context = av.CodecContext.create("av1", "r")
        context.extradata = video.codec_context.extradata
        context.pix_fmt = stated
        with pytest.raises(av.FFmpegError, match=said):
            for packet in container.demux(video):
                context.decode(packet)
