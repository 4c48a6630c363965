"""A served model as KServe's protocol describes it: its metadata, its configuration and its statistics.

Source: KServe, Open Inference Protocol, version 2, "Model Metadata"; Triton, "Model Configuration Extension" and
"Statistics Extension".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.model import ModelInfo, TensorSpec
    from yoloship.serve.kserve_network import Network

VERSION: Final = "1"
"""The only version of each model."""
_DATATYPES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "bool": ("BOOL", "TYPE_BOOL"),
        **{
            f"{kind}{bits}": (f"{kind.upper()}{bits}", f"TYPE_{kind.upper()}{bits}")
            for kind, bits in (("uint", 8), ("int", 8), ("int", 16), ("int", 32), ("int", 64))
        },
        **{f"float{bits}": (f"FP{bits}", f"TYPE_FP{bits}") for bits in (16, 32, 64)},
        "bfloat16": ("BF16", "TYPE_BF16"),
    }
)
"""Element type → datatype of the protocol, and its name in a configuration."""


@dataclass(slots=True)
class Counts:
    """What a network has done since it was loaded. Times are in seconds, added up over requests.

    Attributes:
        answered: Requests with an answer.
        failed: Requests that failed.
        images: Images of the answered ones.
        last_s: When the last request was answered, since the epoch; 0 if none was.
        runs: Batch size → how many runs had it, and their seconds.
    """

    answered: int = 0
    failed: int = 0
    images: int = 0
    last_s: float = 0.0
    total_s: float = 0.0
    failed_s: float = 0.0
    queue_s: float = 0.0
    network_s: float = 0.0
    runs: dict[int, tuple[int, float]] = field(default_factory=dict)


def datatype_of(spec: TensorSpec) -> str:
    """The datatype of a model's tensor.

    Raises:
        InputError: the protocol has no such datatype.
    """
    return _datatypes(spec)[0]


def _datatypes(spec: TensorSpec) -> tuple[str, str]:
    if spec.dtype not in _DATATYPES:
        raise InputError("KServe's protocol has no such element type", subject=spec.name, got=spec.dtype)
    return _DATATYPES[spec.dtype]


def metadata_of(name: str, network: Network) -> dict[str, Any]:
    """The metadata of a model: an extent that is open is -1."""
    return {
        "name": name,
        "versions": [VERSION],
        "platform": f"yoloship_{network.runtime}",
        "inputs": [_tensor(spec) for spec in network.inputs],
        "outputs": [_tensor(spec) for spec in network.outputs],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec), "shape": _extents(spec)}


def _extents(spec: TensorSpec) -> list[int]:
    return [axis if isinstance(axis, int) else -1 for axis in spec.shape]


def config_of(name: str, network: Network, info: ModelInfo) -> dict[str, Any]:
    """The configuration of a model, as Triton would give it.

    With ``max_batch_size`` above 0 the first extent of each tensor is the batch, which ``dims`` leave out.
    """
    most = network.max_batch if network.is_batched else 0
    skipped = 1 if most else 0

    def port(spec: TensorSpec) -> dict[str, Any]:
        return {"name": spec.name, "data_type": _datatypes(spec)[1], "dims": _extents(spec)[skipped:]}

    return {
        "name": name,
        "platform": f"yoloship_{network.runtime}",
        "backend": "yoloship",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": most,
        "input": [{**port(spec), "format": "FORMAT_NONE"} for spec in network.inputs],
        "output": [port(spec) for spec in network.outputs],
        "parameters": {"metadata": {"string_value": client_metadata(info, network.canvas_hw)}},
    }


def client_metadata(info: ModelInfo, canvas_hw: tuple[int, int]) -> str:
    """What Ultralytics' client reads about a model in ``parameters.metadata``: a Python literal."""
    fields: dict[str, Any] = {
        "task": info.task,
        "stride": max(info.strides, default=1),
        "batch": info.batch or 1,
        "imgsz": list(canvas_hw),
        "names": dict(enumerate(info.class_names)),
        "channels": info.channels,
        "end2end": info.head == "one2one",
    }
    if info.keypoint_shape is not None:
        fields["kpt_shape"] = list(info.keypoint_shape)
    return repr(fields)


def statistics_of(name: str, network: Network | None) -> dict[str, Any]:
    """What a model has done since it was loaded, with tensors: counts, and nanoseconds in all."""
    counts = Counts() if network is None else network.counts

    def spent(count: int, seconds: float) -> dict[str, int]:
        return {"count": count, "ns": round(seconds * 1e9)}

    return {
        "name": name,
        "version": VERSION,
        "last_inference": round(counts.last_s * 1e3),
        "inference_count": counts.images,
        "execution_count": sum(runs for runs, _ in counts.runs.values()),
        "inference_stats": {
            "success": spent(counts.answered, counts.total_s),
            "fail": spent(counts.failed, counts.failed_s),
            "queue": spent(counts.answered, counts.queue_s),
            "compute_input": spent(counts.answered, 0),
            "compute_infer": spent(counts.answered, counts.network_s),
            "compute_output": spent(counts.answered, 0),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": spent(runs, 0),
                "compute_infer": spent(runs, seconds),
                "compute_output": spent(runs, 0),
            }
            for size, (runs, seconds) in sorted(counts.runs.items())
        ],
    }
