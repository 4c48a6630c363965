"""The loss: which cells answer for which box, and how wrong they are. No step waits for the GPU.

Sources: anchors matched by the ratio of shapes, three cells a box, IoU as objectness and its balance over levels as the
YOLOv5 documentation describes them ("Architecture Summary", sections 3 and 4); complete IoU from arXiv:1911.08287.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

BOX_GAIN, OBJECT_GAIN, CLASS_GAIN = 0.08, 1.0, 0.1
LEVEL_BALANCE = (4.0, 1.0, 0.4)
MAX_SHAPE_RATIO = 4.0


class Losses(NamedTuple):
    """Sum that is descended, and its three parts (detached)."""

    total: Tensor
    box: Tensor
    objectness: Tensor
    classes: Tensor


def detection_loss(heads: list[Tensor], targets: Tensor, anchors: Tensor) -> Losses:
    """Loss of a batch, a mean over images times the batch size.

    Args:
        heads: (B, A·(5+C), h, w) a level, finest first.
        targets: (T, 7) float32: image, class, cx, cy, w, h in 0..1 of the image, and 1; rows of zeros pad it.
        anchors: (levels, A, 2) in cells.
    """
    batch = heads[0].shape[0]
    box = objectness = classes = torch.zeros((), device=targets.device)
    for head, anchor, balance in zip(heads, anchors, LEVEL_BALANCE, strict=True):
        parts = _level_loss(head.float(), targets, anchor)
        box = box + parts[0]
        objectness = objectness + parts[1] * balance
        classes = classes + parts[2]
    total = (BOX_GAIN * box + OBJECT_GAIN * objectness + CLASS_GAIN * classes) * batch
    return Losses(total, box.detach(), objectness.detach(), classes.detach())


def _level_loss(head: Tensor, targets: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Box, objectness and class loss of one level."""
    batch, channels, height, width = head.shape
    count = anchor.shape[0]
    outputs = head.view(batch, count, channels // count, height, width).permute(0, 1, 3, 4, 2)
    rows = outputs.reshape(-1, channels // count)

    extent = torch.tensor([width, height], device=head.device, dtype=torch.float32)
    centre, size = targets[:, 2:4] * extent, targets[:, 4:6] * extent
    ratio = size[:, None] / anchor[None]
    fits = torch.maximum(ratio, 1 / ratio.clamp(min=1e-9)).amax(-1) < MAX_SHAPE_RATIO  # (T, A)
    # The cell of the centre, and its neighbour on the nearer side, across and down.
    cell = centre.floor()
    side = torch.where(centre - cell < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(side[:, 0])
    steps = torch.stack(
        [torch.stack([zero, zero], 1), torch.stack([side[:, 0], zero], 1), torch.stack([zero, side[:, 1]], 1)], 1
    )
    cells = cell[:, None] + steps  # (T, 3, 2)
    inside = ((cells >= 0) & (cells < extent)).all(-1)
    used = fits[:, :, None] & inside[:, None] & (targets[:, 6] > 0.5)[:, None, None]  # (T, A, 3)

    x = cells[..., 0].clamp(0, width - 1).long()[:, None]
    y = cells[..., 1].clamp(0, height - 1).long()[:, None]
    which = torch.arange(count, device=head.device)[None, :, None]
    index = ((targets[:, 0].long()[:, None, None] * count + which) * height + y) * width + x  # (T, A, 3)
    weight = used.float().reshape(-1)
    number = weight.sum().clamp(min=1.0)
    flat = index.reshape(-1)
    chosen = rows[flat]  # (T·A·3, 5+C)

    shape = used.shape
    offset = (centre[:, None] - cells)[:, None].expand(*shape, 2).reshape(-1, 2)
    size_of = size[:, None, None].expand(*shape, 2).reshape(-1, 2)
    anchor_of = anchor[None, :, None].expand(*shape, 2).reshape(-1, 2)
    predicted_xy = chosen[:, :2].sigmoid() * 2 - 0.5
    predicted_wh = (chosen[:, 2:4].sigmoid() * 2) ** 2 * anchor_of
    # Rows that pad have no size; one of a cell keeps every quotient finite.
    safe_size = torch.where(weight[:, None] > 0, size_of, torch.ones_like(size_of))
    overlap = complete_iou(predicted_xy, predicted_wh, offset, safe_size)
    box = ((1 - overlap) * weight).sum() / number

    wanted = torch.zeros(rows.shape[0] + 1, device=head.device)
    slot = torch.where(weight > 0, flat, torch.full_like(flat, rows.shape[0]))
    wanted = wanted.scatter_reduce(0, slot, overlap.detach().clamp(min=0), "amax")[:-1]
    objectness = F.binary_cross_entropy_with_logits(rows[:, 4], wanted)

    class_of = targets[:, 1].long()[:, None, None].expand(shape).reshape(-1)
    truth = F.one_hot(class_of, channels // count - 5).float()
    wrong = F.binary_cross_entropy_with_logits(chosen[:, 5:], truth, reduction="none").mean(1)
    return box, objectness, (wrong * weight).sum() / number


def complete_iou(xy: Tensor, wh: Tensor, other_xy: Tensor, other_wh: Tensor) -> Tensor:
    """IoU less the penalties for centre distance and aspect, of boxes by centre and size, row by row.

    Source: arXiv:1911.08287, equations 8 to 11.
    """
    low, high = xy - wh / 2, xy + wh / 2
    other_low, other_high = other_xy - other_wh / 2, other_xy + other_wh / 2
    common = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp(min=0).prod(1)
    union = wh.prod(1) + other_wh.prod(1) - common + 1e-7
    iou = common / union
    hull = torch.maximum(high, other_high) - torch.minimum(low, other_low)
    diagonal = (hull**2).sum(1) + 1e-7
    distance = ((xy - other_xy) ** 2).sum(1)
    aspect = (4 / math.pi**2) * (
        torch.atan(other_wh[:, 0] / (other_wh[:, 1] + 1e-7)) - torch.atan(wh[:, 0] / (wh[:, 1] + 1e-7))
    ) ** 2
    with torch.no_grad():
        trade = aspect / (1 - iou + aspect + 1e-7)
    return iou - distance / diagonal - trade * aspect
