"""The values of the machine while it runs: names that stand for globals, and objects that are not finished yet.

All of them are inert. A draft becomes a record (`yoloship.checkpoint.freeze`) after the whole stream has been read,
because a pickle may fill an object long after other objects refer to it.
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
    """The part of the machine that constructors may use."""

    @property
    def limits(self) -> Limits:
        """The limits that apply."""

    def refuse(self, problem: str) -> CheckpointError:
        """An error that names the position in the stream."""

    def charge(self, items: int) -> None:
        """Count a copy before it is made.

        Raises:
            CheckpointError: too much has been copied already.
        """

    def as_key(self, key: object) -> object:
        """The stand-in for a dictionary key or set member: the value itself if it is plain, else an `OddKey`.

        Raises:
            CheckpointError: the key is too large, or there are too many keys.
        """


class Global:
    """A name in the stream that stands for a class or a function. It is never resolved.

    Attributes:
        class_path: The dotted name in the file.
        make: Our own constructor that answers a call of this name. None if a call gives an inert `Draft`.
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
        class_path: The dotted name in the file.
        arguments: The arguments that it was made from.
        state: The state from its BUILD instruction.
        foreign: Whether its class is outside the allow-table and its rules.
        odd: Why it is more than an instance with a state, so that nobody can say what it is; None otherwise.
        owner: Of a bound method, the object that it belongs to.
    """

    __slots__ = ("arguments", "class_path", "foreign", "odd", "owner", "state")

    def __init__(
        self, class_path: str, arguments: tuple[object, ...] = (), *, foreign: bool = False, odd: str | None = None
    ) -> None:
        self.class_path = class_path
        self.arguments = arguments
        self.state: object = None
        self.foreign = foreign
        self.odd = odd
        self.owner: Draft | None = None


class OddKey:
    """A dictionary key or set member that is not plain: a tuple, a member of an enumeration, a tensor.

    Its hash is its identity, so a file cannot make keys collide.
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def is_foreign(value: object) -> bool:
    """Whether this is a name outside the allow-table, or an object of one."""
    return isinstance(value, Global | Draft) and value.foreign


class DTypeDraft:
    """A NumPy dtype. Its code (``f8``) is known at once, its byte order comes with its state."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"


class ArrayDraft:
    """A NumPy array whose contents come with its state."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: npt.NDArray[np.generic] | list[str | bytes] | None = None
