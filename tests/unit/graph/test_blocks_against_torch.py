"""Layers and blocks against torch's own arithmetic, where torch is installed: a reference in development only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.modules import Maker, activation, changed, module, sequential
from helpers.parts import run_part as run

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.checkpoint import Module

torch = pytest.importorskip("torch", reason="torch is not installed; it is a reference for development only")
F = torch.nn.functional


def t(part: Module, name: str) -> Any:
    found = part.parameters.get(name)
    found = part.buffers.get(name) if found is None else found
    return None if found is None else torch.from_numpy(np.array(found.numpy())).double()


def conv(part: Module, x: Any) -> Any:
    a = part.attributes
    return F.conv2d(x, t(part, "weight"), t(part, "bias"), a["stride"], a["padding"], a["dilation"], a["groups"])


def norm(part: Module, x: Any) -> Any:
    values = [t(part, name) for name in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *values, eps=part.attributes["eps"])


def block(part: Module, x: Any) -> Any:
    c = part.children
    return F.silu(norm(c["bn"], conv(c["conv"], x)))  # type: ignore[arg-type]


MAKE = Maker(1)
X = Maker(2).values(2, 8, 12, 16)

ACTIVATIONS: list[tuple[Module, Callable[[Any], Any]]] = [
    (activation("SiLU"), F.silu),
    (activation("Mish"), F.mish),
    (activation("ReLU"), F.relu),
    (activation("ReLU6"), F.relu6),
    (activation("LeakyReLU", negative_slope=0.1), lambda x: F.leaky_relu(x, 0.1)),
    (activation("ELU", alpha=0.7), lambda x: F.elu(x, 0.7)),
    (activation("Hardswish"), F.hardswish),
    (activation("Hardsigmoid"), F.hardsigmoid),
    (activation("Sigmoid"), torch.sigmoid),
    (activation("Tanh"), torch.tanh),
    (activation("GELU", approximate="none"), F.gelu),
    (activation("GELU", approximate="tanh"), lambda x: F.gelu(x, approximate="tanh")),
    (activation("Softplus", beta=1.0, threshold=20.0), F.softplus),
    (activation("Softplus", beta=3, threshold=2), lambda x: F.softplus(x, 3, 2)),
    (activation("Hardtanh", min_val=-0.5, max_val=1.5), lambda x: F.hardtanh(x, -0.5, 1.5)),
    (activation("CELU", alpha=0.7), lambda x: F.celu(x, 0.7)),
    (activation("SELU"), F.selu),
    (activation("RReLU", lower=0.1, upper=0.3), lambda x: F.rrelu(x, 0.1, 0.3)),
    (
        module("torch.nn.modules.activation.PReLU", None, {"weight": [0.2]}),
        lambda x: F.prelu(x, torch.tensor([0.2]).double()),
    ),
]
PLAIN = "torch.nn.modules."
POOL = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": False}
DECONV = {
    "stride": (2, 2),
    "padding": (1, 1),
    "dilation": (1, 1),
    "output_padding": (1, 1),
    "groups": 2,
    "padding_mode": "zeros",
}
GROUPS = {"num_groups": 4, "num_channels": 8, "eps": 1e-3, "affine": True}
GROUP_WEIGHT, GROUP_BIAS = MAKE.values(8), MAKE.values(8)
DECONV_WEIGHT, DECONV_BIAS = MAKE.values(8, 3, 3, 3), MAKE.values(6)
LAYERS: list[tuple[Module, Callable[[Any], Any]]] = [
    (
        changed(MAKE.conv2d(8, 12, 3, 2, groups=4, bias=True), dilation=(2, 1), padding=(1, 3)),
        lambda x: conv(LAYERS[0][0], x),
    ),
    (
        module(f"{PLAIN}pooling.MaxPool2d", {**POOL, "dilation": 2, "return_indices": False}),
        lambda x: F.max_pool2d(x, 3, 2, 1, 2),
    ),
    (
        module(f"{PLAIN}pooling.AvgPool2d", {**POOL, "count_include_pad": True, "divisor_override": None}),
        lambda x: F.avg_pool2d(x, 3, 2, 1),
    ),
    (
        module(f"{PLAIN}pooling.AvgPool2d", {**POOL, "count_include_pad": False, "divisor_override": None}),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    ),
    (module(f"{PLAIN}pooling.AdaptiveAvgPool2d", {"output_size": 1}), lambda x: F.adaptive_avg_pool2d(x, 1)),
    (
        module(
            f"{PLAIN}upsampling.Upsample",
            {"scale_factor": (3.0, 2), "mode": "nearest", "size": None, "align_corners": None},
        ),
        lambda x: F.interpolate(x, scale_factor=(3, 2), mode="nearest"),
    ),
    (module(f"{PLAIN}padding.ZeroPad2d", {"padding": (1, 2, 3, 4), "value": 0.0}), lambda x: F.pad(x, (1, 2, 3, 4))),
    (
        module(f"{PLAIN}conv.ConvTranspose2d", DECONV, {"weight": DECONV_WEIGHT, "bias": DECONV_BIAS}),
        lambda x: F.conv_transpose2d(
            x, torch.from_numpy(DECONV_WEIGHT).double(), torch.from_numpy(DECONV_BIAS).double(), 2, 1, 1, 2
        ),
    ),
    (MAKE.batch_norm(8), lambda x: norm(LAYERS[8][0], x)),
    (
        module(f"{PLAIN}batchnorm.BatchNorm2d", {"eps": 1e-3, "affine": False}, {"weight": None, "bias": None}),
        lambda x: F.batch_norm(x, None, None, training=True, eps=1e-3),
    ),
    (
        module(f"{PLAIN}normalization.GroupNorm", GROUPS, {"weight": GROUP_WEIGHT, "bias": GROUP_BIAS}),
        lambda x: F.group_norm(
            x, 4, torch.from_numpy(GROUP_WEIGHT).double(), torch.from_numpy(GROUP_BIAS).double(), 1e-3
        ),
    ),
    (MAKE.conv2d(8, 8, kernel_size=(3, 4), padding="same", dilation=(2, 1)), lambda x: conv(LAYERS[11][0], x)),
    (MAKE.conv2d(8, 8, 3, padding="valid"), lambda x: conv(LAYERS[12][0], x)),
    (
        module("models.common.Contract", {"gain": 2}),
        lambda x: x.view(2, 8, 6, 2, 8, 2).permute(0, 3, 5, 1, 2, 4).reshape(2, 32, 6, 8),
    ),
    (
        module("models.common.Expand", {"gain": 2}),
        lambda x: x.view(2, 2, 2, 2, 12, 16).permute(0, 3, 4, 1, 5, 2).reshape(2, 2, 24, 32),
    ),
]


@pytest.mark.parametrize(
    ("part", "reference"), ACTIVATIONS + LAYERS, ids=lambda value: getattr(value, "class_name", "")
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_a_layer_computes_what_torch_does(part: Module, reference: Callable[[Any], Any]) -> None:
    want = reference(torch.from_numpy(X).double()).numpy()
    assert np.abs(run(part, X) - want).max() <= 2e-5


def test_a_cross_convolution_adds_its_input() -> None:
    part = module(
        "models.common.CrossConv",
        {"add": True},
        cv1=MAKE.conv(8, 6, kernel_size=(1, 3), padding=(0, 1)),
        cv2=MAKE.conv(6, 8, kernel_size=(3, 1), padding=(1, 0)),
    )
    x = torch.from_numpy(X).double()
    want = x + block(part.children["cv2"], block(part.children["cv1"], x))  # type: ignore[arg-type]
    assert np.abs(run(part, X) - want.numpy()).max() <= 2e-5


def test_funnel_relu_takes_the_larger_of_value_and_condition() -> None:
    part = module("utils.activations.FReLU", conv=MAKE.conv2d(8, 8, 3, groups=8), bn=MAKE.batch_norm(8))
    x = torch.from_numpy(X).double()
    want = torch.maximum(x, norm(part.children["bn"], conv(part.children["conv"], x)))  # type: ignore[arg-type]
    assert np.abs(run(part, X) - want.numpy()).max() <= 2e-5


@pytest.mark.parametrize("weighted", [True, False])
def test_a_sum_weighs_all_but_the_first(weighted: bool) -> None:
    weights = np.array([-0.5, 0.3], np.float32)
    part = module("models.experimental.Sum", {"weight": weighted}, {"w": weights} if weighted else None)
    ys = [Maker(seed).values(1, 4, 3, 5) for seed in range(3)]
    factors = 2 / (1 + np.exp(-weights)) if weighted else np.ones(2)
    want = ys[0] + factors[0] * ys[1] + factors[1] * ys[2]
    assert np.abs(run(part, *ys) - want).max() <= 1e-6


@pytest.mark.parametrize("bias", [True, False])
def test_a_transformer_layer_is_torchs_multihead_attention(bias: bool) -> None:
    channels, heads = 8, 2
    torch.manual_seed(5)
    attention = torch.nn.MultiheadAttention(channels, heads, bias=bias).double()
    if bias:
        torch.nn.init.normal_(attention.in_proj_bias)
        torch.nn.init.normal_(attention.out_proj.bias)
    linear = {
        name: torch.nn.Linear(channels, channels, bias=bias).double() for name in ("q", "k", "v", "fc1", "fc2", "p")
    }

    def as_module(layer: Any) -> Module:
        parameters = {"weight": layer.weight.detach().numpy(), "bias": layer.bias.detach().numpy() if bias else None}
        return module("torch.nn.modules.linear.Linear", None, parameters)

    part = module(
        "models.common.TransformerBlock",
        {"conv": None, "c2": channels},
        linear=as_module(linear["p"]),
        tr=sequential(
            module(
                "models.common.TransformerLayer",
                **{name: as_module(linear[name]) for name in ("q", "k", "v", "fc1", "fc2")},
                ma=module(
                    "torch.nn.modules.activation.MultiheadAttention",
                    {"num_heads": heads, "bias_k": None, "bias_v": None, "add_zero_attn": False},
                    {
                        "in_proj_weight": attention.in_proj_weight.detach().numpy(),
                        "in_proj_bias": attention.in_proj_bias.detach().numpy() if bias else None,
                    },
                    out_proj=as_module(attention.out_proj),
                ),
            )
        ),
    )
    tokens = torch.from_numpy(X).double().flatten(2).permute(2, 0, 1)
    tokens = tokens + linear["p"](tokens)
    tokens = attention(linear["q"](tokens), linear["k"](tokens), linear["v"](tokens))[0] + tokens
    tokens = linear["fc2"](linear["fc1"](tokens)) + tokens
    want = tokens.permute(1, 2, 0).reshape(X.shape).detach().numpy()
    assert np.abs(run(part, X) - want).max() <= 2e-5
