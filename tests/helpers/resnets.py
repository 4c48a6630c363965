"""Small ResNets with random weights: their state_dicts, and the trees that are read from these."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import forge
from helpers.modules import NAMES, changed, tensor
from yoloship.checkpoint import Checkpoint, Module, Opaque, Tensor
from yoloship.checkpoint.freeze import Finisher
from yoloship.checkpoint.limits import LIMITS, Budget
from yoloship.checkpoint.resnet_weights import resnet_draft

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Arrays = dict[str, npt.NDArray[Any]]

WIDTH = 4


def resnet_arrays(
    *,
    bottleneck: bool = False,
    counts: tuple[int, ...] = (1, 1, 1, 1),
    classes: int = len(NAMES),
    channels: int = 3,
    groups: int = 1,
    deep: bool = False,
    pooled_shortcut: bool = False,
    squeezed: bool = False,
    seed: int = 0,
) -> Arrays:
    """The arrays of a state_dict of torchvision's or timm's ResNet, with `WIDTH` channels in the first layer."""
    rng = np.random.default_rng(seed)
    made: Arrays = {}

    def conv(name: str, outputs: int, inputs: int, k: int) -> None:
        made[f"{name}.weight"] = (rng.standard_normal((outputs, inputs, k, k)) / (inputs * k * k) ** 0.5).astype("f4")

    def norm(name: str, count: int) -> None:
        made[f"{name}.weight"] = rng.uniform(0.7, 1.3, count).astype("f4")
        made[f"{name}.bias"] = rng.normal(0, 0.2, count).astype("f4")
        made[f"{name}.running_mean"] = rng.normal(0, 0.2, count).astype("f4")
        made[f"{name}.running_var"] = rng.uniform(0.5, 1.5, count).astype("f4")
        made[f"{name}.num_batches_tracked"] = np.array(3)

    if deep:
        conv("conv1.0", WIDTH, channels, 3)
        norm("conv1.1", WIDTH)
        conv("conv1.3", WIDTH, WIDTH, 3)
        norm("conv1.4", WIDTH)
        conv("conv1.6", WIDTH, WIDTH, 3)
    else:
        conv("conv1", WIDTH, channels, 7)
    norm("bn1", WIDTH)
    inputs = WIDTH
    for layer, count in enumerate(counts, start=1):
        width = WIDTH * 2 ** (layer - 1)
        outputs = 4 * width if bottleneck else width
        for index in range(count):
            place = f"layer{layer}.{index}"
            kernels = ((width, inputs, 1), (width, width // groups, 3), (outputs, width, 1))
            for number, (out, into, k) in enumerate(
                kernels if bottleneck else ((width, inputs, 3), (width, width, 3)), start=1
            ):
                conv(f"{place}.conv{number}", out, into, k)
                norm(f"{place}.bn{number}", out)
            if squeezed:
                for name, out, into in (("fc1", 2, outputs), ("fc2", outputs, 2)):
                    conv(f"{place}.se.{name}", out, into, 1)
                    made[f"{place}.se.{name}.bias"] = rng.normal(0, 0.2, out).astype("f4")
            if index == 0 and (layer > 1 or inputs != outputs):
                first = 1 if pooled_shortcut else 0
                conv(f"{place}.downsample.{first}", outputs, inputs, 1)
                norm(f"{place}.downsample.{first + 1}", outputs)
            inputs = outputs
    made["fc.weight"] = (rng.standard_normal((classes, inputs)) * 2 / inputs**0.5).astype("f4")
    made["fc.bias"] = rng.normal(0, 0.2, classes).astype("f4")
    return made


def tensors(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Tensor]:
    """The arrays as tensors of a file."""
    return {name: tensor(array, str(array.dtype)) for name, array in arrays.items()}


def resnet_module(arrays: Mapping[str, npt.NDArray[Any]]) -> Module:
    """The whole network that is read from a state_dict."""
    finisher = Finisher("hand.pt", Budget(LIMITS, 1 << 20, 1 << 20, "hand.pt"))
    return finisher.module(resnet_draft(tensors(arrays)), "model")


def state_dict_code(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The entries of a state_dict as pickle code for `forge`, and the bytes of its storages."""
    kinds = {"f": "torch.FloatStorage", "i": "torch.LongStorage"}
    entries, storages = {}, {}
    for index, (name, array) in enumerate(arrays.items()):
        values = np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else np.int64)
        storages[str(index)] = values.tobytes()
        strides = [step // values.itemsize for step in values.strides]
        where = forge.storage(str(index), values.size, kinds[values.dtype.kind])
        entries[name] = forge.tensor(where, array.shape, strides if array.ndim else ())
    return entries, storages


def state_dict_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The file that torch would write for a state_dict."""
    entries, storages = state_dict_code(arrays)
    return forge.zip_bytes(forge.end(forge.table(entries)), storages)


def classifier(module: Module, names: tuple[str, ...] = NAMES) -> Checkpoint:
    """A checkpoint around a classification network."""
    return Checkpoint("hand.pt", "0" * 64, module, "model", "classify", names, (), MappingProxyType({}))


def resnet(**options: Any) -> Checkpoint:
    """A checkpoint of `resnet_arrays`."""
    return classifier(resnet_module(resnet_arrays(**options)), tuple(f"c{i}" for i in range(options.get("classes", 3))))


def saved_square(side: int = 64, mean: tuple[float, ...] = (0.5,) * 3, std: tuple[float, ...] = (0.25,) * 3) -> Opaque:
    """Transforms as YOLOv5 saves them with a classification model."""
    steps: list[Any] = [
        Opaque("utils.augmentations.CenterCrop", ({"h": side, "w": side},)),
        Opaque("utils.augmentations.ToTensor", ({"half": False},)),
        Module("torchvision.transforms.transforms.Normalize", MappingProxyType({"mean": mean, "std": std})),
    ]
    return Opaque("torchvision.transforms.transforms.Compose", ({"transforms": steps},))


def with_transforms(network: Checkpoint, saved: Any) -> Checkpoint:
    """The same checkpoint with saved transforms."""
    from dataclasses import replace

    return replace(network, module=changed(network.module, transforms=saved))
