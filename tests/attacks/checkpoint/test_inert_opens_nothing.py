"""That unknown names are read around opens nothing: they stay names, the model's tree stays closed, nothing runs."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers import forge
from helpers.hostile import HARMLESS, MENTIONED, PLACES, SPELLINGS, UNKNOWN
from yoloship.checkpoint import read_checkpoint
from yoloship.checkpoint.allowed import is_attack
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.mark.parametrize("name", MENTIONED)
def test_a_name_that_only_an_attack_brings_refuses_the_file_under_any_key(name: str) -> None:
    assert is_attack(name)
    for table in (
        {"optimizer": forge.named(name), "model": forge.model()},
        {"model": forge.model(), "extra": forge.listed(forge.named(name))},
        {"model": forge.model({"x": forge.named(name)})},
    ):
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(forge.zip_bytes(forge.end(forge.table(table))))
        assert f"global {name!r} at byte " in str(caught.value)
        assert str(caught.value).endswith("is not in the allow-table; nothing was executed")


@pytest.mark.parametrize("name", HARMLESS)
def test_a_name_of_ordinary_training_code_is_no_attack(name: str) -> None:
    assert not is_attack(name)
    table = {"optimizer": forge.named(name), "model": forge.model()}
    assert read_checkpoint(forge.zip_bytes(forge.end(forge.table(table)))).task == "detect"


@pytest.mark.parametrize("key", ["optimizer", "extra", "model"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_an_attack_is_refused_however_it_is_written_and_wherever_it_stands(
    name: str, key: str, container: forge.Container
) -> None:
    code = SPELLINGS[name]
    model = forge.model({"x": code}) if key == "model" else forge.model()
    table = {"model": model} if key == "model" else {"model": model, key: code}
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(container(forge.end(forge.table(table), 4)))
    assert str(caught.value).endswith("nothing was executed")


class Reduced:
    def __init__(self, call: tuple[Any, ...]) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["os.system", "eval", "exec", "open", "__import__"])
def test_an_attack_that_pickle_wrote_is_refused_in_every_protocol(name: str, protocol: int) -> None:
    import os

    call: dict[str, tuple[Any, ...]] = {
        "os.system": (os.system, ("id",)),
        "eval": (eval, ("1",)),
        "exec": (exec, ("1",)),
        "open": (open, ("x", "w")),
        "__import__": (__import__, ("antigravity",)),
    }
    pickled = pickle.dumps({"optimizer": Reduced(call[name]), "model": 1}, protocol)
    with pytest.raises(CheckpointError, match=r"global '[\w.]+' at byte \d+ is not in the allow-table"):
        read_checkpoint(forge.zip_bytes(pickled))


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_unknown_is_inert_beside_the_model_and_refused_in_it(name: str, container: forge.Container) -> None:
    code = UNKNOWN[name]
    beside = read_checkpoint(container(forge.checkpoint(optimizer=code, extra=code)))
    assert set(beside.ignored) == {"optimizer", "extra"}
    with pytest.raises(CheckpointError, match=r"^checkpoint: 'model\.x"):
        read_checkpoint(container(forge.end(forge.table({"model": forge.model({"x": code})}))))


@pytest.mark.parametrize("first", ["beside", "inside"])
@pytest.mark.parametrize("name", PLACES)
def test_sharing_by_the_memo_opens_nothing(name: str, first: str, container: forge.Container) -> None:
    """An object made under a key that nobody reads is refused as soon as the model refers to it, and the reverse."""
    thing, reference = forge.instance("mypkg.Thing") + b"r\xff\x00\x00\x00", b"j\xff\x00\x00\x00"
    model = PLACES[name]
    if first == "beside":
        code = b"}(" + forge.text("optimizer") + thing + forge.text("model") + model + b"u"
    else:
        model = model.replace(reference, thing, 1)
        code = b"}(" + forge.text("model") + model + forge.text("optimizer") + reference + b"u"
    with pytest.raises(CheckpointError, match=r"^checkpoint: 'model\.") as caught:
        read_checkpoint(container(forge.end(code)))
    assert "mypkg.Thing" in str(caught.value)


def test_an_object_that_becomes_strange_after_the_model_was_made_is_strange_in_the_model() -> None:
    """A later instruction may change what an earlier one made; what counts is what the tree holds in the end."""
    act = forge.instance("models.x.Act", forge.table({"a": forge.TRUE})) + b"r\xff\x00\x00\x00"
    again = b"j\xff\x00\x00\x00" + forge.table({"a": forge.instance("mypkg.Thing")}) + b"b"
    code = b"}(" + forge.text("model") + forge.model({"x": act}) + forge.text("optimizer") + again + b"u"
    with pytest.raises(CheckpointError, match=r"'model\.x' is a 'models\.x\.Act', which was given its state twice"):
        read_checkpoint(forge.zip_bytes(forge.end(code)))


def test_a_table_that_is_filled_after_the_model_was_made_is_read_as_it_ends() -> None:
    table = b"}r\xff\x00\x00\x00"
    later = b"j\xff\x00\x00\x00" + forge.text("late") + forge.instance("mypkg.Thing") + b"s"
    code = b"}(" + forge.text("model") + forge.model({"x": table}) + forge.text("optimizer") + later + b"u"
    with pytest.raises(CheckpointError, match=r"'model\.x\.late' is a 'mypkg\.Thing', which is not in the allow-table"):
        read_checkpoint(forge.zip_bytes(forge.end(code)))


@pytest.mark.timeout(60)
def test_a_constructor_that_calls_itself_is_refused() -> None:
    new = forge.named("copyreg.__newobj__")
    with pytest.raises(CheckpointError, match=r"'copyreg\.__newobj__' of something other than an inert class"):
        read_checkpoint(forge.zip_bytes(forge.checkpoint(x=new + b"q\x010h\x01(" + b"h\x01" * 5000 + b"tR")))


def every_attack() -> Iterable[tuple[str, bytes]]:
    for table in (SPELLINGS, UNKNOWN):
        for code in table.values():
            yield "beside", forge.end(forge.table({"model": forge.model(), "optimizer": code}), 4)
            yield "before", forge.end(forge.table({"optimizer": code, "model": forge.model()}), 4)
            yield "inside", forge.end(forge.table({"model": forge.model({"x": code})}), 4)
    for name in (*MENTIONED, *HARMLESS):
        yield "called", forge.end(forge.table({"model": forge.model(), "x": forge.call(name, forge.text("id"))}))
        yield "built", forge.end(forge.table({"model": forge.model(), "x": forge.instance(name, forge.EMPTY_DICT)}))


def test_nothing_is_imported_compiled_executed_or_written(tmp_path: Path) -> None:
    """Python itself is asked: an audit hook hears every import, every piece of code, every process and every file."""
    count = 0
    for count, (kind, pickled) in enumerate(every_attack(), 1):
        for name, container in (("zip", forge.zip_bytes), ("legacy", forge.legacy_bytes)):
            (tmp_path / f"{count:04}-{kind}-{name}.pt").write_bytes(container(pickled))
    assert count > 400
    command = [sys.executable, "-m", "helpers.watched", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2 * count
    assert [line for line in lines if line["events"]] == []


HEARD = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
from helpers.watched import Watch
watch = Watch()
with watch:
    try:
        pickle.loads(bytes.fromhex(sys.argv[2]))
    except ImportError:
        pass
print(*watch.events, sep="\\n")
"""


@pytest.mark.parametrize(
    ("code", "event"),
    [
        (forge.call("builtins.eval", forge.text("1 + 1")), "compile"),
        (forge.call("builtins.__import__", forge.text("antigravity_of_tests")), "import"),
        (forge.call("builtins.open", forge.text("canary"), forge.text("w")), "open for writing"),
        (forge.call("os.system", forge.text("exit")), "os.system"),
        (forge.call("os.mkdir", forge.text("canary")), "os.mkdir"),
    ],
)
def test_the_watch_hears_what_an_attack_would_do(code: bytes, event: str, tmp_path: Path) -> None:
    folder = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", HEARD, folder, forge.end(code).hex()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert any(line.startswith(event) for line in done.stdout.splitlines()), done.stdout
