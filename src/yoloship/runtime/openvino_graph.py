"""Changes to a graph before OpenVINO compiles it.

`keep_channel_order` avoids an error of OpenVINO. `tune_for_bfloat16` saves time in bfloat16, where the convolutions are
so fast that what is around them takes most of a run. On an Intel Xeon with AMX, SiLU inside the convolutions took 40 %
of a yolov5n, making float32 planes of its undecoded maps 13 %, and making planes of the image 4 % (2026.4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

    import numpy.typing as npt

_TO_PLANES: Final = [0, 3, 1, 2]
_FROM_PLANES: Final = [0, 2, 3, 1]
_SILU_RANGE: Final = 8.0
_SILU: Final = (
    0.08777578920125961, -0.04154845327138901, 0.02873854525387287, -0.029718173667788506, 0.021858951076865196,
    0.014855070039629936, -0.009294191375374794, -0.03663449361920357, 0.02646695449948311,
)  # fmt: skip
"""(σ(u) − ½) / u as a polynomial of 2·(u/8)² − 1, lowest power first; a minimax fit for |u| ≤ 8 that is exact at 8."""


def keep_channel_order(openvino: ModuleType, model: Any) -> None:
    """Write the axis of each Gather over channels as the equivalent negative number.

    OpenVINO moves such a Gather into the weights of the convolutions after it, but uses the channel order instead of
    its inverse: every network with a channel shuffle of this form gave wrong boxes (measured with 2026.4.1). This
    happens only for axis 1.
    """
    for node in model.get_ops():
        if node.get_type_name() != "Gather" or node.input_value(0).get_partial_shape().rank.is_dynamic:
            continue
        axis = _constant(node.input_value(2))
        if axis is not None and axis.reshape(-1).tolist() == [1]:
            rank = node.input_value(0).get_partial_shape().rank.get_length()
            negative = openvino.op.Constant(np.array(1 - rank, np.int64))
            node.input(2).replace_source_output(negative.output(0))


def tune_for_bfloat16(openvino: ModuleType, model: Any) -> None:
    """Make a graph of fixed shapes faster in bfloat16. A graph of dynamic shapes stays as it is.

    Outputs that are maps of a convolution become (B, h, w, C) bfloat16.

    Args:
        openvino: The library.
        model: Changed in place.
    """
    if model.is_dynamic():
        return
    operators = openvino.opset13
    for node in model.get_ops():
        if node.get_type_name() == "Convolution":
            _fold_columns(operators, node)
        elif node.get_type_name() == "Multiply":
            _unfuse_silu(operators, node)
    for result in model.get_results():
        _give_channels_last(operators, result)
    model.validate_nodes_and_infer_types()


def _fold_columns(operators: Any, convolution: Any) -> None:
    """Let the first convolution read the columns of one horizontal step as one column with more channels.

    A uint8 image (B, H, W, C) is (B, H, W/s, s·C) without moving a byte, and with more than three channels OpenVINO
    reads it as it lies, instead of making planes first.
    """
    found = _chain(convolution.input_value(0), "Transpose", "Convert", "Parameter")
    weight = _constant(convolution.input_value(1))
    if found is None or weight is None:
        return
    planes, _, image = found
    order = _constant(planes.input_value(1))
    options = convolution.get_attributes()
    (down, step), (top, left), (bottom, _) = options["strides"], options["pads_begin"], options["pads_end"]
    columns, channels = image.shape[2:]
    if (
        order is None
        or order.tolist() != _TO_PLANES
        or image.get_element_type().to_string() != "u8"
        or list(options["dilations"]) != [1, 1]
        or step < 2
        or columns % step
    ):
        return
    folded, left_blocks = _folded(weight, step, left)
    right_blocks = convolution.shape[3] - columns // step - left_blocks + folded.shape[3] - 1
    if right_blocks < 0:
        return
    blocks = operators.reshape(
        operators.convert(image, "f32"), np.array([0, 0, columns // step, step * channels]), special_zero=True
    )
    narrow = operators.convolution(
        operators.transpose(blocks, np.array(_TO_PLANES)),
        operators.constant(folded),
        [down, 1],
        [top, left_blocks],
        [bottom, right_blocks],
        [1, 1],
    )
    convolution.output(0).replace(narrow.output(0))


def _folded(weight: npt.NDArray[np.float32], step: int, left: int) -> tuple[npt.NDArray[np.float32], int]:
    """The weights (O, step·I, kh, blocks) for blocks of `step` columns, and the blocks of padding on the left."""
    out, channels, height, width = weight.shape
    left_blocks = -(-left // step)
    blocks = left_blocks + (width - 1 - left) // step + 1
    columns = np.zeros((out, channels, height, blocks * step), np.float32)
    start = left_blocks * step - left
    columns[..., start : start + width] = weight
    parts = columns.reshape(out, channels, height, blocks, step).transpose(0, 4, 1, 2, 3)
    return np.ascontiguousarray(parts.reshape(out, step * channels, height, blocks)), left_blocks


def _unfuse_silu(operators: Any, product: Any) -> None:
    """Write x·σ(x) as multiplications and additions, which become one pass over what a convolution gives.

    OpenVINO would compute an exponential and a division inside the convolution, which takes longer. The polynomial is
    within 3.8e-4·max(1, |x|), where rounding x to bfloat16 changes it by up to 2e-3·|x|. It is exact beyond ±8, and NaN
    stays NaN.
    """
    x, gate = product.input_value(0), product.input_value(1)
    if x.get_node().get_type_name() == "Sigmoid":
        x, gate = gate, x
    if gate.get_node().get_type_name() != "Sigmoid" or gate.get_node().input_value(0) != x:
        return

    def number(value: float) -> Any:
        return operators.constant(np.full((1,) * x.get_partial_shape().rank.get_length(), value, np.float32))

    u = operators.minimum(operators.maximum(x, number(-_SILU_RANGE)), number(_SILU_RANGE))
    square = operators.multiply(operators.multiply(u, u), number(2 / _SILU_RANGE**2))
    s = operators.add(square, number(-1.0))
    value = number(_SILU[-1])
    for coefficient in _SILU[-2::-1]:
        value = operators.add(operators.multiply(value, s), number(coefficient))
    sigma = operators.add(operators.multiply(value, u), number(0.5))
    product.output(0).replace(operators.multiply(x, sigma).output(0))


def _give_channels_last(operators: Any, result: Any) -> None:
    """Give the map of a convolution as OpenVINO computes it: channels last, in bfloat16.

    To make float32 planes of it takes longer than the convolution itself.
    """
    source = result.input_value(0)
    is_map = _chain(source, "Convolution") or _chain(source, "Add", "Convolution")
    if not is_map or len(source.get_shape()) != 4:
        return
    last = operators.transpose(source, np.array(_FROM_PLANES))
    result.input(0).replace_source_output(operators.convert(last, "bf16").output(0))


def _constant(value: Any) -> Any:
    """The array of a constant; None if it is computed."""
    node = value.get_node()
    return node.get_data() if node.get_type_name() == "Constant" else None


def _chain(value: Any, *kinds: str) -> list[Any] | None:
    """The nodes of these kinds, each the first input of the one before it; None if one is of another kind."""
    nodes = []
    for kind in kinds:
        node = value.get_node()
        if node.get_type_name() != kind:
            return None
        nodes.append(node)
        value = node.input_value(0) if node.get_input_size() else None
    return nodes
