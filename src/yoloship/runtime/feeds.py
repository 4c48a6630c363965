"""Checking what is fed to a session, the same way for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from yoloship.tensors import TensorSpec


def check_feeds(specs: tuple[TensorSpec, ...], feeds: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Refuse feeds that do not fit a model's inputs.

    Args:
        specs: The model's inputs.
        feeds: Arrays by input name; read only.

    Raises:
        InputError: a feed is missing, unknown, not C-contiguous, or of another dtype or shape, or two dynamic axes of
            one name differ.
    """
    names = [spec.name for spec in specs]
    if feeds.keys() != set(names):
        raise InputError(
            "the feeds are not the model's inputs",
            expected=", ".join(names) or "none",
            got=", ".join(map(str, feeds)) or "none",
        )
    extents: dict[str, int] = {}
    for spec in specs:
        array = feeds[spec.name]
        spec.check(array)
        if not array.flags.c_contiguous:
            raise InputError("array is not C-contiguous", subject=spec.name, hint="pass numpy.ascontiguousarray of it")
        for axis, extent in zip(spec.shape, array.shape, strict=True):
            if isinstance(axis, str) and extents.setdefault(axis, extent) != extent:
                raise InputError(
                    f"axis {axis!r} differs from the same axis elsewhere",
                    subject=spec.name,
                    expected=str(extents[axis]),
                    got=str(extent),
                )
