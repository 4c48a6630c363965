"""Zoom, shift and tint a batch on the device. Codes are never mirrored: a mirrored code is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

PADDING = 114 / 255
KEEP_SHARE = 0.4


def batch_of(
    images: torch.Tensor, labels: list[Any], rng: np.random.Generator, strength: float, rows: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Network input and targets.

    Args:
        images: (B, H, W, 3) uint8 BGR on the device.
        labels: (N, 5) float32 of each: class, x1, y1, x2, y2 in 0..1.
        rng: Decides.
        strength: Share of images that are changed at all; 0 for none.
        rows: Rows for targets, padded with zeros. Further targets are dropped.

    Returns:
        (B, 3, H, W) float32 RGB in 0..1, and (rows, 7) float32 as `detection_loss` takes them.
    """
    batch = len(labels)
    zoom, shift = np.ones(batch), np.zeros((batch, 2))
    gain = np.ones((batch, 3))
    changed = rng.random(batch) < strength
    zoom[changed] = np.exp(rng.uniform(np.log(0.7), np.log(1.5), changed.sum()))
    room = np.abs(1 - zoom) / 2 + 0.05
    shift[changed] = (rng.uniform(-1, 1, (batch, 2)) * room[:, None])[changed]
    tinted = rng.random(batch) < strength
    gain[tinted] = rng.uniform(0.7, 1.3, (tinted.sum(), 1)) * rng.uniform(0.94, 1.06, (tinted.sum(), 3))

    device = images.device
    image = images.flip(-1).permute(0, 3, 1, 2).float().div_(255)
    if changed.any():
        # Output place p (−1..1) shows input place (p − 2·shift) / zoom.
        theta = np.zeros((batch, 2, 3), np.float32)
        theta[:, 0, 0] = theta[:, 1, 1] = 1 / zoom
        theta[:, :, 2] = -2 * shift / zoom[:, None]
        which = np.flatnonzero(changed)
        places = torch.from_numpy(which).to(device)
        part = image[places]
        grid = F.affine_grid(torch.from_numpy(theta[which]).to(device), list(part.shape), align_corners=False)
        image[places] = F.grid_sample(part - PADDING, grid, align_corners=False) + PADDING
    if tinted.any():
        image = (image * torch.from_numpy(gain.astype(np.float32)).to(device)[:, :, None, None]).clamp_(0, 1)

    targets = np.zeros((rows, 7), np.float32)
    filled = 0
    for place, label in enumerate(labels):
        boxes = (label[:, 1:] - 0.5) * zoom[place] + 0.5 + np.tile(shift[place], 2)
        clipped = boxes.clip(0, 1)
        whole = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        size = clipped[:, 2:] - clipped[:, :2]
        keep = size.prod(1) > KEEP_SHARE * whole
        count = min(int(keep.sum()), rows - filled)
        end = filled + count
        targets[filled:end, 0] = place
        targets[filled:end, 1] = label[keep][:count, 0]
        targets[filled:end, 2:4] = ((clipped[:, :2] + clipped[:, 2:]) / 2)[keep][:count]
        targets[filled:end, 4:6] = size[keep][:count]
        targets[filled:end, 6] = 1
        filled = end
    return image, torch.from_numpy(targets).to(device, non_blocking=True)
