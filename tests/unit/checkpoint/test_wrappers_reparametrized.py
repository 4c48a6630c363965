"""Weights that torch computes from other tensors at each run: computed here by the same formulas, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers import forge
from yoloship.checkpoint import Module, read_checkpoint
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

SHAPE = (2, 3, 2, 2)
RNG = np.random.default_rng(5)
DIRECTION = RNG.standard_normal(SHAPE).astype("<f4")
MASK = (RNG.random(SHAPE) < 0.5).astype("<f4")
LENGTH = RNG.random((2, 1, 1, 1)).astype("<f4")
U, V = RNG.standard_normal(2).astype("<f4"), RNG.standard_normal(12).astype("<f4")
ALL = np.array(1.5, "<f4")
ARRAYS = {"d": DIRECTION, "m": MASK, "l": LENGTH, "u": U, "v": V, "a": ALL, "s": RNG.random(3).astype("<f4")}
SCALARS = {"h": DIRECTION.astype("<f2"), "b": MASK.astype(bool)}
KINDS = {"h": "torch.HalfStorage", "b": "torch.BoolStorage"}
STORAGES = {**forge.STORAGES, **{key: array.tobytes() for key, array in {**ARRAYS, **SCALARS}.items()}}


def tensor(key: str) -> bytes:
    array = {**ARRAYS, **SCALARS}[key]
    strides = [step // array.itemsize for step in array.strides]
    return forge.tensor(forge.storage(key, array.size, KINDS.get(key, "torch.FloatStorage")), array.shape, strides)


def hooks(*objects: tuple[str, dict[str, bytes]]) -> bytes:
    table = b"".join(
        forge.integer(index) + forge.instance(class_path, forge.table(state))
        for index, (class_path, state) in enumerate(objects)
    )
    return forge.ordered() + b"(" + table + b"u"


PRUNE = "torch.nn.utils.prune.L1Unstructured"
PRUNED = (PRUNE, {"amount": forge.number(0.3), "_tensor_name": forge.text("weight")})
NORM = "torch.nn.utils.weight_norm.WeightNorm"
SPECTRAL = "torch.nn.utils.spectral_norm.SpectralNorm"


def named(**more: bytes) -> dict[str, bytes]:
    return {"name": forge.text("weight"), **more}


def conv(
    attributes: dict[str, bytes],
    parameters: dict[str, bytes],
    buffers: dict[str, bytes] | None = None,
    modules: dict[str, bytes] | None = None,
    class_path: str = "torch.nn.modules.conv.Conv2d",
) -> bytes:
    return forge.module(class_path, attributes, {"bias": forge.NONE, **parameters}, buffers, modules)


def read(layer: bytes) -> Module:
    data = forge.zip_bytes(forge.end(forge.table({"model": forge.model(extra={"1": layer})})), STORAGES)
    return dict(read_checkpoint(data).module.walk())["model.1"]


def listed(class_path: str, own: dict[str, bytes], **state: Any) -> dict[str, bytes]:
    """A child `parametrizations` as ``torch.nn.utils.parametrize`` makes one."""
    buffers = state.pop("buffers", {})
    step = forge.module(class_path, state, buffers=buffers)
    chain = forge.module("torch.nn.utils.parametrize.ParametrizationList", None, own, modules={"0": step})
    return {"parametrizations": forge.module("torch.nn.modules.container.ModuleDict", modules={"weight": chain})}


def spectral() -> Array:
    sigma = U.astype(np.float64) @ DIRECTION.reshape(2, 12).astype(np.float64) @ V.astype(np.float64)
    return np.asarray(DIRECTION / sigma)


def normed(axes: tuple[int, ...], length: npt.NDArray[np.float32]) -> Array:
    v = DIRECTION.astype(np.float64)
    return np.asarray(v * length / np.sqrt((v * v).sum(axis=axes, keepdims=True)))


WN = "torch.nn.utils.parametrizations._WeightNorm"
SN = "torch.nn.utils.parametrizations._SpectralNorm"
PARAMETRIZED = "torch.nn.utils.parametrize.ParametrizedConv2d"
STALE = {"weight": tensor("m")}
COMPUTED: dict[str, tuple[bytes, npt.NDArray[Any]]] = {
    "a pruning mask": (
        conv(
            {"_forward_pre_hooks": hooks(PRUNED), **STALE}, {"weight_orig": tensor("d")}, {"weight_mask": tensor("m")}
        ),
        DIRECTION * MASK,
    ),
    "a half-precision pruning mask of booleans": (
        conv({"_forward_pre_hooks": hooks(PRUNED)}, {"weight_orig": tensor("h")}, {"weight_mask": tensor("b")}),
        DIRECTION.astype("<f2").astype(np.float32) * MASK,
    ),
    "weight norm": (
        conv(
            {"_forward_pre_hooks": hooks((NORM, named(dim=forge.integer(0)))), **STALE},
            {"weight_g": tensor("l"), "weight_v": tensor("d")},
        ),
        normed((1, 2, 3), LENGTH),
    ),
    "weight norm over everything": (
        conv(
            {"_forward_pre_hooks": hooks((NORM, named(dim=forge.integer(-1))))},
            {"weight_g": tensor("a"), "weight_v": tensor("d")},
        ),
        normed((0, 1, 2, 3), np.array(1.5, np.float32)),
    ),
    "weight norm of pruned directions": (
        conv(
            {
                "_forward_pre_hooks": hooks(
                    (NORM, named(dim=forge.NONE)), (PRUNE, {"_tensor_name": forge.text("weight_v")})
                )
            },
            {"weight_g": tensor("a"), "weight_v_orig": tensor("d")},
            {"weight_v_mask": tensor("m")},
        ),
        1.5 * DIRECTION.astype(np.float64) * MASK / np.sqrt((DIRECTION.astype(np.float64) ** 2 * MASK).sum()),
    ),
    "spectral norm": (
        conv(
            {"_forward_pre_hooks": hooks((SPECTRAL, named(dim=forge.integer(0), eps=forge.number(1e-12)))), **STALE},
            {"weight_orig": tensor("d")},
            {"weight_u": tensor("u"), "weight_v": tensor("v")},
        ),
        spectral(),
    ),
    "weight norm as a parametrization": (
        conv(
            {},
            {},
            modules=listed(WN, {"original0": tensor("l"), "original1": tensor("d")}, dim=forge.integer(0)),
            class_path=PARAMETRIZED,
        ),
        normed((1, 2, 3), LENGTH),
    ),
    "spectral norm as a parametrization": (
        conv(
            {},
            {},
            modules=listed(
                SN, {"original": tensor("d")}, buffers={"_u": tensor("u"), "_v": tensor("v")}, dim=forge.integer(0)
            ),
        ),
        spectral(),
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_computed_weight_is_an_ordinary_one(name: str) -> None:
    layer, expected = COMPUTED[name]
    module = read(layer)
    weight = module.parameters["weight"]
    assert weight is not None
    assert weight.shape == SHAPE
    np.testing.assert_allclose(weight.float64(), expected, rtol=1e-14, atol=0)
    assert not weight.numpy().flags.writeable
    assert module.class_path == "torch.nn.modules.conv.Conv2d"
    assert set(module.parameters) == {"bias", "weight"}
    assert not module.buffers
    assert not module.children
    assert set(module.attributes) == {"training"}


def test_a_pruned_weight_is_exact() -> None:
    layer, expected = COMPUTED["a pruning mask"]
    weight = read(layer).parameters["weight"]
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), expected)
    assert weight.dtype == "float32"


def test_a_weight_of_no_direction_is_for_the_reader_to_find() -> None:
    layer = conv(
        {"_forward_pre_hooks": hooks((NORM, named(dim=forge.NONE)), (PRUNE, {"_tensor_name": forge.text("weight_v")}))},
        {"weight_g": tensor("a"), "weight_v_orig": tensor("d")},
        {"weight_v_mask": forge.tensor(forge.storage("0", 24), SHAPE, (0, 0, 0, 0))},
    )
    weight = read(layer).parameters["weight"]
    assert weight is not None
    assert np.isnan(weight.float64()).all()


def hooked(*objects: tuple[str, dict[str, bytes]], table: str = "_forward_pre_hooks", **parameters: bytes) -> bytes:
    return conv({table: hooks(*objects)}, {"weight": tensor("d"), **parameters})


REFUSED = {
    "an unknown hook": (
        hooked(("models.common.Hook", {})),
        "that has a hook of the class 'models.common.Hook', which is not understood",
    ),
    "an unknown hook behind the layer": (
        hooked(("models.common.Hook", {"name": forge.text("weight")}), table="_forward_hooks"),
        "that has a hook of the class 'models.common.Hook', which is not understood",
    ),
    "a bound method": (
        conv(
            {
                "_forward_hooks": b"}K\x01"
                + forge.call("builtins.getattr", forge.named("models.common.Conv"), forge.text("hook"))
                + b"s"
            },
            {"weight": tensor("d")},
        ),
        "that has a hook of the class 'builtins.getattr', which is not understood",
    ),
    "a number as hook": (
        conv({"_forward_hooks": b"}K\x01K\x02s"}, {"weight": tensor("d")}),
        "that has a hook that is not an object",
    ),
    "hooks that are no table": (
        conv({"_forward_hooks": forge.listed(forge.TRUE)}, {"weight": tensor("d")}),
        "that has hooks that are not a table",
    ),
    "no mask": (
        conv({"_forward_pre_hooks": hooks(PRUNED)}, {"weight_orig": tensor("d")}),
        "that has no tensor 'weight_mask', from which its hook computes a weight",
    ),
    "a mask of another shape": (
        conv({"_forward_pre_hooks": hooks(PRUNED)}, {"weight_orig": tensor("d")}, {"weight_mask": tensor("v")}),
        "that has a pruning mask of a different shape than what it masks",
    ),
    "another axis": (
        conv(
            {"_forward_pre_hooks": hooks((NORM, named(dim=forge.integer(7))))},
            {"weight_g": tensor("l"), "weight_v": tensor("d")},
        ),
        "that has a weight norm over the axis 7 of 4",
    ),
    "lengths of another shape": (
        conv(
            {"_forward_pre_hooks": hooks((NORM, named(dim=forge.integer(1))))},
            {"weight_g": tensor("l"), "weight_v": tensor("d")},
        ),
        "that has a weight norm whose lengths are of a different shape than its directions",
    ),
    "vectors of another size": (
        conv(
            {"_forward_pre_hooks": hooks((SPECTRAL, named(dim=forge.integer(0))))},
            {"weight_orig": tensor("d")},
            {"weight_u": tensor("s"), "weight_v": tensor("v")},
        ),
        "that has a spectral norm whose vectors are of a different size than its weight",
    ),
    "a spectral norm over no axis": (
        conv(
            {"_forward_pre_hooks": hooks((SPECTRAL, named()))},
            {"weight_orig": tensor("d")},
            {"weight_u": tensor("u"), "weight_v": tensor("v")},
        ),
        "that has a spectral norm over the axis None of 4",
    ),
    "an unknown parametrization": (
        conv({}, {}, modules=listed("torch.nn.utils.parametrizations._Orthogonal", {"original": tensor("d")})),
        "that has a parametrization 'torch.nn.utils.parametrizations._Orthogonal', which is not understood",
    ),
    "parametrizations of another kind": (
        conv({}, {"weight": tensor("d")}, modules={"parametrizations": forge.module("models.common.SE")}),
        "that has parametrizations of another kind",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_does_something_else_before_or_after_it_runs_is_refused(name: str) -> None:
    layer, message = REFUSED[name]
    with pytest.raises(CheckpointError) as caught:
        read(layer)
    assert str(caught.value) == f"checkpoint: 'model.model.1' is a 'torch.nn.modules.conv.Conv2d' {message}"


def test_a_hook_of_an_unknown_class_is_refused_where_it_stands() -> None:
    with pytest.raises(
        CheckpointError, match=r"'model\.model\.1\._forward_hooks\.0' is a 'mypkg\.Hook', which is not in"
    ):
        read(hooked(("mypkg.Hook", {}), table="_forward_hooks"))


@pytest.mark.parametrize("table", ["_backward_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks"])
def test_hooks_that_no_run_asks_are_not_read(table: str) -> None:
    module = read(hooked(("mypkg.Hook", {}), table=table))
    assert set(module.attributes) == {"training"}
