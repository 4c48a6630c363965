"""What the found QR codes say: proof that their boxes are of use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.results import Detections

QUIET_ZONE_SHARE = 0.2
"""Of the longer side, around the box: readers want the white border that the box leaves out."""
_READABLE_PX = 320
"""The decoder wants some pixels a module; smaller crops are enlarged to about this."""


def read_qr_codes(image: npt.NDArray[np.uint8], found: Detections) -> list[str | None]:
    """Decode each detection of the class ``qr_code`` from its box alone.

    Args:
        image: (height, width, 3) uint8 BGR; read only.
        found: What was found in it.

    Returns:
        For each detection its text; None where it is of another class, or cannot be decoded.
    """
    reader = cv2.QRCodeDetector()
    texts: list[str | None] = []
    for detection in found:
        text = ""
        if detection.class_name == "qr_code":
            text, *_ = reader.detectAndDecode(_crop(image, detection.box_xyxy))
        texts.append(text or None)
    return texts


def _crop(image: npt.NDArray[np.uint8], box_xyxy: tuple[float, float, float, float]) -> npt.NDArray[np.uint8]:
    x1, y1, x2, y2 = box_xyxy
    margin = QUIET_ZONE_SHARE * max(x2 - x1, y2 - y1)
    left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
    part = image[top : int(y2 + margin) + 1, left : int(x2 + margin) + 1]
    times = max(1, round(_READABLE_PX / max(part.shape[:2])))
    size = part.shape[1] * times, part.shape[0] * times
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_CUBIC), np.uint8)
