"""Images from files, bytes and other libraries' objects, as (height, width, 3) uint8 BGR arrays.

Other images are converted in the same way as by the training code's own loader, so that boxes agree:

- the Exif orientation is applied, and the rotation that AVIF and HEIC files state;
- greyscale is repeated over three channels; 16-bit samples are scaled by their full range to 8;
- an alpha channel is dropped, not composited, because training used the colours beneath it;
- of an animation or a file with several images, the first one is used; of a HEIC file, the main one;
- CMYK and YCCK are converted without colour profiles, as libjpeg and libtiff do.
"""

from __future__ import annotations

from yoloship.images.normalise import ChannelOrder, DecodeChoice, as_bgr, as_channels, checked_order, stated_order
from yoloship.images.reading import (
    DEFAULT_LIMITS,
    HEIC_HINT,
    ImageFile,
    ImageHeader,
    ImageLimits,
    bytes_of_file,
    image_size,
    open_image,
    read_header,
    read_image,
)

__all__ = [
    "DEFAULT_LIMITS",
    "HEIC_HINT",
    "ChannelOrder",
    "DecodeChoice",
    "ImageFile",
    "ImageHeader",
    "ImageLimits",
    "as_bgr",
    "as_channels",
    "bytes_of_file",
    "checked_order",
    "image_size",
    "open_image",
    "read_header",
    "read_image",
    "stated_order",
]
