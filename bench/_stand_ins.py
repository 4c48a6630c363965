"""Stand-ins for GPUs, their decoders and a runtime: with them `gpu_media.py --stand-ins` runs its every line on a CPU.

The driver runs our kernels on the CPU, nvJPEG's and NVDEC's pixels come from the CPU's decoders, and ONNX Runtime runs
the network on the CPU behind TensorRT's interface. All answers are right, and no time means anything.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import nvjpeg_standin
from helpers import tensorrt_standin as standin
from helpers.cuda_emulator import with_stand_in_driver
from yoloship.graph.onnx_file import parse_onnx
from yoloship.model import METADATA_KEY, ModelInfo

if TYPE_CHECKING:
    from yoloship.cuda.device import Device
    from yoloship.runtime.session import DeviceSession, RunOptions

MOST_IMAGES = 32


def environment(cache: Path) -> dict[str, str]:
    """For a process that finds two GPUs and the JPEG engine. The cache is an empty folder."""
    found = with_stand_in_driver(cache)
    found["LD_LIBRARY_PATH"] += f":{nvjpeg_standin.folder()}"
    return {**found, "STAND_IN_DEVICES": "2"}


def install() -> list[Any]:
    """Put the others in their places, in a process with that environment. Keep what is returned."""
    from yoloship.cuda import nvdec
    from yoloship.models import gpu_loading

    folder = Path(tempfile.mkdtemp(prefix="yoloship-bench-"))
    kept: list[Any] = [nvjpeg_standin.install_if_on_the_path()]

    def opened(model: Path | bytes, device: Device, _: RunOptions, __: str | None = None) -> DeviceSession:
        from yoloship.runtime.tensorrt import TensorRTSession

        graph = parse_onnx(model if isinstance(model, bytes) else model.read_bytes(), "model")
        images = graph.graph.input[0]
        sides = [dim.dim_value for dim in images.type.tensor_type.shape.dim][1:]
        profile = {images.name: [(batch, *sides) for batch in (1, 1, MOST_IMAGES)]}
        info = ModelInfo.from_json(next(one.value for one in graph.metadata_props if one.key == METADATA_KEY))
        path = folder / f"{len(list(folder.iterdir()))}.engine"
        return TensorRTSession.open(
            standin.write_plan(path, graph, [profile], info=info), device, flavour=standin.flavour()
        )

    def load_av(_: str) -> Any:
        from helpers.nvdec_stand_in import StandInAv
        from yoloship.cuda.device import Device

        if len(kept) == 1:
            kept.append(StandInAv(Device.open()))
        return kept[1]

    runtime: Any = gpu_loading
    decoders: Any = nvdec
    runtime._open, decoders.load_av = opened, load_av
    return kept
