"""Blocks of YOLOv8 and later that split a map, work on a part, and join what each step gave.

Source: Wang et al., CSPNet, 2019, and Designing Network Design Strategies Through Gradient Path Analysis (ELAN), 2022;
Wang et al., YOLOv9, 2024, figure 4; Wang et al., YOLOv10, 2024, figure 3; Tian et al., YOLOv12, 2025, section 3.3; the
checkpoints' modules and their reference outputs.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from yoloship._util.fields import is_int
from yoloship.graph.activations import activate
from yoloship.graph.blocks import add, concat, emit
from yoloship.graph.builder import OMITTED
from yoloship.graph.layers import max_pool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.graph.blocks import Block, Join
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.module_view import ModuleView


def halves(builder: Builder, module: ModuleView, x: Wire) -> tuple[Wire, Wire]:
    """Split the channels into two equal parts, whatever the module's own number for them says."""
    if x.channels % 2:
        raise module.error("splits an odd number of channels into halves", got=x.channels)
    half = x.channels // 2
    sizes = builder.constant(f"{module.place}.halves.sizes", np.array([half, half]), "int64")
    shape = (x.shape[0], half, *x.hw)
    first, second = builder.nodes("Split", f"{module.place}.halves", (x, sizes), (shape, shape), axis=1)
    return first, second


def _c2f(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Both halves and the result of each step, which works on the last one; C3k2, C2fCIB and C2fPSA differ in `m`."""
    values = list(halves(builder, module, emit(builder, module.child("cv1"), (x,))))
    for step in module.child("m").submodules():
        values.append(emit(builder, step, (values[-1],)))
    return emit(builder, module.child("cv2"), (concat(builder, module, values),))


def _c2(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    first, second = halves(builder, module, emit(builder, module.child("cv1"), (x,)))
    return emit(
        builder, module.child("cv2"), (concat(builder, module, (emit(builder, module.child("m"), (first,)), second)),)
    )


def _c2psa(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    first, second = halves(builder, module, emit(builder, module.child("cv1"), (x,)))
    second = emit(builder, module.child("m"), (second,))
    return emit(builder, module.child("cv2"), (concat(builder, module, (first, second)),))


def _psa(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    first, second = halves(builder, module, emit(builder, module.child("cv1"), (x,)))
    for name in ("attn", "ffn"):
        second = add(
            builder, module, second, emit(builder, module.child(name), (second,)), f"{module.place}.{name}.add"
        )
    return emit(builder, module.child("cv2"), (concat(builder, module, (first, second)),))


def _psa_block(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    shortcut = module.flag("add")
    for name in ("attn", "ffn"):
        y = emit(builder, module.child(name), (x,))
        x = add(builder, module, x, y, f"{module.place}.{name}.add") if shortcut else y
    return x


def _c3f(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    values = [emit(builder, module.child("cv2"), (x,)), emit(builder, module.child("cv1"), (x,))]
    for step in module.child("m").submodules():
        values.append(emit(builder, step, (values[-1],)))
    return emit(builder, module.child("cv3"), (concat(builder, module, values),))


def _a2c2f(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """The result of each step, which works on the last one; with `gamma`, added to the input, each channel scaled."""
    values = [emit(builder, module.child("cv1"), (x,))]
    for step in module.child("m").submodules():
        values.append(emit(builder, step, (values[-1],)))
    y = emit(builder, module.child("cv2"), (concat(builder, module, values),))
    gamma = module.optional_array("gamma", y.channels)
    if gamma is None:
        return y
    scale = builder.constant(f"{module.place}.gamma", gamma.reshape(1, -1, 1, 1))
    y = builder.node("Mul", f"{module.place}.scaled", (y, scale), y.shape)
    return add(builder, module, x, y, f"{module.place}.add")


def _area_block(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    for name in ("attn", "mlp"):
        x = add(builder, module, x, emit(builder, module.child(name), (x,)), f"{module.place}.{name}.add")
    return x


def _elan(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Both halves, cv2 of the second, cv3 of that: RepNCSPELAN4 and ELAN1."""
    values = list(halves(builder, module, emit(builder, module.child("cv1"), (x,))))
    for name in ("cv2", "cv3"):
        values.append(emit(builder, module.child(name), (values[-1],)))
    return emit(builder, module.child("cv4"), (concat(builder, module, values),))


def _small_average(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """The mean of each 2x2 window, one step apart, without padding."""
    height, width = x.hw
    if min(height, width) < 2:
        raise module.error("takes maps of at least 2x2", got=x.hw)
    shape = (x.shape[0], x.channels, height - 1, width - 1)
    return builder.node("AveragePool", f"{module.place}.average", (x,), shape, kernel_shape=(2, 2), strides=(1, 1))


def _a_conv(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    return emit(builder, module.child("cv1"), (_small_average(builder, module, x),))


def _a_down(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    first, second = halves(builder, module, _small_average(builder, module, x))
    height, width = second.hw
    shape = (*second.shape[:2], (height - 1) // 2 + 1, (width - 1) // 2 + 1)
    second = builder.node(
        "MaxPool", f"{module.place}.max", (second,), shape, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)
    )
    parts = (emit(builder, module.child("cv1"), (first,)), emit(builder, module.child("cv2"), (second,)))
    return concat(builder, module, parts)


def _sppelan(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    values = [emit(builder, module.child("cv1"), (x,))]
    for name in ("cv2", "cv3", "cv4"):
        values.append(emit(builder, module.child(name), (values[-1],)))
    return emit(builder, module.child("cv5"), (concat(builder, module, values),))


_MAX_POOLS = 16


def _sppf(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """One pool that runs several times in a row. Files before version 8.4 do not say how often (3) nor `add` (no)."""
    values = [emit(builder, module.child("cv1"), (x,))]
    pool = module.child("m")
    if pool.torch_name != "MaxPool2d":
        raise pool.error("is not supported in this place", expected="torch.nn.MaxPool2d")
    count = module.integer("n", 1, _MAX_POOLS) if module.has("n") else 3
    for index in range(count):
        values.append(max_pool(builder, pool, values[-1], f"{pool.place}.{index}"))
    y = emit(builder, module.child("cv2"), (concat(builder, module, values),))
    shortcut = module.has("add") and module.flag("add")
    return add(builder, module, x, y, f"{module.place}.add") if shortcut else y


def _inverted_block(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """CIB, the compact inverted block."""
    y = emit(builder, module.child("cv1"), (x,))
    return add(builder, module, x, y, f"{module.place}.add") if module.flag("add") else y


def _down(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    return emit(builder, module.child("cv2"), (emit(builder, module.child("cv1"), (x,)),))


def _nothing(builder: Builder, module: ModuleView, x: Wire) -> Wire:  # noqa: ARG001 - the signature of all
    return x


def _divided(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """CBLinear: one convolution whose channels are several maps, which CBFuse takes apart."""
    sizes = module.value("c2s")
    y = emit(builder, module.child("conv"), (x,))
    given = sizes if isinstance(sizes, list | tuple) else ()
    fitting = tuple(size for size in given if is_int(size, 1, y.channels))
    if not fitting or len(fitting) != len(given) or sum(fitting) != y.channels:
        raise module.error("bad 'c2s'", expected=f"channels that make {y.channels} together", got=sizes)
    builder.divisions[y.name] = fitting
    return y


def _fuse(builder: Builder, module: ModuleView, inputs: Sequence[Wire]) -> Wire:
    """CBFuse: of each divided map one part, brought to the size of the last input, and all added to that."""
    *sources, total = inputs
    chosen = module.value("idx")
    if not isinstance(chosen, list | tuple) or len(chosen) != len(sources) or not sources:
        raise module.error("bad 'idx'", expected=f"{len(sources)} numbers", got=chosen)
    for number, (source, index) in enumerate(zip(sources, chosen, strict=True)):
        sizes, place = builder.divisions.get(source.name, ()), f"{module.place}.{number}"
        if not is_int(index, 0, len(sizes) - 1):
            raise module.error("takes a part that its input does not have", expected=f"below {len(sizes)}", got=index)
        lengths = builder.constant(f"{place}.sizes", np.array(sizes), "int64")
        shapes = [(source.shape[0], size, *source.hw) for size in sizes]
        parts = (
            builder.nodes("Split", f"{place}.parts", (source, lengths), shapes, axis=1) if len(sizes) > 1 else (source,)
        )
        part = _resized(builder, module, parts[index], total.hw, f"{place}.resized")
        total = add(builder, module, part, total, f"{place}.add")
    return total


def _resized(builder: Builder, module: ModuleView, x: Wire, hw: tuple[int, int], name: str) -> Wire:
    """The map enlarged by a whole factor, each value repeated."""
    factors = [want // have for want, have in zip(hw, x.hw, strict=True)]
    if any(have * factor != want for want, have, factor in zip(hw, x.hw, factors, strict=True)):
        raise module.error("joins maps whose sizes are not multiples of each other", expected=str(hw), got=x.hw)
    if factors == [1, 1]:
        return x
    scales = builder.constant(f"{name}.scales", np.array([1, 1, *factors]))
    return builder.node(
        "Resize",
        name,
        (x, OMITTED, scales),
        (*x.shape[:2], *hw),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _transposed_conv(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """ConvTranspose: a transposed convolution, batch-norm if it has one, activation."""
    y = emit(builder, module.child("conv_transpose"), (x,))
    norm = module.optional_child("bn")
    return activate(builder, module.child("act"), y if norm is None else emit(builder, norm, (y,)))


BLOCKS: Mapping[str, Block] = MappingProxyType(
    {
        **dict.fromkeys(("C2f", "C3k2", "C2fCIB", "C2fPSA"), _c2f),
        "C2": _c2,
        "C2PSA": _c2psa,
        "PSA": _psa,
        "PSABlock": _psa_block,
        "C3f": _c3f,
        "A2C2f": _a2c2f,
        "ABlock": _area_block,
        "RepNCSPELAN4": _elan,
        "ELAN1": _elan,
        "AConv": _a_conv,
        "ADown": _a_down,
        "SPPELAN": _sppelan,
        "SPPF": _sppf,
        "CIB": _inverted_block,
        "SCDown": _down,
        "Silence": _nothing,
        "CBLinear": _divided,
        "ConvTranspose": _transposed_conv,
    }
)
"""By class name, of ``ultralytics.nn.modules``."""
JOINS: Mapping[str, Join] = MappingProxyType({"CBFuse": _fuse})
"""By class name; these take several values."""
