"""What the machine works on while it runs: names that stand for globals, and objects that are not finished yet.

All of it is inert. A draft becomes a record (`yoloship.checkpoint.finish`) once the whole stream has been read, because
a pickle may fill an object long after others have begun to refer to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from yoloship.checkpoint.limits import Limits
    from yoloship.errors import CheckpointError


class Context(Protocol):
    """What a constructor may ask of the machine."""

    @property
    def limits(self) -> Limits:
        """The bounds in force."""

    def refuse(self, problem: str) -> CheckpointError:
        """An error that says where in the stream."""

    def charge(self, items: int) -> None:
        """Account for a copy before it is made.

        Raises:
            CheckpointError: too much has been copied already.
        """

    def check_key(self, key: object) -> None:
        """Refuse a dictionary key or set member that is not plain.

        Raises:
            CheckpointError: it is none, or there are too many.
        """


class Global:
    """A name in the stream that stands for a class or a function. It is never resolved.

    Attributes:
        class_path: As the file has it.
        make: Our own constructor for what calling it would give; None for a class admitted by rule, which can only
            be instantiated, and for a name that can only be mentioned.
        instantiable: Whether NEWOBJ gives an inert `Draft`.
    """

    __slots__ = ("class_path", "instantiable", "make")

    def __init__(
        self,
        class_path: str,
        make: Callable[[Context, str, tuple[object, ...]], object] | None = None,
        *,
        instantiable: bool = False,
    ) -> None:
        self.class_path = class_path
        self.make = make
        self.instantiable = instantiable


class Draft:
    """An object of a class that means nothing to us yet: its class path, arguments and state."""

    __slots__ = ("arguments", "class_path", "state")

    def __init__(self, class_path: str, arguments: tuple[object, ...] = ()) -> None:
        self.class_path = class_path
        self.arguments = arguments
        self.state: object = None


class DTypeDraft:
    """A NumPy dtype: its code (``f8``) at once, its byte order when its state comes."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"


class ArrayDraft:
    """A NumPy array whose contents come with its state."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: npt.NDArray[np.generic] | None = None
