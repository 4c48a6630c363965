"""What the machine works on while it runs: names that stand for globals, and objects that are not finished yet.

All of it is inert. A draft becomes a record (`yoloship.checkpoint.freeze`) once the whole stream has been read, because
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

    def as_key(self, key: object) -> object:
        """What stands for a dictionary key or set member: the value itself if it is plain, else an `OddKey`.

        Raises:
            CheckpointError: it is too large, or there are too many.
        """


class Global:
    """A name in the stream that stands for a class or a function. It is never resolved.

    Attributes:
        class_path: As the file has it.
        make: Our own constructor for what calling it would give. None if a call gives nothing but an inert `Draft`.
        instantiable: Whether NEWOBJ gives an inert `Draft`.
        foreign: Whether the name is outside the allow-table and its rules.
    """

    __slots__ = ("class_path", "foreign", "instantiable", "make")

    def __init__(
        self,
        class_path: str,
        make: Callable[[Context, str, tuple[object, ...]], object] | None = None,
        *,
        instantiable: bool = False,
        foreign: bool = False,
    ) -> None:
        self.class_path = class_path
        self.make = make
        self.instantiable = instantiable
        self.foreign = foreign


class Draft:
    """An object of a class that means nothing to us yet: its class path, arguments and state.

    Attributes:
        class_path: As the file has it.
        arguments: What it was made from.
        state: What its BUILD instruction gave it.
        foreign: Whether its class is outside the allow-table and its rules.
        odd: Why it is not simply an instance with a state, if so: nobody can say what such an object is.
    """

    __slots__ = ("arguments", "class_path", "foreign", "odd", "state")

    def __init__(
        self, class_path: str, arguments: tuple[object, ...] = (), *, foreign: bool = False, odd: str | None = None
    ) -> None:
        self.class_path = class_path
        self.arguments = arguments
        self.state: object = None
        self.foreign = foreign
        self.odd = odd


class OddKey:
    """A dictionary key or set member that is not plain: a tuple, an enumeration's member, a tensor.

    Its hash is its identity, so that no file can make keys collide.
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def is_foreign(value: object) -> bool:
    """Whether this is a name outside the allow-table, or an object of one."""
    return isinstance(value, Global | Draft) and value.foreign


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
        self.value: npt.NDArray[np.generic] | list[str | bytes] | None = None
