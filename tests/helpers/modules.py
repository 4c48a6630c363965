"""Module trees as a checkpoint would hold them, made by hand: layers, blocks, a whole detector."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.checkpoint import Checkpoint, Module, Tensor
from yoloship.checkpoint.records import Opaque

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.model import DType

NAMES = ("alpha", "beta", "gamma")


@dataclass(frozen=True)
class Memory:
    """A storage over an array."""

    array: npt.NDArray[np.generic]

    @property
    def dtype(self) -> DType:
        name: DType = self.array.dtype.name
        return name

    @property
    def length(self) -> int:
        return self.array.size

    def elements(self) -> npt.NDArray[np.generic]:
        return self.array.reshape(-1)

    def release(self) -> None:
        pass


def tensor(array: npt.ArrayLike, dtype: str = "float32") -> Tensor:
    values = np.ascontiguousarray(np.asarray(array, dtype))
    strides = tuple(step // values.itemsize for step in values.strides)
    return Tensor(Memory(values), 0, values.shape, strides)


def module(
    class_path: str,
    attributes: Mapping[str, Any] | None = None,
    parameters: Mapping[str, npt.ArrayLike | None] | None = None,
    buffers: Mapping[str, npt.ArrayLike] | None = None,
    /,
    **children: Module,
) -> Module:
    return Module(
        class_path,
        MappingProxyType(dict(attributes or {})),
        MappingProxyType({k: None if v is None else tensor(v) for k, v in (parameters or {}).items()}),
        MappingProxyType({k: tensor(v) for k, v in (buffers or {}).items()}),
        MappingProxyType(dict(children)),
    )


def changed(original: Module, **attributes: Any) -> Module:
    """The same module with other attributes."""
    merged = MappingProxyType({**original.attributes, **attributes})
    return Module(original.class_path, merged, original.parameters, original.buffers, original.children)


def with_children(original: Module, **children: Module | None) -> Module:
    """The same module with other children; None removes one."""
    merged = {k: v for k, v in {**original.children, **children}.items() if v is not None}
    return Module(
        original.class_path, original.attributes, original.parameters, original.buffers, MappingProxyType(merged)
    )


class Maker:
    """Makes modules with random weights, the same for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def values(self, *shape: int, scale: float = 1.0) -> npt.NDArray[np.float32]:
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def conv2d(
        self, inputs: int, outputs: int, k: int = 1, s: int = 1, *, bias: bool = False, **changes: Any
    ) -> Module:
        attributes = {
            "kernel_size": (k, k),
            "stride": (s, s),
            "padding": (k // 2, k // 2),
            "dilation": (1, 1),
            "groups": 1,
            "padding_mode": "zeros",
            **changes,
        }
        kernel = attributes["kernel_size"]
        per_group = inputs // attributes["groups"]
        weight = self.values(outputs, per_group, *kernel, scale=(per_group * kernel[0] * kernel[1]) ** -0.5)
        parameters = {"weight": weight, "bias": self.values(outputs, scale=0.1) if bias else None}
        return module("torch.nn.modules.conv.Conv2d", attributes, parameters)

    def batch_norm(self, channels: int) -> Module:
        return module(
            "torch.nn.modules.batchnorm.BatchNorm2d",
            {"eps": 1e-3},
            {"weight": 1 + self.values(channels, scale=0.1), "bias": self.values(channels, scale=0.1)},
            {
                "running_mean": self.values(channels, scale=0.1),
                "running_var": self.rng.uniform(0.5, 1.5, channels).astype(np.float32),
            },
        )

    def conv(
        self, inputs: int, outputs: int, k: int = 1, s: int = 1, *, act: Module | None = None, **changes: Any
    ) -> Module:
        return module(
            "models.common.Conv",
            conv=self.conv2d(inputs, outputs, k, s, **changes),
            bn=self.batch_norm(outputs),
            act=act or activation("SiLU"),
        )

    def detect(self, inputs: Sequence[int], strides: Sequence[int], classes: int = len(NAMES)) -> Module:
        levels = len(strides)
        convs = {str(i): self.conv2d(c, 3 * (5 + classes), bias=True) for i, c in enumerate(inputs)}
        return module(
            "models.yolo.Detect",
            {"nc": classes, "no": 5 + classes, "nl": levels, "na": 3, "stride": tensor(np.array(strides))},
            None,
            {"anchors": self.rng.uniform(1, 4, (levels, 3, 2)).astype(np.float32)},
            m=module("torch.nn.modules.container.ModuleList", **convs),
        )

    def segment(
        self, inputs: Sequence[int], strides: Sequence[int], classes: int = len(NAMES), masks: int = 4
    ) -> Module:
        """YOLOv5's segmentation head with so many prototypes."""
        numbers = 5 + classes + masks
        detect = self.detect(inputs, strides, classes)
        convs = {str(i): self.conv2d(c, 3 * numbers, bias=True) for i, c in enumerate(inputs)}
        upsample = {"size": None, "scale_factor": 2.0, "mode": "nearest", "align_corners": None}
        proto = module(
            "models.common.Proto",
            cv1=self.conv(inputs[0], 6, 3),
            upsample=module("torch.nn.modules.upsampling.Upsample", upsample),
            cv2=self.conv(6, 6, 3),
            cv3=self.conv(6, masks),
        )
        forward = Opaque("__builtin__.getattr", ("models.yolo.Detect", "forward"))
        attributes = {**detect.attributes, "no": numbers, "nm": masks, "npr": 6, "detect": forward}
        return replace(
            with_children(detect, m=module("torch.nn.modules.container.ModuleList", **convs), proto=proto),
            class_path="models.yolo.Segment",
            attributes=MappingProxyType(attributes),
        )


def activation(name: str, **attributes: Any) -> Module:
    return module(f"torch.nn.modules.activation.{name}", attributes)


def sequential(*parts: Module) -> Module:
    return module("torch.nn.modules.container.Sequential", **{str(i): part for i, part in enumerate(parts)})


_MODELS = MappingProxyType({"detect": "models.yolo.DetectionModel", "segment": "models.yolo.SegmentationModel"})


def checkpoint(
    layers: Sequence[tuple[Module, int | list[int]]],
    *,
    strides: tuple[int, ...] = (8,),
    names: tuple[str, ...] = NAMES,
    task: str = "detect",
) -> Checkpoint:
    """A model whose layers, the head among them, take from where they say; a detector if no other task is given."""
    numbered = [changed(part, i=i, f=source) for i, (part, source) in enumerate(layers)]
    root = module(_MODELS[task], model=sequential(*numbered))
    return Checkpoint("hand.pt", "0" * 64, root, "model", task, names, strides, MappingProxyType({}))


def around(block: Module, channels: int, out_channels: int, *, seed: int = 3, stride: int = 1) -> Checkpoint:
    """A detector at stride 8·`stride` whose only block between stem and head is this one."""
    make = Maker(seed)
    head = make.detect([out_channels], [8 * stride])
    stem = make.conv(3, channels, 8, 8, padding=(0, 0))
    return checkpoint([(stem, -1), (block, -1), (head, [-1])], strides=(8 * stride,))


class Anchorless(Maker):
    """Makes modules of the anchor-free networks, under the class paths of version 8.1 and later."""

    def conv(
        self, inputs: int, outputs: int, k: int = 1, s: int = 1, *, act: Module | None = None, **changes: Any
    ) -> Module:
        made = super().conv(inputs, outputs, k, s, act=act, **changes)
        return module("ultralytics.nn.modules.conv.Conv", **{k: v for k, v in made.children.items() if v is not None})

    def branch(self, inputs: Sequence[int], outputs: int) -> Module:
        """A head's branch: for each level a convolution and a plain one."""
        levels = [sequential(self.conv(c, c, 3), self.conv2d(c, outputs, bias=True)) for c in inputs]
        return module(
            "torch.nn.modules.container.ModuleList", **{str(level): part for level, part in enumerate(levels)}
        )

    def detect_head(
        self,
        inputs: Sequence[int],
        strides: Sequence[int],
        *,
        classes: int = len(NAMES),
        reg_max: int = 16,
        name: str = "Detect",
        two: bool = False,
    ) -> Module:
        dfl = module("torch.nn.modules.linear.Identity")
        if reg_max > 1:
            weight = np.arange(reg_max, dtype=np.float32).reshape(1, reg_max, 1, 1)
            conv = module("torch.nn.modules.conv.Conv2d", {}, {"weight": weight, "bias": None})
            dfl = module("ultralytics.nn.modules.block.DFL", {"c1": reg_max}, conv=conv)
        attributes = {
            "nc": classes, "no": classes + 4 * reg_max, "nl": len(strides), "reg_max": reg_max,
            "stride": tensor(np.array(strides)), "anchors": tensor(np.zeros((2, 1))), "strides": tensor(np.zeros(1)),
        }  # fmt: skip
        children = {
            f"{prefix}{branch}": self.branch(inputs, columns)
            for prefix in ("", "one2one_")[: 1 + two]
            for branch, columns in (("cv2", 4 * reg_max), ("cv3", classes))
        }
        return module(f"ultralytics.nn.modules.head.{name}", attributes, dfl=dfl, **children)

    def segment_head(
        self, inputs: Sequence[int], strides: Sequence[int], *, masks: int = 4, name: str = "Segment", two: bool = False
    ) -> Module:
        """A segmentation head with so many prototypes; ``Segment26`` makes them of all levels."""
        detect = self.detect_head(inputs, strides, reg_max=1 if name == "Segment26" else 4, name=name, two=two)
        parts = {
            "cv1": self.conv(inputs[0], 6, 3),
            "upsample": self.transposed(6),
            "cv2": self.conv(6, 6, 3),
            "cv3": self.conv(6, masks),
        }
        if name == "Segment26":
            refine = {str(i): self.conv(c, inputs[0]) for i, c in enumerate(inputs[1:])}
            parts["feat_refine"] = module("torch.nn.modules.container.ModuleList", **refine)
            parts["feat_fuse"] = self.conv(inputs[0], inputs[0], 3)
            parts["semseg"] = self.conv(inputs[0], 3, 3)
        proto = module(f"ultralytics.nn.modules.block.Proto{name.removeprefix('Segment')}", **parts)
        branches = {f"{prefix}cv4": self.branch(inputs, masks) for prefix in ("", "one2one_")[: 1 + two]}
        return changed(with_children(detect, proto=proto, **branches), nm=masks, npr=6)

    def transposed(self, channels: int) -> Module:
        """The learned upsampling of a Proto module: twice as high and wide."""
        attributes = {
            "in_channels": channels, "out_channels": channels, "kernel_size": (2, 2), "stride": (2, 2),
            "padding": (0, 0), "dilation": (1, 1), "output_padding": (0, 0), "groups": 1, "padding_mode": "zeros",
        }  # fmt: skip
        weights = {"weight": self.values(channels, channels, 2, 2, scale=0.5), "bias": self.values(channels)}
        return module("torch.nn.modules.conv.ConvTranspose2d", attributes, weights)


def apart(head: Module, *, reg_max: int = 4) -> Module:
    """Two heads alike over two levels of 8 channels, with at most one likely class and a small box for each cell.

    So suppression removes nothing, and both heads give the same result.
    """
    make = Anchorless(8)
    bias = np.tile([2.0, 1.0, -2.0, -3.0], 4) if reg_max > 1 else np.full(4, 0.3)
    classes, boxes = [], []
    for _ in range(2):
        weight = np.zeros((3, 8, 1, 1), np.float32)
        weight[0] = make.values(8, 1, 1)
        weight[1] = -weight[0]
        classes.append(_last(make, weight, np.array([0, -2, -20])))
        boxes.append(_last(make, make.values(4 * reg_max, 8, 1, 1, scale=0.1 if reg_max > 1 else 0.01), bias))
    named = {
        name: module("torch.nn.modules.container.ModuleList", **{"0": levels[0], "1": levels[1]})
        for name, levels in (("cv2", boxes), ("cv3", classes))
    }
    if (extras := head.children.get("cv4")) is not None:
        named["cv4"] = extras
    return with_children(head, **named, **{f"one2one_{name}": levels for name, levels in named.items()})


def _last(make: Anchorless, weight: npt.ArrayLike, bias: npt.ArrayLike) -> Module:
    plain = make.conv2d(8, len(np.asarray(weight)))
    parameters = MappingProxyType({"weight": tensor(weight), "bias": tensor(bias)})
    return sequential(make.conv(8, 8, 3), replace(plain, parameters=parameters))


def anchorless_checkpoint(
    layers: Sequence[tuple[Module, int | list[int]]],
    *,
    strides: tuple[int, ...] = (8,),
    names: tuple[str, ...] = NAMES,
    version: str | None = "8.4.190",
    task: str = "detect",
) -> Checkpoint:
    """A network of the family without anchors whose layers, the head among them, take from where they say."""
    numbered = [changed(part, i=i, f=source) for i, (part, source) in enumerate(layers)]
    model = {"detect": "Detection", "segment": "Segmentation", "pose": "Pose", "obb": "OBB"}[task]
    root = module(f"ultralytics.nn.tasks.{model}Model", model=sequential(*numbered))
    metadata = MappingProxyType({} if version is None else {"version": version})
    return Checkpoint("hand.pt", "0" * 64, root, "model", task, names, strides, metadata)


def anchorless_around(block: Module, channels: int, out_channels: int, *, stride: int = 1, k: int = 8) -> Checkpoint:
    """A detector without anchors at stride k·`stride` whose only block between stem and head is this one."""
    make = Anchorless(3)
    head = make.detect_head([out_channels], [k * stride])
    stem = make.conv(3, channels, k, k, padding=(0, 0))
    return anchorless_checkpoint([(stem, -1), (block, -1), (head, [-1])], strides=(k * stride,))
