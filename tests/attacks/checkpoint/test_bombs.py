"""Checkpoints that cost little to write and would cost much to read: refused, within bounded memory and time."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import forge
from yoloship.checkpoint import read_checkpoint
from yoloship.checkpoint.limits import Limits
from yoloship.checkpoint.reader import read_with_limits
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

DEEP = 20_000


def doubled(seed: bytes, pair: bytes, times: int) -> bytes:
    """Each step holds the one before it twice: 2^times values in a few bytes a step."""
    code = seed
    for step in range(times):
        index = (1000 + step).to_bytes(4, "little")
        code += b"r" + index + b"0" + pair.replace(b"@", b"j" + index)
    return code


def shared_modules(times: int) -> bytes:
    child = forge.module("torch.nn.modules.container.Sequential", modules={"a": b"@", "b": b"@"})
    return doubled(forge.module("torch.nn.modules.linear.Identity"), child, times)


BOMBS: dict[str, tuple[bytes, str]] = {
    "deep lists": (b"]" * DEEP + b"a" * (DEEP - 1), "is nested deeper than 64 levels"),
    "deep tuples": (b")" + b"\x85" * DEEP, "is nested deeper than 64 levels"),
    "deep dicts": ((b"}" + forge.text("k")) * DEEP + b"N" + b"s" * DEEP, "is nested deeper than 64 levels"),
    "deep objects": (b"N" + b"\x85q\x010cmodels.x\nY\nh\x01\x81" * DEEP, "is nested deeper than 64 levels"),
    "deep modules": (
        b"N" + (b"q\x010" + forge.module("models.x.Y", modules={"0": b"h\x01"})) * 200,
        "is nested deeper than 64 levels",
    ),
    "a list in itself": (b"]q\x01h\x01a", "holds itself"),
    "a dict in itself": (b"}q\x01" + forge.text("k") + b"h\x01s", "holds itself"),
    "a tuple around its list": (b"]q\x01h\x01\x85a", "holds itself"),
    "a module in itself": (
        forge.named("torch.nn.modules.container.Sequential")
        + b")\x81q\x01"
        + forge.table({"_modules": forge.table({"0": b"h\x01"})})
        + b"b",
        "holds itself",
    ),
    "a module in its own attribute": (
        forge.named("models.common.Conv")
        + b")\x81q\x01"
        + forge.table({"_modules": forge.EMPTY_DICT, "x": b"h\x01"})
        + b"b",
        "holds itself",
    ),
    "laughs of tuples": (doubled(b")", b"@@\x86", 60), "unfolds to more than"),
    "laughs of dicts": (doubled(b"}", b"}(" + forge.text("a") + b"@" + forge.text("b") + b"@u", 60), "unfolds to more"),
    "laughs of paths": (doubled(b"N", forge.call("pathlib.PosixPath", b"@", b"@"), 60), "unfolds to more than"),
    "laughs of modules": (shared_modules(40), "unfolds to more than 20000 modules"),
    "a long text many times": (
        forge.text("x" * 100_000) + b"q\x010](" + b"h\x01" * 5000 + b"e",
        "unfolds to more than",
    ),
    "bytes made many times": (
        forge.text("x" * 1_000_000)
        + b"q\x010"
        + (forge.named("_codecs.encode") + b"(h\x01" + forge.text("latin1") + b"tR0") * 20
        + b"N",
        "pickle that copies more than 8000000 items",
    ),
    "sets made many times": (
        b"](" + b"K\x01" * 100_000 + b"eq\x010" + (forge.named("builtins.list") + b"(h\x01tR0") * 200 + b"N",
        "pickle that copies more than 8000000 items",
    ),
    "a huge integer": (b"\x8b\xff\xff\xff\x7f", "integer of 2147483647 bytes is over the limit of 64"),
    "a negative integer length": (b"\x8b\xff\xff\xff\xff", "integer of 4294967295 bytes is over the limit of 64"),
    "a huge decimal": (b"L" + b"9" * 4000 + b"L\n", "line that is not an integer"),
    "a huge text": (b"X\xff\xff\xff\xff", "string of 4294967295 bytes is over the limit"),
    "terabytes of text": (b"\x8d" + b"\xff" * 8, "string of 18446744073709551615 bytes is over the limit"),
    "terabytes of bytes": (b"\x8e" + b"\xff" * 8, "string of 18446744073709551615 bytes is over the limit"),
    "terabytes of bytearray": (b"\x96" + b"\xff" * 8, "string of 18446744073709551615 bytes is over the limit"),
    "a frame of terabytes": (b"\x95" + b"\xff" * 8 + b"N", "without its end mark"),
    "a storage of terabytes": (forge.storage("0", 1 << 33), "storage '0' "),
    "long bytes as keys": (b"}" + forge.raw_bytes(bytes(5000)) + b"Ns", "dictionary key of more than 4096 characters"),
    "integers of one hash": (
        b"}(" + b"".join(forge.integer(k * ((1 << 61) - 1)) + b"N" for k in range(1, 100)) + b"u",
        "dictionary key of more than 64 bits",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_inside_the_model_is_refused(name: str, container: forge.Container) -> None:
    code, message = BOMBS[name]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(container(forge.end(forge.table({"model": forge.model({"x": code})}))))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


OF_FORM = ("is nested deeper", "holds itself", "unfolds to")


@pytest.mark.parametrize("key", ["x", "optimizer"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_beside_the_model_is_refused_or_left_out(name: str, key: str, container: forge.Container) -> None:
    """What only its form makes dangerous hurts nobody, as it is not walked; what costs while it is read is refused."""
    code, message = BOMBS[name]
    data = container(forge.checkpoint(**{key: code}))
    if message.startswith(OF_FORM):
        checkpoint = read_checkpoint(data)
        assert checkpoint.task == "detect"
        assert key in checkpoint.ignored
        assert key not in checkpoint.metadata
    else:
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(data)
        assert message in str(caught.value)


@pytest.mark.timeout(60)
def test_one_bomb_under_many_keys_is_looked_at_once() -> None:
    wide = b"](" + b"N" * 20_000 + b"]" * 80 + b"a" * 79 + b"e" + b"r\xff\x00\x00\x00"
    keys = {f"k{index}": b"j\xff\x00\x00\x00" for index in range(2_000)}
    checkpoint = read_checkpoint(forge.zip_bytes(forge.checkpoint(first=wide, **keys)))
    assert len(checkpoint.ignored) == 2_001


@pytest.mark.timeout(60)  # it would be half an hour
def test_one_table_is_looked_at_once_however_often_it_is_named() -> None:
    entries = {f"x{index}": forge.integer(index) for index in range(9_000)}
    many = b"](" + forge.table(entries) + b"r\xff\x00\x00\x00" + b"j\xff\x00\x00\x00" * 60_000 + b"e"
    checkpoint = read_checkpoint(forge.zip_bytes(forge.checkpoint(extra=many)))
    assert len(checkpoint.ignored) <= 1


@pytest.mark.timeout(60)
def test_a_file_without_a_model_is_looked_through_once() -> None:
    entries = {f"x{index}": forge.integer(index) for index in range(9_000)}
    keys = {f"k{index}": b"j\xff\x00\x00\x00" for index in range(9_000)}
    content = forge.table({"first": forge.table(entries) + b"r\xff\x00\x00\x00", **keys})
    with pytest.raises(CheckpointError, match="holds no model"):
        read_checkpoint(forge.zip_bytes(forge.end(content)))


def expanded(count: int) -> dict[str, bytes]:
    """Layers whose weights repeat one element 16 million times each."""
    huge = forge.tensor(forge.storage("1", 3), (1 << 12, 1 << 12), (0, 0))
    return {f"x{index}": forge.module("torch.nn.modules.linear.Linear", {}, {"weight": huge}) for index in range(count)}


BIG = 1 << 18
SPREAD: dict[str, dict[str, bytes]] = {
    "weights that repeat an element": expanded(36),
    "weights that share a storage": {
        "x": forge.module(
            "torch.nn.modules.linear.Linear",
            {},
            {f"w{k}": forge.tensor(forge.storage("big", BIG), (BIG,), (1,)) for k in range(64)},
        )
    },
    "one module in many places": {
        "x": forge.module(
            "torch.nn.modules.linear.Linear", {}, {"w": forge.tensor(forge.storage("0", 24), (24,), (1,))}
        )
        + b"r\xff\x00\x00\x00",
        **{f"x{index}": b"j\xff\x00\x00\x00" for index in range(4000)},
    },
    "a weight in many attributes": {
        "x": forge.module(
            "torch.nn.modules.linear.Linear",
            {
                "w": forge.tensor(forge.storage("0", 24), (24,), (1,)) + b"r\xff\x00\x00\x00",
                "more": forge.listed(*[b"j\xff\x00\x00\x00"] * 4000),
            },
        )
    },
}


@pytest.mark.parametrize("name", SPREAD)
def test_tensors_count_in_full_wherever_the_model_has_them(name: str) -> None:
    pickle = forge.end(forge.table({"model": forge.model(extra=SPREAD[name])}))
    data = forge.zip_bytes(pickle, {**forge.STORAGES, "big": bytes(4 * BIG)} if "share" in name else forge.STORAGES)
    limits = Limits() if "repeat" in name else Limits(spread_bytes=4096)
    with pytest.raises(
        CheckpointError, match=r"holds tensors of [0-9]+ bytes once they are spread out, the file allows"
    ):
        read_with_limits(data, limits)


def test_tensors_that_repeat_within_reason_are_read(container: forge.Container) -> None:
    data = container(forge.end(forge.table({"model": forge.model(extra=expanded(1))})))
    assert read_checkpoint(data).task == "detect"


def test_a_compressed_file_may_spread_to_what_it_holds() -> None:
    """A pruned network packs well: what counts then is what its members hold."""
    zeros = bytes(4 << 20)
    weight = forge.tensor(forge.storage("z", 1 << 20), (1 << 20,), (1,))
    layers = {"x": forge.module("torch.nn.modules.linear.Linear", {}, {"weight": weight})}
    data = forge.zip_bytes(
        forge.end(forge.table({"model": forge.model(extra=layers)})),
        {**forge.STORAGES, "z": zeros},
        method=zipfile.ZIP_DEFLATED,
    )
    assert len(data) < 1 << 15
    assert read_with_limits(data, Limits(spread_bytes=1 << 20, spread_factor=1)).task == "detect"


MANY: dict[str, Callable[[], bytes]] = {
    "members": lambda: forge.zip_bytes(forge.checkpoint(), others={f"data/x{index}": b"" for index in range(65_000)}),
    "unknown objects": lambda: forge.zip_bytes(
        forge.checkpoint(x=forge.named("a.B") + b"q\x010(" + b"h\x01)\x81" * 150_000 + b"t")
    ),
    "odd keys": lambda: forge.zip_bytes(forge.checkpoint(x=b"}(" + b")N" * 150_000 + b"u")),
    "attributes": lambda: forge.zip_bytes(forge.end(forge.model({f"a{index}": b"N" for index in range(150_000)}))),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc, which is absent")
def test_what_is_allowed_in_great_numbers_takes_bounded_memory(tmp_path: Path) -> None:
    for name, make in MANY.items():
        (tmp_path / f"{name}.pt").write_bytes(make())
    done = subprocess.run([sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = [line.split("|", 3) for line in done.stdout.splitlines()]
    assert len(lines) == len(MANY)
    assert all(message == "was read" for *_, message in lines), done.stdout
    assert all(int(megabytes) < 400 for _, _, megabytes, _ in lines), done.stdout


MEASURED = """
import sys, time
from pathlib import Path
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import CheckpointError


def peak_megabytes():  # of this process alone; getrusage would count the parent's before exec
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) // 1024


before = peak_megabytes()
for path in sorted(Path(sys.argv[1]).iterdir()):
    started = time.process_time()
    try:
        read_checkpoint(path)
    except CheckpointError as error:
        print(f"{path.name}|{time.process_time() - started:.1f}|{peak_megabytes() - before}|{error}")
    else:
        print(f"{path.name}|0|{peak_megabytes() - before}|was read")
"""

FLOODS: dict[str, bytes] = {
    "lists": b"]" * 16_000_000,
    "sets": b"\x8f" * 16_000_000,
    "marks": b"(" * 16_000_000,
    "dicts": b"}" * 16_000_000,
    "memo": b"N" + b"\x94" * 16_000_000,
    "texts": b"".join(forge.text("x" * 999_990 + "\U0001f600") for _ in range(15)),
    "zeros": bytes(16_000_000),
    "names": b"".join(b"ca\nb%d\n0" % index for index in range(900_000)),
    "beyond": b"0" * 100_000_000,
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc, which is absent")
def test_memory_stays_bounded_while_refusing(tmp_path: Path) -> None:
    for name, flood in FLOODS.items():
        packed = forge.zip_bytes(forge.end(flood), method=zipfile.ZIP_DEFLATED)
        assert len(packed) < 2_500_000, "small to send, large to read"
        (tmp_path / f"{name}.pt").write_bytes(packed)
    done = subprocess.run([sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = [line.split("|", 3) for line in done.stdout.splitlines()]
    assert [name for name, *_ in lines] == sorted(f"{name}.pt" for name in FLOODS)
    for name, _, megabytes, message in lines:
        assert any(word in message for word in ("pickle", "strings", "zip whose", "names of")), (name, message)
        assert int(megabytes) < 400, done.stdout
