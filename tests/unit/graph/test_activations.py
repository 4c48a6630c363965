"""Activations and norms against their formulas, written out in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.modules import Maker, activation, module
from helpers.parts import run_part
from yoloship.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.checkpoint import Module

TORCH = "torch.nn.modules."
MAKE = Maker(1)
X = (Maker(2).values(2, 8, 6, 10) * 4).astype(np.float32)
"""Reaches both flat ends of every activation."""
EXTREMES = np.array([-1e4, -60, -20.5, -3, 0, 3, 20.5, 60, 1e4] * 8, np.float32).reshape(1, 8, 3, 3)


def sigmoid(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(x / 2))


erf = np.vectorize(math.erf)

SIMPLE: list[tuple[Module, Callable[[Any], Any]]] = [
    (activation("GELU", approximate="none"), lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2)))),
    (activation("GELU"), lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2)))),
    (
        activation("GELU", approximate="tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    (activation("Softplus", beta=1, threshold=20), lambda x: np.where(x > 20, x, np.logaddexp(0, x))),
    (
        activation("Softplus", beta=2.5, threshold=3.0),
        lambda x: np.where(2.5 * x > 3, x, np.logaddexp(0, 2.5 * x) / 2.5),
    ),
    (activation("Hardtanh", min_val=-1.0, max_val=2.0), lambda x: np.clip(x, -1, 2)),
    (activation("CELU", alpha=0.7), lambda x: np.maximum(x, 0) + np.minimum(0, 0.7 * np.expm1(np.minimum(x, 0) / 0.7))),
    (
        activation("SELU"),
        lambda x: (
            1.0507009873554804934193349852946
            * np.where(x > 0, x, 1.6732632423543772848170429916717 * np.expm1(np.minimum(x, 0)))
        ),
    ),
    (activation("ELU", alpha=0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0)))),
    (activation("Mish"), lambda x: x * np.tanh(np.logaddexp(0, x))),
    (activation("RReLU", lower=0.125, upper=0.375), lambda x: np.where(x >= 0, x, 0.25 * x)),
    (activation("LeakyReLU", negative_slope=0.1), lambda x: np.where(x >= 0, x, 0.1 * x)),
    (activation("Hardsigmoid"), lambda x: np.clip(x + 3, 0, 6) / 6),
    (activation("Hardswish"), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    (activation("ReLU6"), lambda x: np.clip(x, 0, 6)),
    (activation("ReLU6", min_val=0.0, max_val=6.0), lambda x: np.clip(x, 0, 6)),
    (activation("ReLU6", min_val=0.0, max_val=1.0), lambda x: np.clip(x, 0, 1)),
    (module("utils.activations.Swish"), lambda x: x * sigmoid(x)),
    (module("models.common.h_sigmoid", relu=activation("ReLU6")), lambda x: np.clip(x + 3, 0, 6) / 6),
    (
        module("models.common.h_swish", sigmoid=module("models.common.h_sigmoid", relu=activation("ReLU6"))),
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
    ),
]


def close(found: Any, want: Any) -> None:
    np.testing.assert_allclose(found, want, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("part", "formula"), SIMPLE, ids=lambda value: getattr(value, "class_name", ""))
@pytest.mark.parametrize("values", [X, EXTREMES], ids=["usual", "extreme"])
def test_an_activation_is_its_formula(part: Module, formula: Callable[[Any], Any], values: Any) -> None:
    found = run_part(part, values)
    assert np.isfinite(found).all()
    close(found, formula(values.astype(np.float64)))


def acon_parts(*, second: bool = True) -> dict[str, Any]:
    p2 = MAKE.values(1, 8, 1, 1) if second else np.zeros((1, 8, 1, 1), np.float32)
    return {"p1": MAKE.values(1, 8, 1, 1), "p2": p2}


@pytest.mark.parametrize("second", [True, False])
def test_acon_switches_each_channel_by_its_own_beta(second: bool) -> None:
    parts = {**acon_parts(second=second), "beta": MAKE.values(1, 8, 1, 1)}
    part = module("utils.activations.AconC", None, parts)
    p1, p2, beta = (parts[name].astype(np.float64) for name in ("p1", "p2", "beta"))
    x = X.astype(np.float64)
    slope = (p1 - p2) * x
    close(run_part(part, X), slope * sigmoid(beta * slope) + p2 * x)


@pytest.mark.parametrize("dynamic", [True, False])
def test_meta_acon_computes_its_switch_from_the_means(dynamic: bool) -> None:
    parts = acon_parts()
    first, second = MAKE.conv2d(8, 4, bias=True), MAKE.conv2d(4, 8, bias=True)
    part = module("utils.activations.MetaAconC", None, parts, None, fc1=first, fc2=second)

    def pointwise(conv: Module, values: Any) -> Any:
        weight, bias = conv.parameters["weight"], conv.parameters["bias"]
        assert weight is not None
        assert bias is not None
        return values @ weight.float64()[:, :, 0, 0].T + bias.float64()

    x = X.astype(np.float64)
    beta = sigmoid(pointwise(second, pointwise(first, x.mean((2, 3)))))[:, :, None, None]
    p1, p2 = (parts[name].astype(np.float64) for name in ("p1", "p2"))
    slope = (p1 - p2) * x
    close(run_part(part, X, dynamic=dynamic), slope * sigmoid(beta * slope) + p2 * x)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (activation("GELU", approximate="sigmoid"), "approximate is not supported with this value"),
        (activation("Softplus", beta=0, threshold=20), "bad 'beta'"),
        (activation("Hardtanh", min_val=1.0, max_val=-1.0), "bounds are the wrong way round"),
        (activation("RReLU", lower=0.1, upper="0.3"), "bad 'upper'"),
        (module("models.common.h_sigmoid", relu=activation("ReLU")), "expected torch.nn.ReLU6"),
        (
            module("models.common.h_sigmoid", relu=activation("ReLU6", max_val=1.0)),
            "max_val is not supported with this value",
        ),
        (module("utils.activations.AconC", None, {"beta": np.ones((1, 4, 1, 1))}), "has the wrong shape"),
        (module(f"{TORCH}batchnorm.BatchNorm2d", {"eps": 1e-3}, {}, {"running_mean": np.ones(8)}), "'running_var'"),
        (module(f"{TORCH}batchnorm.BatchNorm2d", {"eps": -1.0}), "bad 'eps'"),
    ],
)
def test_what_is_not_the_formula_is_refused(part: Module, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        run_part(part, X)
