# mypy: disable-error-code="misc"
# (torch is not installed where types are checked, so its classes are Any there)
"""The YOLOv5n network, release-6 form, as its published checkpoints show it: names, shapes and attributes.

Attribute names are those of the wire format (`conv`, `bn`, `cv1`, `m`, `anchors`), since the pickle holds them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
# Log-space k-means over the boxes of 300 scenes, rounded so that anchor / stride is exact in half precision.
ANCHORS = (
    ((26, 26), (40, 40), (80, 36)),
    ((40, 96), (62, 62), (136, 62)),
    ((92, 96), (142, 138), (288, 272)),
)


class Conv(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, p: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2 if p is None else p, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3, and the sum with the input where `add`."""

    def __init__(self, c: int, add: bool) -> None:
        super().__init__()
        self.cv1 = Conv(c, c)
        self.cv2 = Conv(c, c, 3)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(nn.Module):
    """Two branches, one through bottlenecks, joined."""

    def __init__(self, c1: int, c2: int, n: int = 1, add: bool = True) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c2 // 2)
        self.cv2 = Conv(c1, c2 // 2)
        self.cv3 = Conv(c2, c2)
        self.m = nn.Sequential(*(Bottleneck(c2 // 2, add) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Module):
    """Three chained max pools beside their input."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c1 // 2)
        self.cv2 = Conv(c1 * 2, c2)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.cv1(x)
        b = self.m(a)
        c = self.m(b)
        return self.cv2(torch.cat((a, b, c, self.m(c)), 1))


class Concat(nn.Module):
    """Join along a dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.d = 1

    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat(x, self.d)


class Detect(nn.Module):
    """A 1×1 convolution a level; `anchors` are in cells of the level, as the wire format has them."""

    def __init__(self, nc: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.nc, self.no, self.nl, self.na = nc, nc + 5, len(ANCHORS), len(ANCHORS[0])
        self.grid = [torch.empty(0)] * self.nl
        self.anchor_grid = [torch.empty(0)] * self.nl
        self.stride = torch.tensor([float(s) for s in STRIDES])
        self.register_buffer("anchors", torch.tensor(ANCHORS).float() / self.stride.view(-1, 1, 1))
        self.m = nn.ModuleList(nn.Conv2d(c, self.no * self.na, 1) for c in channels)
        self.inplace = True
        for convolution, stride in zip(self.m, STRIDES, strict=True):
            # A prior, as in focal loss (arXiv:1708.02002, section 4.1): few of the cells hold an object.
            bias = convolution.bias.detach().view(self.na, -1)
            bias[:, 4] = math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] = math.log(0.6 / (nc - 0.99))

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [convolution(level) for convolution, level in zip(self.m, x, strict=True)]


class DetectionModel(nn.Module):
    """YOLOv5n: backbone, SPPF, top-down and bottom-up paths, three heads.

    `forward` gives each level's undecoded map, (B, 3·(5+C), h, w), finest first.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        nc = len(names)
        layers: list[tuple[Any, int | list[int]]] = [
            (Conv(3, 16, 6, 2, 2), -1),
            (Conv(16, 32, 3, 2), -1),
            (C3(32, 32, 1), -1),
            (Conv(32, 64, 3, 2), -1),
            (C3(64, 64, 2), -1),
            (Conv(64, 128, 3, 2), -1),
            (C3(128, 128, 3), -1),
            (Conv(128, 256, 3, 2), -1),
            (C3(256, 256, 1), -1),
            (SPPF(256, 256), -1),
            (Conv(256, 128), -1),
            (nn.Upsample(None, 2.0, "nearest"), -1),
            (Concat(), [-1, 6]),
            (C3(256, 128, 1, False), -1),
            (Conv(128, 64), -1),
            (nn.Upsample(None, 2.0, "nearest"), -1),
            (Concat(), [-1, 4]),
            (C3(128, 64, 1, False), -1),
            (Conv(64, 64, 3, 2), -1),
            (Concat(), [-1, 14]),
            (C3(128, 128, 1, False), -1),
            (Conv(128, 128, 3, 2), -1),
            (Concat(), [-1, 10]),
            (C3(256, 256, 1, False), -1),
            (Detect(nc, (64, 128, 256)), [17, 20, 23]),
        ]
        for index, (layer, source) in enumerate(layers):
            layer.i, layer.f = index, source
        self.model = nn.Sequential(*(layer for layer, _ in layers))
        self.save = [4, 6, 10, 14, 17, 20, 23]
        self.names = dict(enumerate(names))
        self.nc = nc
        self.stride = torch.tensor([float(s) for s in STRIDES])
        self.inplace = True

    def forward(self, x: Tensor) -> list[Tensor]:
        kept: list[Any] = []
        value: Any = x
        for layer in self.model:
            if isinstance(layer.f, list):
                value = [value if source == -1 else kept[source] for source in layer.f]
            value = layer(value)
            kept.append(value if layer.i in self.save else None)
        heads: list[Tensor] = value
        return heads
