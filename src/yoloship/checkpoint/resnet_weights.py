"""A ResNet from its state_dict: the architecture follows from the names and the shapes of the tensors.

What they do not say is what torchvision and timm always do: the first block of the layers 2 to 4 halves the map (in the
3x3 convolution), convolutions are padded by half their kernel, the activation is ReLU, the epsilon of batch-norm is
1e-5. A first convolution that is neither 7x7 nor timm's three 3x3 is refused, because its step cannot be told.

Sources: He et al., Deep Residual Learning, 2015, table 1; Xie et al., ResNeXt, 2016; He et al., Bag of Tricks, 2018,
figure 2 (deep stem, average pooling on the shortcut); Hu et al., Squeeze-and-Excitation Networks, 2017; names of
tensors in files that torchvision 0.29 and timm 1.0 wrote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from yoloship.checkpoint.drafts import Draft

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.checkpoint.records import Tensor

_TORCHVISION: Final = "torchvision.models.resnet"
_TIMM: Final = "timm.models.resnet"
_EPS: Final = 1e-5
_MAX_BLOCKS: Final = 256
_NORM: Final = ("weight", "bias", "running_mean", "running_var")
_SHOWN: Final = 4

DEPTHS: Final[Mapping[tuple[str, tuple[int, ...]], str]] = MappingProxyType(
    {
        ("BasicBlock", (2, 2, 2, 2)): "ResNet-18",
        ("BasicBlock", (3, 4, 6, 3)): "ResNet-34",
        ("Bottleneck", (3, 4, 6, 3)): "ResNet-50",
        ("Bottleneck", (3, 4, 23, 3)): "ResNet-101",
        ("Bottleneck", (3, 8, 36, 3)): "ResNet-152",
        ("Bottleneck", (2, 2, 2, 2)): "ResNet-26",
    }
)
"""By the class of the blocks and their number in each layer."""


class NotAResNetError(Exception):
    """Why tensors are not those of a ResNet.

    Attributes:
        near: Whether they are nearly those of one.
    """

    def __init__(self, reason: str, *, near: bool) -> None:
        super().__init__(reason)
        self.near = near


def resnet_draft(tensors: Mapping[str, Tensor]) -> Draft:
    """The network whose state_dict this is, as torchvision or timm would have saved it whole.

    Args:
        tensors: By name, without prefixes.

    Raises:
        NotAResNetError: the names or the shapes are not those of a ResNet, with the first differences.
    """
    is_near = "bn1.weight" in tensors and "layer1.0.conv1.weight" in tensors
    if not is_near:
        absent = [name for name in ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight") if name not in tensors]
        raise NotAResNetError(f"no {', no '.join(absent)}", near=False)
    reader = _Reader(tensors)
    network = reader.network()
    if reader.missing:
        raise NotAResNetError(f"a ResNet without {_listed(reader.missing)}", near=True)
    if left := [name for name in tensors if name not in reader.read and not name.endswith(".num_batches_tracked")]:
        raise NotAResNetError(f"a {reader.title} with {_listed(left)} besides", near=True)
    return network


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(name[:60] for name in names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


@dataclass(slots=True)
class _Reader:
    """Takes the tensors one by one, and notes which are missing."""

    tensors: Mapping[str, Tensor]
    read: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    title: str = "ResNet"

    def network(self) -> Draft:
        names = set(self.tensors)
        deep = "conv1.0.weight" in names
        as_timm = deep or any(".se." in name or ".downsample.2." in name for name in names)
        path = _TIMM if as_timm else _TORCHVISION
        counts = tuple(self._blocks(layer) for layer in range(1, 5))
        kind = "Bottleneck" if "layer1.0.conv3.weight" in names else "BasicBlock"
        self.title = DEPTHS.get((kind, counts), f"ResNet of {'-'.join(map(str, counts))} {kind}s")
        children: dict[object, object] = {}
        if deep:
            children["conv1"] = _sequence(
                self._conv("conv1.0", stride=2), self._norm("conv1.1"), _relu(),
                self._conv("conv1.3"), self._norm("conv1.4"), _relu(), self._conv("conv1.6"),
            )  # fmt: skip
        else:
            stem = self._conv("conv1", stride=2)
            if (kernel := self._shape("conv1.weight")[2:]) not in {(7, 7), ()}:
                raise NotAResNetError(
                    f"a {self.title} whose first convolution is {'x'.join(map(str, kernel))}; "
                    "its stride, and whether pooling follows, are unknown",
                    near=True,
                )
            children["conv1"] = stem
        children["bn1"] = self._norm("bn1")
        children["act1" if as_timm else "relu"] = _relu()
        children["maxpool"] = _draft(
            "torch.nn.modules.pooling.MaxPool2d",
            kernel_size=3, stride=2, padding=1, dilation=1, return_indices=False, ceil_mode=False,
        )  # fmt: skip
        for layer, count in enumerate(counts, start=1):
            blocks = [self._block(f"layer{layer}.{index}", path, kind, layer, index) for index in range(count)]
            children[f"layer{layer}"] = _sequence(*blocks)
        children["global_pool" if as_timm else "avgpool"] = _draft(
            "torch.nn.modules.pooling.AdaptiveAvgPool2d", output_size=(1, 1)
        )
        children["fc"] = self._classifier()
        return _draft(f"{path}.ResNet", children=children)

    def _blocks(self, layer: int) -> int:
        pattern = re.compile(rf"layer{layer}\.(\d{{1,3}})\.")
        numbers = {int(found[1]) for name in self.tensors if (found := pattern.match(name))}
        count = len(numbers)
        if numbers != set(range(count)) or not 1 <= count <= _MAX_BLOCKS:
            raise NotAResNetError(f"a ResNet whose layer{layer} has no blocks 0 to n", near=True)
        return count

    def _block(self, place: str, path: str, kind: str, layer: int, index: int) -> Draft:
        step = 2 if layer > 1 and index == 0 else 1
        strided = "conv2" if kind == "Bottleneck" else "conv1"
        activation = "relu" if path == _TORCHVISION else None
        children: dict[object, object] = {}
        for number in range(1, 4 if kind == "Bottleneck" else 3):
            conv = f"conv{number}"
            groups = self._groups(place) if conv == "conv2" else 1
            children[conv] = self._conv(f"{place}.{conv}", stride=step if conv == strided else 1, groups=groups)
            children[f"bn{number}"] = self._norm(f"{place}.bn{number}")
            if activation is None:
                children[f"act{number}"] = _relu()
        if activation is not None:
            children[activation] = _relu()
        attributes: dict[str, object] = {"stride": step}
        if f"{place}.se.fc1.weight" in self.tensors:
            children["se"] = _draft(
                "timm.layers.squeeze_excite.SEModule",
                children={
                    "fc1": self._conv(f"{place}.se.fc1"),
                    "act": _relu(),
                    "fc2": self._conv(f"{place}.se.fc2"),
                    "gate": _draft("torch.nn.modules.activation.Sigmoid"),
                },
                add_maxpool=False,
            )
        shortcut = self._shortcut(f"{place}.downsample", step)
        if shortcut is not None:
            children["downsample"] = shortcut
        elif step > 1:
            self.missing.append(f"{place}.downsample.0.weight")
        else:
            attributes["downsample"] = None
        return _draft(f"{path}.{kind}", children=children, more=attributes)

    def _groups(self, place: str) -> int:
        """Groups of a block's second convolution: its inputs are the outputs of the first."""
        inputs, weight = self._shape(f"{place}.conv1.weight")[:1], self._shape(f"{place}.conv2.weight")
        if len(weight) != 4 or not inputs or not weight[1] or inputs[0] % weight[1]:
            return 1  # the writer of convolutions refuses it
        return inputs[0] // weight[1]

    def _shortcut(self, place: str, step: int) -> Draft | None:
        if f"{place}.0.weight" in self.tensors:
            return _sequence(self._conv(f"{place}.0", stride=step), self._norm(f"{place}.1"))
        if f"{place}.1.weight" not in self.tensors:
            return None
        pool = _draft("torch.nn.modules.linear.Identity")
        if step > 1:
            pool = _draft(
                "torch.nn.modules.pooling.AvgPool2d", kernel_size=2, stride=step, padding=0, ceil_mode=True,
                count_include_pad=False, divisor_override=None,
            )  # fmt: skip
        return _sequence(pool, self._conv(f"{place}.1"), self._norm(f"{place}.2"))

    def _classifier(self) -> Draft:
        """One linear layer, alone or beside layers without weights (Dropout); activations between two are not known."""
        places = sorted(
            name.removesuffix(".weight")
            for name, tensor in self.tensors.items()
            if name.startswith("fc.") and name.endswith("weight") and len(tensor.shape) == 2
        )
        if len(places) > 1:
            raise NotAResNetError(
                f"a {self.title} whose fc has {len(places)} linear layers ({', '.join(places[:_SHOWN])}); "
                "the activations between them are unknown",
                near=True,
            )
        place = places[0] if places else "fc"
        return _draft(
            "torch.nn.modules.linear.Linear",
            parameters={"weight": self._take(f"{place}.weight"), "bias": self._optional(f"{place}.bias")},
        )

    def _conv(self, place: str, *, stride: int = 1, groups: int = 1) -> Draft:
        kernel = self._shape(f"{place}.weight")[2:]
        return _draft(
            "torch.nn.modules.conv.Conv2d",
            parameters={"weight": self._take(f"{place}.weight"), "bias": self._optional(f"{place}.bias")},
            stride=(stride, stride),
            padding=tuple(extent // 2 for extent in kernel) if len(kernel) == 2 else (0, 0),
            dilation=(1, 1),
            groups=groups,
            padding_mode="zeros",
        )

    def _norm(self, place: str) -> Draft:
        weight, bias, mean, variance = (self._take(f"{place}.{name}") for name in _NORM)
        return _draft(
            "torch.nn.modules.batchnorm.BatchNorm2d",
            parameters={"weight": weight, "bias": bias},
            buffers={"running_mean": mean, "running_var": variance},
            eps=_EPS,
        )

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape if name in self.tensors else ()

    def _take(self, name: str) -> Tensor | None:
        if name not in self.tensors:
            self.missing.append(name)
            return None
        return self._optional(name)

    def _optional(self, name: str) -> Tensor | None:
        self.read.add(name)
        return self.tensors.get(name)


def _draft(
    class_path: str,
    *,
    children: Mapping[object, object] = MappingProxyType({}),
    parameters: Mapping[object, object] = MappingProxyType({}),
    buffers: Mapping[object, object] = MappingProxyType({}),
    more: Mapping[str, object] = MappingProxyType({}),
    **attributes: object,
) -> Draft:
    made = Draft(class_path)
    made.state = {
        "training": False,
        "_parameters": dict(parameters),
        "_buffers": dict(buffers),
        "_modules": dict(children),
        **more,
        **attributes,
    }
    return made


def _sequence(*layers: Draft) -> Draft:
    return _draft(
        "torch.nn.modules.container.Sequential", children={str(index): layer for index, layer in enumerate(layers)}
    )


def _relu() -> Draft:
    return _draft("torch.nn.modules.activation.ReLU", inplace=False)
