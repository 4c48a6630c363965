"""The numbers of a stored tensor, from a file that may lie about how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.errors import GraphError

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

_BFLOAT16 = 16
"""`onnx.TensorProto.BFLOAT16`."""


def stored_values(tensor: onnx.TensorProto) -> npt.NDArray[np.generic]:
    """The elements, bfloat16 widened to float32.

    Args:
        tensor: With its data inside; not one whose data lies in another file.

    Returns:
        An array of the tensor's shape; it may be a read-only view of its bytes.

    Raises:
        GraphError: there are more or fewer elements than its shape says, or none of its type can be read.
    """
    from onnx import numpy_helper

    try:
        if tensor.data_type == _BFLOAT16 and tensor.raw_data:
            bits = np.frombuffer(tensor.raw_data, "<u2").astype(np.uint32) << np.uint32(16)
            values: npt.NDArray[np.generic] = bits.view(np.float32).reshape(tuple(tensor.dims))
            return values
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise GraphError(
            "a stored tensor is damaged",
            subject=tensor.name or "stored tensor",
            expected=f"elements for the shape {tuple(tensor.dims)}",
            got=str(error)[:120],
            hint="export the model again",
        ) from error
