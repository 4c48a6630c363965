"""Pixels in memory that the device can read, as the letterbox kernel takes them: `DevicePixels`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args

from yoloship.errors import InputError
from yoloship.model import MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import Mapping


PixelFormat: TypeAlias = Literal["bgr", "rgb", "nv12", "p010"]
ColourMatrix: TypeAlias = Literal["bt601", "bt709", "bt2020"]

FORMATS: Final[tuple[PixelFormat, ...]] = get_args(PixelFormat)
_MATRICES: Final[tuple[ColourMatrix, ...]] = get_args(ColourMatrix)
_PIXEL_BYTES: Final[Mapping[PixelFormat, int]] = MappingProxyType({"bgr": 3, "rgb": 3, "nv12": 1, "p010": 2})
_PLANAR: Final = frozenset({"nv12", "p010"})
_TRANSPOSED: Final = frozenset({5, 6, 7, 8})
_ROWS_REVERSED: Final = frozenset({3, 4, 6, 7})
_COLUMNS_REVERSED: Final = frozenset({2, 3, 7, 8})
_WEIGHTS: Final[Mapping[ColourMatrix, tuple[int, int, int, int]]] = MappingProxyType(
    {
        "bt601": (104597, 132201, 25675, 53279),
        "bt709": (117489, 138438, 13975, 34925),
        "bt2020": (110013, 140363, 12277, 42626),
    }
)
"""Weights of V in red, U in blue, −U and −V in green, for limited range, in 1/65536.

Source: FFmpeg, libswscale/yuv2rgb.c, `ff_yuv2rgb_coeffs`.
"""


class Steps(NamedTuple):
    """How the kernel walks over an upright image, whatever the way in which it is stored.

    Attributes:
        data: Address of its first pixel.
        row_bytes: From one row to the next; may be negative.
        pixel_bytes: From one pixel to the next; may be negative.
        chroma: The same three for the chroma plane; 0 if there is none.
        chroma_row_bytes: See `chroma`.
        chroma_pixel_bytes: See `chroma`.
        chroma_shift: 1 if chroma rows begin at odd rows, plus 2 if chroma pixels begin at odd columns.
    """

    data: int
    row_bytes: int
    pixel_bytes: int
    chroma: int
    chroma_row_bytes: int
    chroma_pixel_bytes: int
    chroma_shift: int


@dataclass(frozen=True, slots=True)
class DevicePixels:
    """One image in memory that the device can read.

    Attributes:
        pointer: Address of its first pixel; for NV12 and P010, of the luma plane.
        pitch_bytes: Distance from one row to the next.
        stored_hw: (height, width) in pixels, as they are stored.
        pixel_format: `bgr` or `rgb` has 3 packed bytes for each pixel. `nv12` has a luma plane, and a chroma plane of
            half the size. `p010` is the same with samples of two bytes, little-endian, whose upper 10 bits count.
        chroma: Address of the chroma plane of NV12 and P010; 0 for other formats.
        chroma_pitch_bytes: Distance from one row of the chroma plane to the next.
        orientation: 1 to 8, as Exif numbers it: how stored pixels become upright.
        matrix: How NV12 and P010 become RGB; ignored for other formats.
        full_range: Whether their samples use all values, as in JPEG, or black is 16 and white 235.

    Raises:
        InputError: a value is outside its range, or contradicts another.
    """

    pointer: int
    pitch_bytes: int
    stored_hw: tuple[int, int]
    pixel_format: PixelFormat = "bgr"
    chroma: int = 0
    chroma_pitch_bytes: int = 0
    orientation: int = 1
    matrix: ColourMatrix = "bt601"
    full_range: bool = False

    def __post_init__(self) -> None:
        if self.pixel_format not in FORMATS:
            raise _refused("pixel_format", "bgr, rgb, nv12 or p010", self.pixel_format)
        if len(self.stored_hw) != 2 or not all(1 <= side <= MAX_SIDE for side in self.stored_hw):
            raise _refused("stored_hw", f"two sides from 1 to {MAX_SIDE}", self.stored_hw)
        if self.orientation not in range(1, 9):
            raise _refused("orientation", "1 to 8", self.orientation)
        if self.matrix not in _MATRICES:
            raise _refused("matrix", "bt601, bt709 or bt2020", self.matrix)
        width, each = self.stored_hw[1], _PIXEL_BYTES[self.pixel_format]
        if not width * each <= self.pitch_bytes < 2**31:
            raise _refused("pitch_bytes", f"{width * each} or more", self.pitch_bytes)
        if not 0 < self.pointer < 2**64:
            raise _refused("pointer", "an address", self.pointer)
        pairs = (width + 1) // 2 * 2 * each
        chroma = (self.chroma, self.chroma_pitch_bytes)
        if self.is_planar and not (0 < self.chroma < 2**64 and pairs <= self.chroma_pitch_bytes < 2**31):
            raise _refused("chroma", f"an address, and a pitch of {pairs} or more", chroma)
        if not self.is_planar and any(chroma):
            raise _refused("chroma", f"none for {self.pixel_format}", chroma)
        if (
            self.pixel_format == "p010"
            and (self.pointer | self.pitch_bytes | self.chroma | self.chroma_pitch_bytes) % 2
        ):
            raise _refused("pointer", "even addresses and pitches for p010", (self.pointer, self.pitch_bytes, *chroma))

    @property
    def is_planar(self) -> bool:
        """Whether there is a chroma plane."""
        return self.pixel_format in _PLANAR

    @property
    def upright_hw(self) -> tuple[int, int]:
        """(height, width) in pixels of the upright image."""
        height, width = self.stored_hw
        return (width, height) if self.orientation in _TRANSPOSED else (height, width)

    def steps(self) -> Steps:
        """How the kernel walks over it."""
        (height, width), each = self.stored_hw, _PIXEL_BYTES[self.pixel_format]
        if self.orientation == 1 and not self.is_planar:
            return Steps(self.pointer, self.pitch_bytes, each, 0, 0, 0, 0)
        backwards = (self.orientation in _ROWS_REVERSED, self.orientation in _COLUMNS_REVERSED)
        luma = _walk((self.pointer, self.pitch_bytes, each), (height, width), backwards)
        chroma, shifts = (0, 0, 0), (0, 0)
        if self.is_planar:
            halves = ((height + 1) // 2, (width + 1) // 2)
            chroma = _walk((self.chroma, self.chroma_pitch_bytes, 2 * each), halves, backwards)
            # Counted from the end of an odd side, the first chroma sample serves one pixel only.
            shifts = (height % 2 * backwards[0], width % 2 * backwards[1])
        if self.orientation in _TRANSPOSED:
            luma, chroma, shifts = _transposed(luma), _transposed(chroma), (shifts[1], shifts[0])
        return Steps(*luma, *chroma, shifts[0] + 2 * shifts[1])

    def colours(self) -> tuple[int, int, int, int, int, int]:
        """`struct Colours` of kernels/common.cuh, computed as libswscale does; zeros for packed pixels.

        Source: FFmpeg, libswscale/yuv2rgb.c, `ff_yuv2rgb_c_init_tables`. Equal to the host's conversion by measurement:
        a test compares them.
        """
        return _colours(self.matrix, self.full_range) if self.is_planar else (0, 0, 0, 0, 0, 0)


@lru_cache(maxsize=16)
def _colours(matrix: ColourMatrix, full_range: bool) -> tuple[int, int, int, int, int, int]:
    red_v, blue_u, green_u, green_v = _WEIGHTS[matrix]
    weights, luma, offset = [red_v, blue_u, -green_u, -green_v], (1 << 16) * 255 // 219, 8 * 16
    if full_range:
        weights, luma, offset = [int(weight * 224 / 255) for weight in weights], 1 << 16, 0
    scaled = [(weight * (1 << 13) + (1 << 15)) >> 16 for weight in (luma, *weights)]
    return (scaled[0], scaled[1], scaled[2], scaled[3], scaled[4], offset)


def _walk(plane: tuple[int, int, int], plane_hw: tuple[int, int], backwards: tuple[bool, bool]) -> tuple[int, int, int]:
    """A plane's address and steps if its rows, its columns, or both are read from the last to the first."""
    address, row, pixel = plane
    if backwards[0]:
        address, row = address + (plane_hw[0] - 1) * row, -row
    if backwards[1]:
        address, pixel = address + (plane_hw[1] - 1) * pixel, -pixel
    return address, row, pixel


def _transposed(walk: tuple[int, int, int]) -> tuple[int, int, int]:
    return walk[0], walk[2], walk[1]


def _refused(subject: str, expected: str, got: object) -> InputError:
    return InputError("wrong pixels", subject=subject, expected=expected, got=str(got))
