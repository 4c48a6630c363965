"""From a decoded frame of PyAV to an upright BGR image, as FFmpeg and OpenCV convert it.

The colour matrix and the range are those that the video states. If it states none, they are BT.601 and limited, as in
FFmpeg and OpenCV. Samples of more than 8 bits are scaled to 8, without tone mapping. An alpha channel is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.errors import ImageError
from yoloship.images import DEFAULT_LIMITS, ImageLimits

if TYPE_CHECKING:
    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]


class Converter:
    """Converts the frames of one video, and rotates them according to its display matrix.

    Args:
        limits: The largest allowed frame.
    """

    def __init__(self, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        from av.video.reformatter import VideoReformatter

        self._limits = limits
        self._reformatter: Any = VideoReformatter()
        self._matrices: dict[int, tuple[int, int, int, int] | None] = {}

    def upright_bgr(self, frame: Any) -> Image:
        """Convert a frame.

        Args:
            frame: An `av.VideoFrame`, with pixels in the host's memory.

        Returns:
            (height, width, 3) uint8 BGR, read only, in memory of its own.

        Raises:
            ImageError: the frame is too large, or its rotation is not a whole number of quarter turns.
        """
        check_size(frame.width, frame.height, self._limits)
        # Bicubic concerns chroma only, because the size stays: it is what OpenCV asks for, so that pixels are equal.
        # More threads would be started anew for each frame.
        converted = self._reformatter.reformat(frame, format="bgr24", interpolation="BICUBIC", threads=1)
        image: Image = converted.to_ndarray()
        matrix = self.matrix(frame)
        if matrix is not None:
            image = np.ascontiguousarray(turned(image, matrix))
        image.flags.writeable = False
        return image

    def upright_hw(self, frame: Any) -> tuple[int, int]:
        """(height, width) of the image that a frame becomes.

        Raises:
            ImageError: the rotation is not a whole number of quarter turns.
        """
        matrix = self.matrix(frame)
        return (frame.width, frame.height) if matrix is not None and matrix[0] == 0 else (frame.height, frame.width)

    def matrix(self, frame: Any) -> tuple[int, int, int, int] | None:
        """The `display_matrix` of a frame, which is read from the first frame of each rotation only.

        A frame whose side data was read refers to itself, so its memory is not freed before the garbage
        collector runs: after hundreds of frames.
        """
        rotation = frame.rotation
        if rotation not in self._matrices:
            self._matrices[rotation] = display_matrix(frame)
        return self._matrices[rotation]


def check_size(width: int, height: int, limits: ImageLimits, name: str | None = None) -> None:
    """Check a frame's size against the limits; the error is about the video of that name, if one is given.

    Raises:
        ImageError: it is too large.
    """
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise ImageError(
            "frame is too large",
            subject=name,
            expected=f"at most {limits.max_pixels:,} pixels and {limits.max_side_px:,} on a side",
            got=f"{width}×{height}",
        )


def display_matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """How a frame becomes upright: a, b, c, d, each −1, 0 or 1, with x' = a·x + c·y and y' = b·x + d·y.

    Returns:
        None if it is upright.

    Raises:
        ImageError: the matrix is not made of quarter turns and mirrors.

    Source:
        FFmpeg, libavutil/display.h: nine int32, in 16.16 fixed point but for the third of each row.
    """
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return None
    values = np.frombuffer(bytes(data), np.int32) / 65536
    a, b, c, d = (float(values[at]) for at in (0, 1, 3, 4))
    size = max(map(abs, (a, b, c, d)))
    parts = tuple(round(part / size) for part in (a, b, c, d)) if size else (0, 0, 0, 0)
    is_exact = size > 0 and all(
        abs(part / size - whole) < 0.02 for part, whole in zip((a, b, c, d), parts, strict=True)
    )
    if not is_exact or sorted(map(abs, parts)) != [0, 0, 1, 1] or abs(parts[0]) != abs(parts[3]):
        raise ImageError(
            "states a rotation that is not a whole number of quarter turns",
            got=f"the matrix {a:g} {b:g} {c:g} {d:g}",
            hint="rotate it with another program",
        )
    return None if parts == (1, 0, 0, 1) else (parts[0], parts[1], parts[2], parts[3])


def turned(image: Image, matrix: tuple[int, int, int, int]) -> Image:
    """A view of an image, rotated and mirrored according to `display_matrix`."""
    a, b, c, d = matrix
    upright = image.swapaxes(0, 1) if a == 0 else image
    return upright[:: -1 if min(b, d) < 0 else 1, :: -1 if min(a, c) < 0 else 1]


def orientation_of(matrix: tuple[int, int, int, int] | None) -> int:
    """What `turned` does with such a matrix, as Exif numbers it: 1 to 8."""
    if matrix is None:
        return 1
    a, b, c, d = matrix
    backwards = (min(c, d) < 0, min(a, b) < 0)  # rows and columns, as they are stored
    straight = {(False, False): 1, (False, True): 2, (True, True): 3, (True, False): 4}
    across = {(False, False): 5, (True, False): 6, (True, True): 7, (False, True): 8}
    return (across if a == 0 else straight)[backwards]
