"""Whatever the bytes: a Checkpoint whose every tensor gives an array or a CheckpointError, or a CheckpointError."""

from __future__ import annotations

import zipfile
from functools import cache

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import forge
from helpers.shared import GENERATED, require
from yoloship.checkpoint import Module, Opaque, Tensor, Value, read_checkpoint
from yoloship.errors import CheckpointError

RICH = forge.end(
    forge.table(
        {
            "date": forge.text("2024-01-01T00:00:00"),
            "opt": forge.table(
                {"lr": forge.number(0.01), "save_dir": forge.call("pathlib.PosixPath", forge.text("r"))}
            ),
            "best": forge.call(
                "numpy.core.multiarray.scalar",
                forge.call("numpy.dtype", forge.text("f8"), forge.FALSE, forge.TRUE)
                + forge.row(forge.integer(3), forge.text("<"), forge.NONE, forge.NONE, forge.NONE, b"K\x00K\x00K\x00")
                + b"b",
                forge.call("_codecs.encode", forge.text("\0" * 8), forge.text("latin1")),
            ),
            "ema": forge.NONE,
            "model": forge.model(
                {
                    "half": forge.tensor(forge.storage("0", 24, "torch.HalfStorage"), (2, 2), (1, 3), 2),
                    "bf16": forge.tensor(forge.storage("0", 24, "torch.BFloat16Storage"), (), ()),
                    "save": forge.call("__builtin__.set", forge.listed(forge.integer(1))),
                    "detect": forge.call(
                        "__builtin__.getattr", forge.instance("models.x.Y"), forge.text("forward_fuse")
                    ),
                },
                {"1": forge.module("models.common.C3", {"i": forge.integer(1), "f": forge.integer(-1)})},
            ),
        }
    )
)
LEGACY_RICH = RICH.replace(b"torch\nHalfStorage", b"torch\nFloatStorage").replace(
    b"torch\nBFloat16Storage", b"torch\nFloatStorage"
)


def consume(value: Value | Module) -> None:
    """Touch everything that is in a value, as the graph builder and the printers do."""
    if isinstance(value, Tensor):
        try:
            array = value.numpy()
        except CheckpointError:
            return
        assert array.shape == value.shape
        if value.size < 100_000:
            assert value.float64().shape == value.shape
        assert not array.flags.writeable or array.size == 0
    elif isinstance(value, Module):
        for table in (value.attributes, value.parameters, value.buffers, value.children):
            for name, entry in table.items():
                assert isinstance(name, str)
                consume(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            consume(entry)
    elif isinstance(value, list | tuple | frozenset):
        for entry in value:
            consume(entry)
    elif isinstance(value, Opaque):
        consume(value.arguments)
    else:
        assert value is None or isinstance(value, bool | int | float | str | bytes | np.ndarray)


def check(data: bytes) -> bool:
    """Whether the bytes were read; anything else than a clear refusal fails the test."""
    try:
        checkpoint = read_checkpoint(data)
    except CheckpointError as error:
        message = str(error)
        assert message.startswith("checkpoint: ")
        assert message.isprintable()
        assert len(message) < 700
        return False
    consume(checkpoint.module)
    for entry in checkpoint.metadata.values():
        consume(entry)
    assert all(isinstance(name, str) for name in checkpoint.class_names)
    assert list(checkpoint.strides) == sorted(checkpoint.strides)
    assert checkpoint.module.parameter_count() >= 0
    assert list(checkpoint.module.walk())
    return True


@st.composite
def damage(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes after a few cuts, insertions, copies and overwritten runs."""
    for _ in range(draw(st.integers(1, 4))):
        size = len(data)
        at = draw(st.integers(0, size))
        span = draw(st.integers(0, 12))
        match draw(st.sampled_from(["overwrite", "overwrite", "insert", "delete", "copy", "cut"])):
            case "overwrite":
                patch = draw(st.binary(min_size=1, max_size=4))
                data = data[:at] + patch + data[at + len(patch) :]
            case "insert":
                opcodes = b"(.0123FIJKLMNPQRSTUVXabcdeghijlopqrstu})]G" + bytes(range(0x80, 0x99))
                data = data[:at] + bytes(draw(st.lists(st.sampled_from(list(opcodes)), max_size=6))) + data[at:]
            case "delete":
                data = data[:at] + data[at + span :]
            case "copy":
                source = draw(st.integers(0, size))
                data = data[:at] + data[source : source + span * 4] + data[at:]
            case _:
                data = data[:at] if draw(st.booleans()) else data[at:]
    return data


slow = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


def test_what_is_damaged_below_was_whole() -> None:
    assert check(forge.zip_bytes(RICH))
    assert check(forge.legacy_bytes(LEGACY_RICH))


@slow
@given(pickle=damage(RICH))
def test_a_damaged_pickle_in_a_sound_zip_never_escapes(pickle: bytes) -> None:
    check(forge.zip_bytes(pickle))


@slow
@given(data=damage(forge.zip_bytes(RICH)))
def test_a_damaged_zip_never_escapes(data: bytes) -> None:
    check(data)


@slow
@given(data=damage(forge.zip_bytes(RICH, method=zipfile.ZIP_DEFLATED)))
def test_a_damaged_compressed_zip_never_escapes(data: bytes) -> None:
    check(data)


@slow
@given(data=damage(forge.legacy_bytes(LEGACY_RICH)))
def test_a_damaged_legacy_file_never_escapes(data: bytes) -> None:
    check(data)


@slow
@given(data=st.binary(max_size=200), head=st.sampled_from([b"", b"PK\x03\x04", forge.LEGACY_MAGIC, b"\x80\x02"]))
def test_random_bytes_never_escape(data: bytes, head: bytes) -> None:
    check(head + data)


@cache
def real_pickle() -> bytes:
    with zipfile.ZipFile(require(GENERATED / "v7-yolov3-tiny.pt")) as archive:
        return archive.read("v7-yolov3-tiny/data.pkl")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_pickle_of_a_real_checkpoint_never_escapes(data: st.DataObject) -> None:
    check(forge.zip_bytes(data.draw(damage(real_pickle()))))
