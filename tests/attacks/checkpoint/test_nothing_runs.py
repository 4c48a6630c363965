"""Checkpoints that try to run something: each is refused by name, in both containers, and nothing has run."""

from __future__ import annotations

import builtins
import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import forge
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable


class Reduced:
    """Pickles as a call of `function` with `arguments`, the classic attack."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


CALLS: dict[str, tuple[Callable[..., object], tuple[object, ...]]] = {
    "os.system": (os.system, ("touch {canary}",)),
    "builtins.eval": (eval, ("open({canary!r}, 'w')",)),
    "builtins.exec": (exec, ("open({canary!r}, 'w')",)),
    "builtins.__import__": (builtins.__import__, ("yoloship_canary",)),
    "open": (open, ("{canary}", "w")),
    "builtins.compile": (compile, ("1", "x", "eval")),
    "importlib.import_module": (importlib.import_module, ("yoloship_canary",)),
    "subprocess.Popen": (subprocess.Popen, (["touch", "{canary}"],)),
    "os.mkdir": (os.mkdir, ("{canary}",)),
}


def attack(name: str, canary: Path, protocol: int) -> bytes:
    function, arguments = CALLS[name]
    filled = [
        [part.format(canary=str(canary)) for part in argument]
        if isinstance(argument, list)
        else str(argument).format(canary=str(canary))
        for argument in arguments
    ]
    return pickle.dumps({"model": Reduced(function, *filled)}, protocol)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_anything_is_refused_by_name(
    name: str, protocol: int, container: forge.Container, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    modules = set(sys.modules)
    data = container(attack(name, canary, protocol))
    with pytest.raises(CheckpointError, match=r"global '[\w.]+' at byte \d+ is not in the allow-table") as caught:
        read_checkpoint(data)
    assert str(caught.value).endswith("; nothing was executed")
    assert not canary.exists()
    assert not {module for module in set(sys.modules) - modules if "canary" in module}


def test_the_attack_would_have_worked_elsewhere(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.loads(attack("os.mkdir", canary, 2))
    assert canary.exists()


def test_the_message_is_the_promised_one(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(forge.zip_bytes(forge.end(forge.call("posix.system", forge.text("id")))))
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(caught.value) == (
        "best.pt: global 'posix.system' at byte 2 is not in the allow-table; nothing was executed"
    )


MODEL = forge.instance("models.yolo.Model")
TRICKS: dict[str, tuple[bytes, str]] = {
    "a global that is only mentioned": (forge.named("posix.system"), "global 'posix.system'"),
    "a global by its stack form": (forge.text("posix") + forge.text("system") + b"\x93", "global 'posix.system'"),
    "a dotted name": (
        forge.text("models.yolo") + forge.text("os.system") + b"\x93" + b")R",
        "global 'models.yolo.os.system'",
    ),
    "a function that fetches": (
        forge.call("utils.google_utils.gdrive_download", forge.text("x")),
        "global 'utils.google_utils.gdrive_download'",
    ),
    "an old instance": (b"(" + forge.text("id") + b"iposix\nsystem\n", "global 'posix.system'"),
    "an object": (b"(cposix\nsystem\n" + forge.text("id") + b"o", "global 'posix.system'"),
    "a new object": (b"cposix\nsystem\n" + forge.row(forge.text("id")) + b"\x81", "global 'posix.system'"),
    "an attribute of a module": (
        forge.call("builtins.getattr", forge.named("builtins.object"), forge.text("__subclasses__")) + b")R",
        "'builtins.getattr' of something other than a module and a name",
    ),
    "an attribute of a draft, called": (
        forge.call("__builtin__.getattr", MODEL, forge.text("forward_fuse")) + b")R",
        "call of something that is not a global",
    ),
    "an attribute of plain data": (
        forge.call("__builtin__.getattr", forge.text("x"), forge.text("format")),
        "'__builtin__.getattr' of something other than a module and a name",
    ),
    "a reconstructor of something else": (
        forge.call("copyreg._reconstructor", forge.named("builtins.list"), forge.named("builtins.object"), forge.NONE),
        "'copyreg._reconstructor' of something other than an inert class",
    ),
    "a codec of another name": (
        forge.call("_codecs.encode", forge.text("x"), forge.text("zip")),
        "'_codecs.encode' of something other than Latin-1 text",
    ),
    "nested torch.load": (
        forge.call("torch.storage._load_from_bytes", forge.raw_bytes(b"x")),
        "global 'torch.storage._load_from_bytes'",
    ),
    "a default factory": (
        forge.call("collections.defaultdict", forge.named("posix.system")),
        "global 'posix.system'",
    ),
    "a reducer by type": (
        forge.call(
            "torch._tensor._rebuild_from_type_v2",
            forge.named("_codecs.encode"),
            forge.NONE,
            forge.row(forge.text("x"), forge.text("latin1")),
            forge.NONE,
        ),
        "'torch._tensor._rebuild_from_type_v2' of '_codecs.encode'",
    ),
    "an out-of-band buffer": (b"\x97", "pickle instruction 0x97 is not admitted"),
    "terminal escapes in a name": (
        b"c\x1b[2Jposix\nsystem\n",
        "global '\\x1b[2Jposix.system'",
    ),
    "an endless name": (forge.named("posix." + "x" * 3000), "global of 3005 characters"),
}


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_is_refused(name: str, container: forge.Container) -> None:
    code, message = TRICKS[name]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(container(forge.checkpoint(x=code)))
    assert message in str(caught.value)
    assert str(caught.value).endswith("; nothing was executed")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("which", range(4))
def test_the_small_pickles_of_a_legacy_file_are_watched_too(which: int) -> None:
    parts = [
        forge.end(forge.integer(1001)),
        forge.end(forge.EMPTY_DICT),
        forge.checkpoint(),
        forge.end(forge.EMPTY_LIST),
    ]
    parts[which] = forge.end(forge.call("posix.system", forge.text("id")))
    with pytest.raises(CheckpointError, match=r"global 'posix\.system' at byte \d+ is not in the allow-table"):
        read_checkpoint(forge.LEGACY_MAGIC + b"".join(parts))


@pytest.mark.parametrize("code", [forge.call("posix.system", forge.text("id")), forge.named("posix.system")])
def test_a_persistent_id_is_watched_too(code: bytes, container: forge.Container) -> None:
    with pytest.raises(CheckpointError, match=r"global 'posix\.system'"):
        read_checkpoint(container(forge.checkpoint(x=forge.row(forge.text("storage"), code) + b"Q")))


def test_state_for_an_inert_class_is_kept_as_data() -> None:
    """`__setstate__` of a class would run elsewhere; here the class does not exist."""
    state = forge.table({"__class__": forge.text("x"), "__reduce__": forge.text("y")})
    checkpoint = read_checkpoint(
        forge.zip_bytes(forge.end(forge.model({"probe": forge.instance("models.x.Y", state)})))
    )
    probe = checkpoint.module.attributes["probe"]
    assert type(probe).__name__ == "Opaque"
