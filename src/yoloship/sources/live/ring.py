"""Memory that a decoder process shares with this one: a few slots, each with room for one image.

A slot has one owner at any time, so that no image can be torn: the decoder owns the free ones, and a filled one is ours
until its number is sent back. The memory has no name in the file system. It is gone with the last process that uses it,
however that ends. Only the pages that images fill are really taken.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SLOT_BYTES: Final = 7680 * 4352 * 3
"""Room for one image: 8K, with the lines that codecs add. A stream of larger images is refused."""


def make_memory(slots: int) -> int:
    """Make the memory of a ring, and return its file descriptor, which the caller closes.

    Raises:
        OSError: there is no memory, or no file descriptor.
    """
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("yoloship-live")
    else:  # a file that has lost its name already
        with tempfile.TemporaryFile(prefix="yoloship-live-") as file:
            number = os.dup(file.fileno())
    try:
        os.ftruncate(number, slots * SLOT_BYTES)
    except OSError:
        os.close(number)
        raise
    return number


class Ring:
    """The slots of one decoder, in either process.

    Args:
        number: The file descriptor of `make_memory`; it may be closed afterwards.
        slots: How many slots there are.
    """

    def __init__(self, number: int, slots: int) -> None:
        self._memory = mmap.mmap(number, slots * SLOT_BYTES)
        self.slots = slots

    def image(self, slot: int, image_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """A slot as (height, width, 3) uint8, without a copy. It is only the owner's to read or write.

        Args:
            slot: From 0.
            image_hw: Height and width in pixels, which fit the slot.
        """
        import numpy as np

        shape = (*image_hw, 3)
        assert 0 <= slot < self.slots
        assert shape[0] * shape[1] * 3 <= SLOT_BYTES
        image: npt.NDArray[np.uint8] = np.ndarray(shape, np.uint8, self._memory, slot * SLOT_BYTES)
        return image
