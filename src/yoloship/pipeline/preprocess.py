"""From pictures to what a model's input takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.pipeline.letterbox import Letterbox
    from yoloship.tensors import DType


def letterbox_batch(
    images: Sequence[npt.NDArray[np.uint8]], letterboxes: Sequence[Letterbox], out: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Put pictures of any sizes on canvases of one size.

    Args:
        images: (h, w, 3) uint8 BGR each; read only.
        letterboxes: Where each lies; all have the canvas size (H, W).
        out: (B, H, W, 3) uint8, B at least the number of pictures, written over; spare canvases become black.

    Returns:
        `out`.
    """
    for canvas, image, letterbox in zip(out, images, letterboxes, strict=False):
        letterbox.apply(image, out=canvas)
    out[len(images) :] = 0
    return out


def to_input(canvases: npt.NDArray[np.uint8], dtype: DType) -> npt.NDArray[Any]:
    """Bring letterboxed pictures to a model's input.

    Args:
        canvases: (B, H, W, 3) uint8 BGR, C-contiguous; read only.
        dtype: Of the input: ``uint8`` takes them as they are; ``float32`` and ``float16`` want (B, 3, H, W) RGB in
            [0, 1].

    Returns:
        `canvases` itself for ``uint8``; else a new C-contiguous array.
    """
    if dtype == "uint8":
        return canvases
    return to_float(canvases).astype(np.dtype(dtype), copy=False)


def to_float(canvases: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(B, 3, H, W) float32 RGB in [0, 1] from (B, H, W, 3) uint8 BGR: each sample over 255, rounded to float32."""
    batch, height, width, _ = canvases.shape
    out = np.empty((batch, 3, height, width), np.float32)
    for channel in range(3):
        np.divide(canvases[..., 2 - channel], np.float32(255), out=out[:, channel])
    return out
