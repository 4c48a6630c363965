"""Tensors, storages and NumPy values inside a pickle."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import forge
from yoloship.checkpoint import Opaque, Tensor, Value, read_checkpoint
from yoloship.checkpoint.limits import Limits
from yoloship.checkpoint.reader import read_with_limits
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    import numpy.typing as npt


def attribute(code: bytes, storages: dict[str, bytes] | None = None) -> Value:
    """What `code` gives as an attribute of the model."""
    pickle_ = forge.end(forge.table({"model": forge.model({"probe": code})}))
    return read_checkpoint(forge.zip_bytes(pickle_, {**forge.STORAGES, **(storages or {})})).module.attributes["probe"]


def tensor(code: bytes, storages: dict[str, bytes] | None = None) -> Tensor:
    value = attribute(code, storages)
    assert isinstance(value, Tensor)
    return value


KINDS = {
    "torch.FloatStorage": ("float32", np.array([1.5, -2, 3], "<f4")),
    "torch.HalfStorage": ("float16", np.array([1.5, -2, 3], "<f2")),
    "torch.DoubleStorage": ("float64", np.array([1.5, -2, 3], "<f8")),
    "torch.LongStorage": ("int64", np.array([1, -2, 1 << 40], "<i8")),
    "torch.IntStorage": ("int32", np.array([1, -2, 3], "<i4")),
    "torch.ShortStorage": ("int16", np.array([1, -2, 3], "<i2")),
    "torch.CharStorage": ("int8", np.array([1, -2, 3], "i1")),
    "torch.ByteStorage": ("uint8", np.array([1, 2, 255], "u1")),
    "torch.BoolStorage": ("bool", np.array([True, False, True])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_storage_class_gives_its_element_type(kind: str) -> None:
    name, array = KINDS[kind]
    read = tensor(forge.tensor(forge.storage("t", 3, kind), (3,), (1,)), {"t": array.tobytes()})
    assert read.dtype == name
    assert read.numpy().dtype == array.dtype
    np.testing.assert_array_equal(read.numpy(), array)


@pytest.mark.parametrize("shape", [(), (2,), (1, 2)])
def test_bfloat16_is_widened_for_every_rank(shape: tuple[int, ...]) -> None:
    bits = np.array([0x3FC0, 0xC000], "<u2")
    strides = (1,) * len(shape)
    read = tensor(forge.tensor(forge.storage("t", 2, "torch.BFloat16Storage"), shape, strides), {"t": bits.tobytes()})
    assert read.dtype == "bfloat16"
    assert read.numpy().dtype == np.float32
    np.testing.assert_array_equal(read.numpy(), np.array([1.5, -2], np.float32)[: read.size].reshape(shape))
    assert not read.numpy().flags.writeable


def test_strides_and_offset_choose_the_elements() -> None:
    data = np.arange(24, dtype="<f4")
    read = tensor(forge.tensor(forge.storage("0", 24), (2, 3, 2), (12, 1, 3), offset=1))
    np.testing.assert_array_equal(
        read.numpy(), np.lib.stride_tricks.as_strided(data[1:], (2, 3, 2), (48, 4, 12), writeable=False)
    )


def test_float64_is_a_copy_that_the_caller_owns() -> None:
    read = tensor(forge.tensor(forge.storage("t", 1, "torch.DoubleStorage"), (), ()), {"t": bytes(8)})
    copy = read.float64()
    assert copy.shape == ()
    copy[...] = 5
    assert read.float64() == 0


def test_signalling_nans_become_float64_without_a_warning() -> None:
    read = tensor(forge.tensor(forge.storage("t", 1), (1,), (1,)), {"t": bytes.fromhex("0100a07f")})
    assert np.isnan(read.float64()).all()


def test_two_tensors_of_one_storage_share_it() -> None:
    first = forge.tensor(forge.storage("0", 24), (2,), (1,))
    second = forge.tensor(forge.storage("0", 24), (2,), (1,), offset=2)
    pair = attribute(forge.row(first, second))
    assert isinstance(pair, tuple)
    assert isinstance(pair[0], Tensor)
    assert isinstance(pair[1], Tensor)
    assert pair[0].storage is pair[1].storage


def test_an_empty_tensor_has_no_bytes_to_need() -> None:
    read = tensor(forge.tensor(forge.storage("t", 0), (0, 4), (4, 1)), {"t": b""})
    assert read.numpy().shape == (0, 4)


def test_a_tensor_over_an_untyped_storage_takes_the_type_beside_it() -> None:
    code = forge.call(
        "torch._utils._rebuild_tensor_v3",
        forge.storage("0", 96, "torch.storage.UntypedStorage"),
        forge.integer(0),
        forge.integers((4,)),
        forge.integers((1,)),
        forge.FALSE,
        forge.ordered(),
        forge.named("torch.float32"),
    )
    np.testing.assert_array_equal(tensor(code).numpy(), np.arange(4, dtype=np.float32))


def test_a_tensor_with_attributes_is_its_tensor() -> None:
    arguments = forge.row(
        forge.storage("0", 24),
        forge.integer(0),
        forge.integers((2,)),
        forge.integers((1,)),
        forge.FALSE,
        forge.ordered(),
    )
    code = forge.call(
        "torch._tensor._rebuild_from_type_v2",
        forge.named("torch._utils._rebuild_tensor_v2"),
        forge.named("torch.nn.parameter.Parameter"),
        arguments,
        forge.EMPTY_DICT,
    )
    assert tensor(code).shape == (2,)


def test_an_expanded_tensor_is_read_within_its_limit() -> None:
    code = forge.tensor(forge.storage("1", 3), (1, 3, 80, 80, 2), (0, 1, 0, 0, 0))
    assert tensor(code).numpy().shape == (1, 3, 80, 80, 2)
    pickle_ = forge.end(forge.table({"model": forge.model({"probe": code})}))
    with pytest.raises(CheckpointError, match="repeats a storage of 3 elements beyond the limit"):
        read_with_limits(forge.zip_bytes(pickle_), Limits(expanded_elements=1000))


def layout(size: bytes, stride: bytes, offset: bytes = b"K\x00") -> bytes:
    rest = (forge.FALSE, forge.ordered())
    return forge.call("torch._utils._rebuild_tensor_v2", forge.storage("1", 3), offset, size, stride, *rest)


ONE = forge.integers((1,))
BAD_LAYOUTS = {
    "outside": (
        layout(forge.integers((4,)), ONE),
        "tensor of size 4, strides 1 and offset 0 reaches outside its storage of 3",
    ),
    "offset": (layout(ONE, ONE, forge.integer(3)), "reaches outside its storage of 3 elements"),
    "stride": (layout(forge.integers((2,)), forge.integers((3,))), "reaches outside its storage of 3 elements"),
    "negative offset": (layout(ONE, ONE, forge.integer(-1)), "tensor whose offset is not a position in its storage"),
    "huge offset": (layout(ONE, ONE, forge.integer(1 << 70)), "reaches outside its storage"),
    "true offset": (layout(ONE, ONE, forge.TRUE), "tensor whose offset is not a position in its storage"),
    "negative stride": (layout(forge.integers((2,)), forge.integers((-1,))), "whose stride holds something other than"),
    "negative size": (layout(forge.integers((-2,)), ONE), "whose size holds something other than"),
    "huge size": (layout(forge.integers((1 << 62,)), forge.integers((0,))), "whose size holds something other than"),
    "terabytes": (layout(forge.integers((1 << 20, 1 << 20)), forge.integers((0, 0))), "elements is over the limit"),
    "terabytes beside nothing": (
        layout(forge.integers((0, 1 << 20, 1 << 20)), forge.integers((0, 0, 0))),
        "elements is over the limit",
    ),
    "repeated": (layout(forge.integers((1 << 25,)), forge.integers((0,))), "repeats a storage of 3 elements"),
    "ranks": (layout(forge.integers((1, 1)), ONE), "tensor of 2 axes with 1 strides"),
    "axes": (
        layout(forge.integers([1] * 17), forge.integers([1] * 17)),
        "whose size is not a list of at most 16 integers",
    ),
    "text size": (layout(forge.text("x"), ONE), "whose size is not a list of at most 16 integers"),
    "number in size": (layout(forge.row(forge.number(1)), ONE), "whose size holds something other than"),
    "no storage": (
        forge.call("torch._utils._rebuild_tensor_v2", forge.NONE, forge.NONE, forge.NONE, forge.NONE),
        "without a storage, an offset, a size and a stride",
    ),
    "no arguments": (forge.call("torch._utils._rebuild_tensor_v2"), "without a storage"),
    "parameter of nothing": (forge.parameter(forge.NONE), "'torch._utils._rebuild_parameter' without a tensor"),
    "another function": (
        forge.call(
            "torch._tensor._rebuild_from_type_v2",
            forge.named("torch.nn.Module"),
            forge.NONE,
            forge.EMPTY_TUPLE,
            forge.NONE,
        ),
        "'torch._tensor._rebuild_from_type_v2' of 'torch.nn.Module'",
    ),
}


@pytest.mark.parametrize("name", BAD_LAYOUTS)
def test_an_impossible_tensor_is_refused(name: str) -> None:
    code, message = BAD_LAYOUTS[name]
    with pytest.raises(CheckpointError) as caught:
        attribute(code)
    assert message in str(caught.value)


def persistent(*parts: bytes) -> bytes:
    return forge.row(*parts) + b"Q"


FLOATS = forge.named("torch.FloatStorage")
BAD_STORAGES = {
    "no tuple": (forge.text("0") + b"Q", "persistent id that is not a storage"),
    "another kind": (persistent(*[forge.text("x")] * 5), "persistent id that is not a storage"),
    "no class": (
        persistent(forge.text("storage"), *[forge.text("0")] * 3, forge.integer(1)),
        "persistent id without a storage class and a key",
    ),
    "missing": (forge.storage("7", 1), "storage '7' is not in the file"),
    "above": (forge.storage("../data.pkl", 1), "storage '../data.pkl' is not in the file"),
    "terabytes": (forge.storage("0", 1 << 33), "storage '0' claims 34359738368 bytes, the file holds 96,"),
    "negative": (forge.storage("0", -1), "storage of an impossible length"),
    "beyond": (forge.storage("0", 1 << 62), "storage of an impossible length"),
    "a view": (
        persistent(forge.text("storage"), FLOATS, forge.text("0"), forge.NONE, forge.integer(1), forge.row(forge.NONE)),
        "view of a storage, as torch before 0.4 wrote,",
    ),
}


@pytest.mark.parametrize("name", BAD_STORAGES)
def test_an_impossible_storage_is_refused(name: str) -> None:
    code, message = BAD_STORAGES[name]
    with pytest.raises(CheckpointError) as caught:
        attribute(code)
    assert message in str(caught.value)


ARRAYS: list[npt.NDArray[np.generic]] = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.array([True, False]),
    np.array(7, np.uint8),
    np.array([1.5, -2], ">f8"),
    np.empty((0, 3), np.float16),
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_numpy_arrays_come_back(array: npt.NDArray[np.generic], protocol: int) -> None:
    code = pickle.dumps(array, protocol)[2:-1]
    value = attribute(code)
    assert isinstance(value, np.ndarray)
    assert value.dtype == array.dtype.newbyteorder("<")
    np.testing.assert_array_equal(value, array)
    assert not value.flags.writeable


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_scalars_become_plain_numbers(module: str) -> None:
    code = pickle.dumps(np.float64(0.25), 2)[2:-1]
    for name in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        code = code.replace(name, module.encode())
    assert attribute(code) == 0.25


@pytest.mark.parametrize(
    "array", [np.array([{}], object), np.array([["a"]]), np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")])]
)
def test_arrays_of_anything_but_numbers_and_rows_of_texts_stay_opaque(array: npt.NDArray[np.generic]) -> None:
    code = pickle.dumps(array, 2)[2:-1]
    if array.dtype.fields is None:
        assert attribute(code) == Opaque("numpy.ndarray")
    else:
        assert isinstance(attribute(code), Opaque)


@pytest.mark.parametrize("texts", [["a", "größer", "手袋"], [b"a", b"bc"], ["x"]])
@pytest.mark.parametrize("swapped", [False, True])
def test_numpy_texts_become_plain_ones(texts: list[str], swapped: bool) -> None:
    array = np.array(texts)
    if swapped:
        array = array.astype(array.dtype.newbyteorder(">"))
    assert attribute(pickle.dumps(array, 2)[2:-1]) == texts
    assert attribute(pickle.dumps(array[0], 2)[2:-1]) == texts[0]


def test_what_is_not_a_character_in_a_numpy_text_is_replaced() -> None:
    dtype = forge.call("numpy.dtype", forge.text("U1"), forge.FALSE, forge.TRUE)
    code = forge.call("numpy.core.multiarray.scalar", dtype, forge.raw_bytes(b"\xff\xff\xff\x7f"))
    assert set(str(attribute(code))) == {"\ufffd"}


def array_code(shape: bytes, data: bytes, dtype: bytes | None = None, state: bytes = b"") -> bytes:
    dtype = dtype or forge.call("numpy.dtype", forge.text("f4"), forge.FALSE, forge.TRUE)
    empty = forge.call("numpy.core.multiarray._reconstruct", forge.named("numpy.ndarray"), ONE, forge.raw_bytes(b"b"))
    return empty + (state or forge.row(forge.integer(1), shape, dtype, forge.FALSE, data)) + b"b"


TEXTS = forge.call("numpy.dtype", forge.text("U2"), forge.FALSE, forge.TRUE)
BAD_ARRAYS = {
    "texts": (array_code(ONE, forge.raw_bytes(bytes(9)), TEXTS), "NumPy text array of 9 bytes"),
    "a text": (
        forge.call("numpy.core.multiarray.scalar", TEXTS, forge.raw_bytes(b"")),
        "NumPy text array of 0 bytes",
    ),
    "terabytes of texts": (
        array_code(forge.integers((1 << 40,)), forge.raw_bytes(bytes(8)), TEXTS),
        "NumPy text array of 8 bytes",
    ),
    "short": (array_code(forge.integers((3,)), forge.raw_bytes(bytes(8))), "NumPy array of shape (3,) and 4 bytes"),
    "terabytes": (
        array_code(forge.integers((1 << 40, 1 << 40)), forge.raw_bytes(b"")),
        "NumPy array of shape (1099511627776, 1099511627776)",
    ),
    "terabytes beside nothing": (
        array_code(forge.integers((0, 1 << 40, 1 << 40)), forge.raw_bytes(b"")),
        "NumPy array of shape (0, 1099511627776, 1099511627776)",
    ),
    "negative": (array_code(forge.integers((-1,)), forge.raw_bytes(b"")), "NumPy array with an impossible shape"),
    "ranks": (array_code(forge.integers([1] * 40), forge.raw_bytes(bytes(4))), "NumPy array with an impossible shape"),
    "no data": (array_code(ONE, forge.NONE), "NumPy data that are not bytes"),
    "wide text": (array_code(ONE, forge.text("€€€€")), "NumPy data that are not bytes"),
    "no dtype": (array_code(ONE, forge.raw_bytes(b""), forge.NONE), "NumPy array without a shape or an element type"),
    "state": (array_code(ONE, b"", state=forge.NONE), "NumPy array with an unknown state"),
    "dtype state": (
        forge.call("numpy.dtype", forge.text("f4")) + forge.row(forge.integer(3)) + b"b",
        "NumPy element type with an unknown state",
    ),
    "dtype of nothing": (forge.call("numpy.dtype"), "'numpy.dtype' without an element type"),
    "scalar": (forge.call("numpy.core.multiarray.scalar", forge.NONE), "NumPy scalar without an element type"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_an_impossible_array_is_refused(name: str) -> None:
    code, message = BAD_ARRAYS[name]
    with pytest.raises(CheckpointError) as caught:
        attribute(code)
    assert message in str(caught.value)


UNREAD = {
    "an element type that no network has": forge.call(
        "torch._utils._rebuild_tensor_v3", forge.storage("1", 3), *[forge.NONE] * 5, forge.named("torch.complex64")
    ),
    "a storage class that is unknown": forge.tensor(
        persistent(forge.text("storage"), forge.named("torch.QInt8Storage"), forge.text("0"), forge.NONE, b"K\x01"),
        (1,),
        (1,),
    ),
    "a parameter of one": forge.parameter(
        forge.tensor(
            persistent(forge.text("storage"), forge.named("models.x.Y"), forge.text("0"), forge.NONE, b"K\x01"),
            (1,),
            (1,),
        )
    ),
    "a class of tensor that is unknown": forge.call(
        "torch._tensor._rebuild_from_type_v2",
        forge.named("torch._utils._rebuild_tensor_v2"),
        forge.named("mypkg.Tensor"),
        forge.row(forge.storage("0", 24), b"K\x00", forge.integers((2,)), forge.integers((1,))),
        forge.EMPTY_DICT,
    ),
    "a class of array that is unknown": forge.call(
        "numpy.core.multiarray._reconstruct", forge.named("numpy.ma.MaskedArray"), ONE, forge.raw_bytes(b"b")
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_tensor_of_an_unknown_kind_is_inert_beside_the_model_and_refused_in_it(name: str) -> None:
    code = UNREAD[name]
    checkpoint = read_checkpoint(forge.zip_bytes(forge.checkpoint(extra=code)))
    assert list(checkpoint.ignored) == ["extra"]
    with pytest.raises(CheckpointError, match=r"'model\.probe' is a '[\w.]+', which is not in the allow-table"):
        attribute(code)


OPAQUE = {
    "pathlib.PosixPath": forge.call("pathlib.PosixPath", forge.text("runs"), forge.text("train")),
    "torch.device": forge.call("torch.device", forge.text("cuda")),
    "torch.float16": forge.named("torch.float16"),
    "datetime.datetime": forge.call("datetime.datetime", forge.raw_bytes(bytes(10))),
    "torch.torch_version.TorchVersion": forge.call("torch.torch_version.TorchVersion", forge.text("2.13.0+cpu")),
    "__builtin__.xrange": forge.call("__builtin__.xrange", forge.integer(0), forge.integer(2), forge.integer(1)),
    "decimal.Decimal": forge.call("decimal.Decimal", forge.text("0.5")),
    "argparse.Namespace": forge.instance("argparse.Namespace", forge.table({"epochs": forge.integer(3)})),
    "torch.nn.functional.silu": forge.named("torch.nn.functional.silu"),
}


@pytest.mark.parametrize("class_path", OPAQUE)
def test_harmless_objects_stay_opaque(class_path: str) -> None:
    value = attribute(OPAQUE[class_path])
    assert isinstance(value, Opaque)
    assert value.class_path == class_path


def test_containers_of_the_table_become_plain_ones() -> None:
    assert attribute(forge.call("__builtin__.set", forge.listed(forge.text("a")))) == frozenset({"a"})
    assert attribute(forge.call("torch.Size", forge.integers((1, 2)))) == (1, 2)
    pairs = forge.listed(forge.listed(forge.text("a"), forge.integer(1)))
    assert attribute(forge.call("collections.OrderedDict", pairs)) == {"a": 1}
    assert attribute(forge.call("collections.defaultdict", forge.named("builtins.dict"))) == {}
    assert attribute(forge.call("_codecs.encode", forge.text("\xff"), forge.text("latin1"))) == b"\xff"
    assert attribute(forge.call("__builtin__.bytes")) == b""


BAD_CALLS = {
    "pairs": (forge.call("collections.OrderedDict", forge.listed(forge.NONE)), "of something other than pairs"),
    "items": (forge.call("builtins.list", forge.text("x")), "'builtins.list' of something other than a list"),
    "bytes": (forge.call("builtins.bytes", forge.integer(1 << 40)), "'builtins.bytes' of something other than bytes"),
    "wide": (forge.call("_codecs.encode", forge.text("€"), forge.text("latin1")), "text that is not Latin-1"),
    "size": (forge.call("torch.Size", forge.NONE), "'torch.Size' without extents"),
    "buffer": (forge.call("numpy._core.numeric._frombuffer"), "NumPy array without its four arguments"),
    "method": (forge.call("builtins.getattr", forge.NONE, forge.NONE), "something other than a module and a name"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_constructor_of_ours_refuses_what_it_does_not_know(name: str) -> None:
    code, message = BAD_CALLS[name]
    with pytest.raises(CheckpointError) as caught:
        attribute(code)
    assert message in str(caught.value)


def test_more_of_the_table_becomes_plain() -> None:
    assert attribute(forge.call("builtins.tuple", forge.listed(forge.TRUE))) == (True,)
    assert attribute(forge.call("builtins.bytearray", forge.raw_bytes(b"x"))) == b"x"
    method = forge.call("builtins.getattr", forge.named("models.common.Conv"), forge.text("forward"))
    assert attribute(method) == Opaque("builtins.getattr", ("models.common.Conv", "forward"))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="resident pages are read from /proc, which is absent")
def test_weights_that_were_used_do_not_stay_in_memory_and_can_be_used_again(tmp_path: Path) -> None:
    values = np.arange(1 << 20, dtype="<f4")
    path = tmp_path / "large.pt"
    code = forge.tensor(forge.storage("t", values.size), values.shape, (1,))
    pickled = forge.end(forge.table({"model": forge.model({"probe": code})}))
    path.write_bytes(forge.zip_bytes(pickled, {**forge.STORAGES, "t": values.tobytes()}))
    probe = read_checkpoint(path).module.attributes["probe"]
    assert isinstance(probe, Tensor)
    view = probe.numpy()
    assert view.sum() > 0
    assert resident_bytes(path) > 4 << 20
    np.testing.assert_array_equal(probe.float64(), values)
    assert resident_bytes(path) < 1 << 20
    np.testing.assert_array_equal(view, values)


def resident_bytes(path: Path) -> int:
    """Of a mapped file, in this process."""
    lines = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.endswith(str(path)))
    return next(int(line.split()[1]) << 10 for line in lines[start:] if line.startswith("Rss:"))
