"""One object in an image: `Detection`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.errors import InputError
from yoloship.results.oriented import corners_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.results.masks import Masks


@dataclass(frozen=True, slots=True)
class Detection:
    """One object.

    Attributes:
        box_xyxy: Left, top, right, bottom in source pixels.
        score: In [0, 1].
        class_id: Index into the model's class names.
        class_name: The name of the class, or its index as text if the model has no name for it.
        keypoints: x, y and visibility of each point, or only x and y, in source pixels. None unless it is a pose model.
        box_xywhr: The oriented box: centre, width and height in source pixels, and the angle in radians. None unless
            the model gives oriented boxes.
        masks: The mask of this object, with its outlines, area and run lengths; None unless it is a segmentation model.
        track_id: The same number for the same object in all frames of its video or camera, from 1; -1 while the tracker
            is not sure of it. None unless the objects are tracked.
    """

    box_xyxy: tuple[float, float, float, float]
    score: float
    class_id: int
    class_name: str
    keypoints: tuple[tuple[float, ...], ...] | None = None
    box_xywhr: tuple[float, float, float, float, float] | None = None
    masks: Masks | None = None
    track_id: int | None = None

    @property
    def mask(self) -> npt.NDArray[np.bool_] | None:
        """(height, width) bool in source pixels: the object's mask; the caller owns it. None if there is none."""
        return None if self.masks is None else self.masks[0]

    @property
    def area_px(self) -> float:
        """Area of the box in square source pixels."""
        x1, y1, x2, y2 = self.box_xyxy
        return (x2 - x1) * (y2 - y1)

    @property
    def corners_xy(self) -> tuple[tuple[float, float], ...] | None:
        """The four corners of the oriented box in source pixels, in the order of `Detections.corners_xy`."""
        if self.box_xywhr is None:
            return None
        return tuple((x, y) for x, y in corners_of(np.array(self.box_xywhr, np.float32)).tolist())

    def crop(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Crop the object from its image.

        Args:
            image: (height, width) or (height, width, channels), any dtype: the image that the object was found in; only
                read.

        Returns:
            The pixels that the box touches, at least one in each direction, with the image's dtype and channels. It is
            a copy that the caller owns.

        Raises:
            InputError: it is not an image, or the box is not finite.
        """
        height, width = size_of(image, "Detection.crop")
        x1, y1, x2, y2 = self.box_xyxy
        if not all(map(math.isfinite, self.box_xyxy)):
            raise InputError("the box is not finite", subject="Detection.crop", got=str(self.box_xyxy))
        left, top = min(max(math.floor(x1), 0), width - 1), min(max(math.floor(y1), 0), height - 1)
        right, bottom = max(min(math.ceil(x2), width), left + 1), max(min(math.ceil(y2), height), top + 1)
        cut: npt.NDArray[Any] = image[top:bottom, left:right].copy()
        return cut

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; ``keypoints``, ``box_xywhr``, ``corners_xy``, ``polygons`` if the model has them.

        A tracked object has a ``track_id`` too, which is -1 while the tracker is not sure of it.

        ``polygons`` are the outlines of the mask, largest part first, each as x1, y1, x2, y2, … in source pixels,
        rounded to 0.1 pixels.
        """
        data: dict[str, Any] = {
            "class_id": self.class_id,
            "class_name": self.class_name,
            "score": self.score,
            "box_xyxy": list(self.box_xyxy),
        }
        if self.track_id is not None:
            data["track_id"] = self.track_id
        if self.keypoints is not None:
            data["keypoints"] = [list(point) for point in self.keypoints]
        if (corners := self.corners_xy) is not None and self.box_xywhr is not None:
            data["box_xywhr"] = list(self.box_xywhr)
            data["corners_xy"] = [list(corner) for corner in corners]
        if self.masks is not None:
            (parts,) = self.masks.polygons()
            data["polygons"] = [np.round(part.astype(np.float64), 1).ravel().tolist() for part in parts]
        return data


def size_of(image: npt.NDArray[Any], subject: str, image_hw: tuple[int, int] | None = None) -> tuple[int, int]:
    """(height, width) of an image.

    Args:
        image: (height, width) or (height, width, channels), any dtype.
        subject: The name of the caller, for messages.
        image_hw: The size that it must have; None allows any.

    Raises:
        InputError: it is not an image, or has another size.
    """
    if not isinstance(image, np.ndarray) or image.ndim not in {2, 3} or 0 in image.shape:
        raise InputError(
            "is not an image",
            subject=subject,
            expected="an array (height, width) or (height, width, channels)",
            got=str(image.shape) if isinstance(image, np.ndarray) else type(image).__name__,
        )
    if image_hw is not None and image.shape[:2] != image_hw:
        raise InputError(
            "the detections are of an image of a different size",
            subject=subject,
            expected=f"height and width {image_hw}",
            got=str(image.shape[:2]),
        )
    return image.shape[0], image.shape[1]
