"""How a detector shares a GPU out, `CudaTuning`, and how a frame gets there, `TransferPolicy`.

| mode     | the frame lies …              | and goes …                                                               |
| -------- | ----------------------------- | ------------------------------------------------------------------------ |
| resident | on the device already         | nowhere: the letterbox reads it there                                    |
| pinned   | in pinned host memory         | up by DMA, from where it lies                                            |
| mapped   | there, and is much too big    | nowhere: the letterbox reads the pixels that it needs over the bus       |
| copied   | in ordinary host memory       | onto pinned memory, by several threads, and on as said below             |
| resized  | there, and is far too big     | onto pinned memory scaled by OpenCV already, and on as said below        |

Of frames whose height is 3 or more whole times that of the scaled image (1080p and 4K on 640), only the rows that
bilinear interpolation weighs are copied: see `RowPick`. From pinned memory a lone frame is fetched by a kernel: memory
that several cores have just written comes to it twice as fast as to the DMA (kernels/fetch.cu). Frames of a batch go up
by DMA in pieces of several frames, each while the next are copied.

On an integrated GPU, whose memory is the host's, nothing goes up: all pinned frames are `mapped`, and `copied` and
`resized` ones are read where the host has put them.

A lone `mapped` frame of which at least four rows of the canvas fit into a block of threads (as of 1080p on 640) is
letterboxed row by row (kernels/letterbox_host.cu); others pixel by pixel.

All modes give the model the same numbers, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from yoloship.errors import InputError

if TYPE_CHECKING:
    from yoloship.letterbox import Letterbox


TransferMode: TypeAlias = Literal["resident", "pinned", "mapped", "copied", "resized"]
PinnedMode: TypeAlias = Literal["pinned", "mapped"]
PageableMode: TypeAlias = Literal["copied", "resized"]


@dataclass(frozen=True, slots=True)
class TransferPolicy:
    """When to use which transfer mode.

    Shrinkage is source pixels for each pixel on the canvas: 1080p on 640 has 9, 4K 36.

    Attributes:
        map_from: Pinned frames of at least this shrinkage are read in place by the kernel instead of going up whole.
        resize_from: Frames in ordinary memory of at least this shrinkage are scaled on the host; rows that need not be
            copied do not count.
        pinned_mode: Used for all pinned frames, whatever their shrinkage; None decides by it.
        pageable_mode: Used for all frames in ordinary memory, whatever their shrinkage; None decides by it.

    Raises:
        InputError: a value is outside its range.
    """

    map_from: float = 6.0
    resize_from: float = 18.0
    pinned_mode: PinnedMode | None = None
    pageable_mode: PageableMode | None = None

    def __post_init__(self) -> None:
        for name in ("map_from", "resize_from"):
            if not getattr(self, name) >= 0:
                raise _wrong(name, "0 or more", getattr(self, name))
        for name, kind in (("pinned_mode", PinnedMode), ("pageable_mode", PageableMode)):
            if getattr(self, name) is not None and getattr(self, name) not in get_args(kind):
                raise _wrong(name, " or ".join(get_args(kind)), getattr(self, name))

    def plan(self, letterbox: Letterbox, *, integrated: bool = False) -> TransferPlan:
        """The modes of frames of one size.

        Args:
            letterbox: Where they lie on the canvas.
            integrated: Whether the device's memory is the host's.
        """
        shrunk = shrinkage(letterbox)
        pick = RowPick.of(letterbox)
        copied = shrunk * (pick.count / pick.step if pick else 1)
        pinned: PinnedMode = "mapped" if integrated or shrunk >= self.map_from else "pinned"
        pageable: PageableMode = "resized" if copied >= self.resize_from else "copied"
        return TransferPlan(letterbox, self.pinned_mode or pinned, self.pageable_mode or pageable, pick)


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """What is decided once for all frames of one size.

    Attributes:
        letterbox: Where they lie on the canvas.
        pinned: The mode of those in pinned memory.
        pageable: The mode of those in ordinary memory.
        pick: Which rows are copied if the mode is `copied`; None copies all.
    """

    letterbox: Letterbox
    pinned: PinnedMode
    pageable: PageableMode
    pick: RowPick | None


@dataclass(frozen=True, slots=True)
class RowPick:
    """Which rows of a frame count, if its height is a whole multiple of the scaled image's.

    Row d of the scaled image has its centre at p(d) = (d + ½)·s − ½ in the source. With s odd that is a row of its
    own, d·s + (s − 1)/2, and no other has weight; with s even it lies half-way between two. So in an image made of
    those rows alone (one for each d, or two) every d finds the same rows with the same weights.

    Attributes:
        step: s, source rows for each row of the scaled image; 3 or more.
        count: Rows that count of each `step`: 1 or 2.
        first: The first of them.
    """

    step: int
    count: int
    first: int

    @classmethod
    def of(cls, letterbox: Letterbox) -> RowPick | None:
        """The rows of a frame that count; None if those are all, or nearly."""
        step, rest = divmod(letterbox.image_hw[0], letterbox.resized_hw[0])
        if rest or step < 3:
            return None
        return cls(step, 2 - step % 2, (step - 1) // 2)


def shrinkage(letterbox: Letterbox) -> float:
    """Source pixels for each pixel of the scaled image."""
    (height, width), (rows, columns) = letterbox.image_hw, letterbox.resized_hw
    return height * width / (rows * columns)


def _wrong(subject: str, expected: str, got: object) -> InputError:
    return InputError("out of range", subject=subject, expected=expected, got=repr(got))


OnFullMemory: TypeAlias = Literal["raise", "halve"]
"""What to do if a batch does not fit into the device's memory: raise an error, or run it as two halves."""

MAX_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class CudaTuning:
    """How a `Detector` uses a GPU. The defaults suit a server GPU.

    Attributes:
        slots: Batches in flight at the same time, each with its own stream and memory; created when first needed.
        max_batch: Maximum number of images in a run, if the network's batch is dynamic.
        plans: How many combinations of batch size and canvas a slot keeps ready.
        copy_threads: Threads that copy the frames of batches from ordinary to pinned memory; no more than there are
            cores, and at most three for each of several GPUs. A lone frame is copied by OpenCV's threads.
        transfer: How frames are transferred to the device.
        on_full_memory: What to do if a batch does not fit into the device's memory: ``raise``, or ``halve`` it.

    Raises:
        InputError: a value is outside its range.
    """

    slots: int = 4
    max_batch: int = MAX_BATCH
    plans: int = 6
    copy_threads: int = 8
    transfer: TransferPolicy = field(default_factory=TransferPolicy)
    on_full_memory: OnFullMemory = "raise"

    def __post_init__(self) -> None:
        for name, most in (("slots", 64), ("max_batch", 1024), ("plans", 1024), ("copy_threads", 256)):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) <= most:
                raise InputError("out of range", subject=name, expected=f"1 to {most}", got=repr(value)[:60])
            object.__setattr__(self, name, int(value))
        if self.on_full_memory not in get_args(OnFullMemory):
            raise InputError(
                "no such choice", subject="on_full_memory", expected="raise or halve", got=str(self.on_full_memory)
            )
