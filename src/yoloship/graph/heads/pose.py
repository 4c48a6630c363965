"""Heads for keypoints: each box has K points, with their visibility if a point has three numbers.

A third branch of each level, ``cv4``, gives x and y of every point relative to its cell, and a visibility logit:

    YOLOv8, 11:  x = (2·t + column)·stride          v = σ(t)
    YOLO26:      x = (t + column + ½)·stride        v = σ(t)

and the same for y with the row. The factor and the −½ that make them alike go into the weights of the last convolution.
So in the form ``heads`` the channels of ``extra{l}`` are, for point after point, x and y as distances from the centre
of the cell, in cells, and the visibility logit, whatever the version. In YOLO26, ``cv4`` gives features, ``cv4_kpts``
the numbers; ``cv4_sigma`` and ``flow_model`` serve the loss alone (Li et al., Human Pose Regression with Residual
Log-likelihood Estimation, 2021) and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from yoloship._util.fields import is_int
from yoloship.graph.blocks import emit
from yoloship.graph.convolution import emit_convolution, read_conv, scaled
from yoloship.graph.heads.anchor_free import DetectHead
from yoloship.graph.heads.head import split
from yoloship.graph.heads.segment import check_forward
from yoloship.model import MAX_KEYPOINTS, is_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from yoloship.checkpoint.records import Value
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.module_view import ModuleView
    from yoloship.model import KeypointShape

_OF_THE_LOSS: Final = ("flow_model", "cv4_sigma", "one2one_cv4_sigma")


@dataclass(frozen=True, slots=True)
class PoseHead(DetectHead):
    """The Pose module of YOLOv8 and 11.

    Class attributes:
        factor: What the last convolution's x and y are multiplied with, so that they are distances in cells.
        shift: What is added to them then, so that they are from the centre of the cell.

    Attributes:
        shape: How many points a box has, and how many numbers a point: 2, or 3 with a visibility.
    """

    task = "pose"
    branches: ClassVar[tuple[str, ...]] = ("cv2", "cv3", "cv4")
    factor: ClassVar[float] = 2.0
    shift: ClassVar[float] = -0.5

    shape: KeypointShape = (0, 0)

    @classmethod
    def read(cls, layer: ModuleView) -> Self:
        """Read the module."""
        shape = read_keypoint_shape(layer)
        layer.require("nk", shape[0] * shape[1])
        check_forward(layer)
        base = DetectHead.read(layer)
        return cls(base.module, base.classes, base.strides, base.reg_max, base.choices, shape)

    @property
    def extra_columns(self) -> int:
        """The numbers of all points."""
        return self.shape[0] * self.shape[1]

    @property
    def keypoint_shape(self) -> KeypointShape:
        """How many points a box has, and how many numbers a point."""
        return self.shape

    def keypoint_names(self, root: ModuleView) -> tuple[str, ...]:
        """The model's `kpt_names`, if all its classes have the same; its `kpt_shape` must be that of the head."""
        if root.optional_value("kpt_shape") is not None and (stated := read_keypoint_shape(root)) != self.shape:
            raise root.error(
                "its 'kpt_shape' contradicts that of the head", expected=str(list(self.shape)), got=list(stated)
            )
        value = root.optional_value("kpt_names")
        if value is None:
            return ()
        sets = [self._names(names) for names in (value.values() if isinstance(value, dict) else (value,))]
        if not all(sets):
            raise root.error(
                "its 'kpt_names' contradict its 'kpt_shape'",
                expected=f"{self.shape[0]} names for each class",
                got=value,
            )
        return sets[0] if len(set(sets)) == 1 else ()

    def _names(self, value: Value) -> tuple[str, ...]:
        """The names of one class; none if they are not names, or too many or too few."""
        if not isinstance(value, list | tuple) or len(value) != self.shape[0]:
            return ()
        names = tuple(name for name in value if is_name(name))
        return names if len(names) == len(value) else ()

    def extra_maps(self, builder: Builder, inputs: Sequence[Wire], prefix: str) -> tuple[Wire, ...]:
        """Write the branch of the points; the last convolution of each level gives distances from the cell's centre."""
        levels = self.module.child(f"{prefix}cv4").submodules()
        if len(levels) != len(inputs):
            raise self.module.error(
                f"'{prefix}cv4' has a different number of levels", expected=str(len(inputs)), got=len(levels)
            )
        return tuple(self._distances(builder, level.submodules(), x) for level, x in zip(levels, inputs, strict=True))

    def _distances(self, builder: Builder, layers: Sequence[ModuleView], x: Wire) -> Wire:
        if not layers:
            raise self.module.error("has a branch of points without layers", expected="convolutions")
        for layer in layers[:-1]:
            x = emit(builder, layer, (x,))
        convolution = read_conv(layers[-1])
        if convolution.out_channels != self.extra_columns:
            raise layers[-1].error(
                "gives a different number of channels than the keypoint shape says",
                expected=f"{self.extra_columns} for {self.shape[0]} points of {self.shape[1]} numbers",
                got=convolution.out_channels,
            )
        factors, shifts = np.ones(self.shape), np.zeros(self.shape)
        factors[:, :2], shifts[:, :2] = self.factor, self.shift
        return emit_convolution(builder, layers[-1], scaled(convolution, factors.ravel(), shifts.ravel()), x)

    def decode_extras(self, builder: Builder, raw: Wire, points: Wire) -> Wire:
        """Write the way from distances to model pixels, and from logits to visibilities."""
        place, (count, numbers) = f"{self.module.place}.points", self.shape
        batch, _, cells = raw.shape
        open_cells = -1 if builder.dynamic_hw else raw.fixed(2)
        target = builder.constant(f"{place}.shape", np.array([0, count, numbers, open_cells]), "int64")
        rows = builder.node("Reshape", f"{place}.rows", (raw, target), (batch, count, numbers, cells))
        axes = builder.constant(f"{place}.axes", np.array([1]), "int64")
        column = builder.node("Unsqueeze", f"{place}.cells", (points, axes), (points.shape[0], 1, 3, cells))
        centres, strides = split(builder, f"{place}.centres", column, (2, 1), axis=2)
        xy, *seen = split(builder, f"{place}.split", rows, (2, numbers - 2), axis=2) if numbers > 2 else (rows,)
        xy = builder.node("Add", f"{place}.xy.cells", (xy, centres), xy.shape)
        xy = builder.node("Mul", f"{place}.xy", (xy, strides), xy.shape)
        parts = [xy, *(builder.node("Sigmoid", f"{place}.seen", (wire,), wire.shape) for wire in seen)]
        if len(parts) > 1:
            xy = builder.node("Concat", f"{place}.concat", parts, rows.shape, axis=2)
        flat = builder.constant(f"{place}.flat.shape", np.array([0, count * numbers, open_cells]), "int64")
        return builder.node("Reshape", f"{place}.flat", (xy, flat), raw.shape)


@dataclass(frozen=True, slots=True)
class Pose26Head(PoseHead):
    """The Pose26 module of YOLO26."""

    branches: ClassVar[tuple[str, ...]] = ("cv2", "cv3", "cv4", "cv4_kpts")
    factor = 1.0
    shift = 0.0

    def extra_maps(self, builder: Builder, inputs: Sequence[Wire], prefix: str) -> tuple[Wire, ...]:
        """Write the branches of the features and of the points."""
        self.module.leave_out(*_OF_THE_LOSS)
        features = self.branch(builder, f"{prefix}cv4", inputs)
        levels = self.module.child(f"{prefix}cv4_kpts").submodules()
        if len(levels) != len(inputs):
            raise self.module.error(
                f"'{prefix}cv4_kpts' has a different number of levels", expected=str(len(inputs)), got=len(levels)
            )
        return tuple(self._distances(builder, (level,), x) for level, x in zip(levels, features, strict=True))


def read_keypoint_shape(view: ModuleView) -> KeypointShape:
    """The attribute `kpt_shape` of a head or of a whole model.

    Raises:
        GraphError: it is not a number of points, and 2 or 3 numbers for each.
    """
    value = view.value("kpt_shape")
    points, numbers = value if isinstance(value, list | tuple) and len(value) == 2 else (None, None)
    if not is_int(points, 1, MAX_KEYPOINTS) or not is_int(numbers, 2, 3):
        raise view.error("bad 'kpt_shape'", expected=f"[1 to {MAX_KEYPOINTS} points, 2 or 3 numbers]", got=value)
    return points, numbers
