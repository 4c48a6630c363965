"""What the kernels on a GPU read of a model's outputs, for each layout of them.

The output forms ask for it in `Form.device_output` and `Form.device_extras`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.cuda.extras import MAX_POINTS, ExtraLevel, Extras, Keypoints, pack_extra_levels
from yoloship.cuda.free_heads import MAX_BINS, Chosen, FreeHeads, FreeLevel, Span, pack_free_levels
from yoloship.cuda.masks import MAX_COEFFICIENTS, Prototypes
from yoloship.cuda.postprocess import MAX_ANCHORS, MAX_LEVELS, HeadLevel, Heads, Raw, pack_levels
from yoloship.errors import SessionError
from yoloship.model import MAX_FINAL
from yoloship.results.mask_rules import MASK_RULES, NEWEST_RULE
from yoloship.tasks.anchor_free import BOX_COLUMNS, maps_per_level
from yoloship.tasks.decode import END2END_COLUMNS, OBJECT_COLUMNS, device_dtype, expect, wrong_tensor
from yoloship.tasks.prototypes import check_prototypes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.cuda.postprocess import HeadDType
    from yoloship.model import ModelInfo
    from yoloship.runtime.session import DeviceTensor
    from yoloship.tasks.task import Upload

_ITEM_BYTES = {"float32": 4, "float16": 2}


def fits_rows(info: ModelInfo) -> bool:
    """Whether there are kernels for what a model has behind its class scores, and room for it."""
    if info.task == "segment":
        return info.extra_columns <= MAX_COEFFICIENTS
    if info.task == "pose":
        return info.keypoint_shape is not None and info.keypoint_shape[0] <= MAX_POINTS
    return not info.extra_columns or _is_rotated(info)


def fits_maps(info: ModelInfo) -> bool:
    """The same, and whether the tables of the kernels have room for a model's levels and anchors."""
    few_anchors = all(len(level) <= MAX_ANCHORS for level in info.anchors)
    return 0 < len(info.strides) <= MAX_LEVELS and few_anchors and fits_rows(info)


def object_rows(tensor: DeviceTensor, info: ModelInfo) -> Raw:
    """Rows (B, N, 5 + C + E) with an objectness.

    Raises:
        SessionError: the output has another shape or element type.
    """
    _expect(tensor, (None, None, OBJECT_COLUMNS + len(info.class_names) + info.extra_columns))
    return Raw(tensor.pointer, tensor.shape[1], device_dtype(tensor), info.extra_columns)


def object_row_extras(tensor: DeviceTensor, info: ModelInfo, upload: Upload) -> Extras:
    """The last E columns of such rows, times the objectness."""
    classes, dtype = len(info.class_names), device_dtype(tensor)
    _, rows, columns = tensor.shape
    values = Span(_behind(tensor, OBJECT_COLUMNS + classes), rows * columns, 1, columns)
    return Extras(upload(pack_extra_levels([ExtraLevel(values, (1, rows), weight=classes + 1)])), 1, dtype)


def anchor_maps(tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int], upload: Upload) -> Heads:
    """The undecoded map of each level of an anchor head, (B, A·(5 + C + E), h, w).

    Raises:
        SessionError: an output has another shape or element type.
    """
    columns = OBJECT_COLUMNS + len(info.class_names) + info.extra_columns
    levels = []
    for tensor, anchors, grid_hw in _levels(tensors, info, input_hw):
        _expect(tensor, (tensors[0].shape[0], len(anchors) * columns, *grid_hw))
        levels.append(HeadLevel(tensor.pointer, grid_hw, float(input_hw[0] // grid_hw[0]), anchors))
    return Heads(upload(pack_levels(levels)), tuple(levels), _dtype_of(tensors), info.extra_columns)


def anchor_map_extras(
    tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int], upload: Upload
) -> Extras:
    """The last E channels of each anchor of such maps, times the objectness."""
    before = OBJECT_COLUMNS + len(info.class_names)
    columns, levels = before + info.extra_columns, []
    for tensor, anchors, grid_hw in _levels(tensors, info, input_hw):
        cells = grid_hw[0] * grid_hw[1]
        values = Span.of_map(tensor.pointer, len(anchors) * columns, cells, before, _ITEM_BYTES[device_dtype(tensor)])
        step = columns * cells
        levels.append(ExtraLevel(values, grid_hw, 1.0, len(anchors), step, weight=-(len(info.class_names) + 1)))
    return Extras(upload(pack_extra_levels(levels)), len(levels), _dtype_of(tensors))


def free_maps(tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int], upload: Upload) -> FreeHeads:
    """The undecoded maps of a head without anchors, as `yoloship.graph.heads.anchor_free` gives them.

    Raises:
        SessionError: an output has another shape or element type, or a side has too many bins.
    """
    maps, levels = _free_levels(tensors, info, input_hw), []
    first = tensors[0]
    channels = first.shape[1]
    if channels % BOX_COLUMNS or not BOX_COLUMNS <= channels <= BOX_COLUMNS * MAX_BINS:
        raise SessionError(
            "has maps of boxes that the kernels cannot decode", subject=first.name,
            expected=f"4 sides of 1 to {MAX_BINS} channels", got=f"{channels} channels",
            hint="export the model with 'yoloship export --output raw'",
        )  # fmt: skip
    for (boxes, classes, extras), grid_hw, stride in maps:
        _expect(boxes, (first.shape[0], channels, *grid_hw))
        _expect(classes, (first.shape[0], len(info.class_names), *grid_hw))
        angles = None if not _is_rotated(info) or extras is None else _span(extras)
        levels.append(FreeLevel(grid_hw, stride, _span(boxes), _span(classes), angles))
    return FreeHeads(
        upload(pack_free_levels(levels)), tuple(levels), channels // BOX_COLUMNS, _dtype_of(tensors),
        _is_rotated(info), MAX_FINAL if info.head == "one2one" else 0,
    )  # fmt: skip


def free_map_extras(
    tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int], upload: Upload
) -> Extras:
    """The maps of the further values of such a head."""
    levels = []
    for (_, _, extras), grid_hw, stride in _free_levels(tensors, info, input_hw):
        assert extras is not None  # the caller has asked the record
        _expect(extras, (tensors[0].shape[0], info.extra_columns, *grid_hw))
        levels.append(ExtraLevel(_span(extras), grid_hw, stride))
    classes = len(info.class_names) if info.head == "one2one" else 1
    return Extras(upload(pack_extra_levels(levels)), len(levels), _dtype_of(tensors), classes)


def channel_rows(tensor: DeviceTensor, info: ModelInfo, upload: Upload) -> FreeHeads:
    """Decoded columns (B, 4 + C + E, N) of a head without anchors.

    Raises:
        SessionError: the output has another shape or element type.
    """
    classes, dtype = len(info.class_names), device_dtype(tensor)
    _expect(tensor, (None, BOX_COLUMNS + classes + info.extra_columns, None))
    angles = _channels(tensor, BOX_COLUMNS + classes) if _is_rotated(info) else None
    level = FreeLevel((1, tensor.shape[2]), 1.0, _channels(tensor, 0), _channels(tensor, BOX_COLUMNS), angles)
    return FreeHeads(upload(pack_free_levels([level])), (level,), 0, dtype, _is_rotated(info))


def channel_row_extras(tensor: DeviceTensor, info: ModelInfo, upload: Upload) -> Extras:
    """The last E columns of such an output."""
    level = ExtraLevel(_channels(tensor, BOX_COLUMNS + len(info.class_names)), (1, tensor.shape[2]))
    return Extras(upload(pack_extra_levels([level])), 1, device_dtype(tensor))


def chosen_rows(tensor: DeviceTensor, info: ModelInfo) -> Chosen:
    """Rows (B, k, 6 + E) that a one-to-one head has chosen.

    Raises:
        SessionError: the output has another shape or element type.
    """
    columns = END2END_COLUMNS + info.extra_columns
    _expect(tensor, (None, None, columns))
    return Chosen(tensor.pointer, tensor.shape[1], columns, device_dtype(tensor), _is_rotated(info))


def chosen_row_extras(tensor: DeviceTensor, info: ModelInfo, upload: Upload) -> Extras:
    """The last E columns of such rows."""
    _, rows, columns = tensor.shape
    values = Span(_behind(tensor, columns - info.extra_columns), rows * columns, 1, columns)
    return Extras(upload(pack_extra_levels([ExtraLevel(values, (1, rows))])), 1, device_dtype(tensor))


def keypoints(extras: Extras, info: ModelInfo) -> Keypoints:
    """The keypoints of a pose model.

    Args:
        extras: Where their numbers lie.
        info: The model, whose record has a keypoint shape.
    """
    assert info.keypoint_shape is not None  # the task's check has seen it
    points, numbers = info.keypoint_shape
    return Keypoints(extras, points, numbers, "offsets" if info.output_form == "heads" else "decoded")


def mask_prototypes(
    tensor: DeviceTensor, coefficients: Extras, info: ModelInfo, input_hw: tuple[int, int]
) -> Prototypes:
    """The prototypes of a segmentation model, (B, P, h, w), and how masks are made of them.

    Args:
        tensor: The output with the prototypes.
        coefficients: Where the mask coefficients of each candidate lie.
        info: The model.
        input_hw: (height, width) of the canvas in model pixels.

    Raises:
        SessionError: they do not fit the coefficients or the canvas.
    """
    factor = check_prototypes(tensor.shape[1:], input_hw, info.extra_columns, tensor.name)
    if device_dtype(tensor) != coefficients.dtype:
        raise wrong_tensor(tensor, coefficients.dtype)
    rule = MASK_RULES[info.mask_rule or NEWEST_RULE]
    _, count, height, width = tensor.shape
    return Prototypes(
        tensor.pointer, count, (height, width), factor, coefficients, rule.squashes, rule.crops_first, rule.drops_empty
    )


def _is_rotated(info: ModelInfo) -> bool:
    """Whether the one further value of a candidate is the angle of its box."""
    return info.task == "obb"


def _free_levels(
    tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int]
) -> list[tuple[tuple[DeviceTensor, DeviceTensor, DeviceTensor | None], tuple[int, int], float]]:
    """For each level the maps of boxes, classes and further values, the (h, w) of its cells, and its stride."""
    step, found = maps_per_level(info), []
    expect(tensors, step * len(info.strides))
    for level, stride in enumerate(info.strides):
        boxes, classes, *more = tensors[level * step : (level + 1) * step]
        grid_hw = (input_hw[0] // stride, input_hw[1] // stride)
        found.append(((boxes, classes, more[0] if more else None), grid_hw, float(stride)))
    return found


def _span(tensor: DeviceTensor) -> Span:
    """Where the values of a map (B, channels, h, w) lie."""
    _, channels, height, width = tensor.shape
    return Span.of_map(tensor.pointer, channels, height * width)


def _channels(tensor: DeviceTensor, first: int) -> Span:
    """Where the channels from `first` on of an output (B, channels, N) lie."""
    _, channels, cells = tensor.shape
    return Span.of_map(tensor.pointer, channels, cells, first, _ITEM_BYTES[device_dtype(tensor)])


def _levels(
    tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int]
) -> list[tuple[DeviceTensor, tuple[tuple[float, float], ...], tuple[int, int]]]:
    """Each map of an anchor head with the anchors of its level and the (h, w) of its cells."""
    grids = [(input_hw[0] // stride, input_hw[1] // stride) for stride in info.strides]
    return list(zip(expect(tensors, len(info.strides)), info.anchors, grids, strict=True))


def _dtype_of(tensors: Sequence[DeviceTensor]) -> HeadDType:
    """The element type that all outputs have."""
    for tensor in tensors:
        if device_dtype(tensor) != device_dtype(tensors[0]):
            raise wrong_tensor(tensor, tensors[0].dtype)
    return device_dtype(tensors[0])


def _expect(tensor: DeviceTensor, shape: tuple[int | None, ...]) -> None:
    """Refuse another shape; None stands for any extent."""
    fits = len(tensor.shape) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise wrong_tensor(tensor, f"({', '.join('?' if want is None else str(want) for want in shape)})")


def _behind(tensor: DeviceTensor, elements: int) -> int:
    """The address of an element of an output."""
    return tensor.pointer + elements * _ITEM_BYTES[device_dtype(tensor)]
