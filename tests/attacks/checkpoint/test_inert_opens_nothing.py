"""That unknown names are read around opens nothing: they stay names, the model's tree stays closed, nothing runs."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import _forge as forge
from yoloship.checkpoint import read_checkpoint
from yoloship.checkpoint.attacks import is_attack
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable

MENTIONED = [
    "os.system", "posix.system", "nt.system", "os.popen", "os.path.join", "subprocess.Popen",
    "subprocess.check_output", "sys.exit", "sys.modules", "importlib.import_module", "runpy.run_path",
    "runpy._run_code", "pickle.loads", "_pickle.loads", "cPickle.loads", "dill.loads", "dill._dill.loads",
    "cloudpickle.loads", "joblib.load", "marshal.loads", "shelve.open", "ctypes.CDLL", "_ctypes.dlopen", "cffi.FFI",
    "socket.socket", "_socket.socket", "shutil.rmtree", "webbrowser.open", "pty.spawn", "code.interact",
    "code.InteractiveConsole", "codeop.compile_command", "platform.popen", "pdb.run", "bdb.Bdb", "timeit.timeit",
    "cProfile.run", "profile.run", "trace.Trace", "doctest.testmod", "pydoc.locate", "imp.load_source",
    "zipimport.zipimporter", "pkgutil.resolve_name", "pip.main", "pip._internal.main", "setuptools.setup",
    "distutils.spawn.spawn", "ensurepip.bootstrap", "venv.create", "asyncio.run",
    "asyncio.subprocess.create_subprocess_shell", "multiprocessing.Process", "multiprocessing.util.spawnv_passfds",
    "http.client.HTTPConnection", "urllib.request.urlopen", "requests.get", "ftplib.FTP", "smtplib.SMTP",
    "xmlrpc.client.ServerProxy", "ssl.get_server_certificate", "sqlite3.connect", "tarfile.open", "zipfile.ZipFile",
    "io.open", "io.FileIO", "_io.FileIO", "_io.open", "codecs.open", "fileinput.input", "linecache.getlines",
    "gc.get_objects", "signal.signal", "atexit.register", "faulthandler.register", "mmap.mmap", "yaml.unsafe_load",
    "logging.config.listen", "functools.reduce", "itertools.starmap", "operator.attrgetter",
    "operator.methodcaller", "_operator.attrgetter", "_operator.methodcaller", "types.FunctionType",
    "types.CodeType", "builtins.eval", "builtins.exec", "builtins.compile", "builtins.open", "builtins.__import__",
    "builtins.globals", "builtins.setattr", "builtins.delattr", "builtins.vars", "builtins.input",
    "builtins.breakpoint", "builtins.exit", "builtins.map", "builtins.filter", "builtins.memoryview",
    "__builtin__.eval", "__builtin__.apply", "__builtin__.execfile", "__builtin__.file", "__builtin__.reload",
    "commands.getoutput", "torch.load", "torch.hub.load", "torch.hub.download_url_to_file", "torch.jit.load",
    "torch.jit._script.RecursiveScriptModule", "torch.package.PackageImporter", "torch.serialization.load",
    "torch.storage._load_from_bytes", "torch.utils.cpp_extension.load_inline", "torch.utils.model_zoo.load_url",
    "torch.utils.collect_env.run", "torch.utils.bottleneck.__main__.main", "torch.distributed.run.main",
    "torch.distributed.rpc.remote", "torch.ops.load_library", "torch.multiprocessing.spawn",
    "torch._inductor.codecache.compile_file", "numpy.load", "numpy.fromfile", "numpy.f2py.compile",
    "numpy.testing._private.utils.runstring", "numpy.distutils.exec_command.exec_command",
    "pandas.io.pickle.read_pickle", "pandas.read_pickle", "pathlib.os.system", "torch.os.system",
    "models.yolo.os.system", "utils.general.subprocess.run", "models.experimental.attempt_load",
    "utils.downloads.safe_download", "utils.downloads.attempt_download", "mypkg.sub.sys.exit",
    "mypkg.x.__globals__", "mypkg.x.__init__.__globals__", "mypkg.__builtins__.eval",
    "mypkg.x.__class__.__base__.__subclasses__", "mypkg.eval", "mypkg.system",
]  # fmt: skip
"""What public scanners, reports and exploits of pickles name."""


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


HARMLESS = [
    "torch.optim.sgd.SGD", "torch.optim.lr_scheduler.LambdaLR", "torch.cuda.amp.grad_scaler.GradScaler",
    "torch.torch_version.TorchVersion", "torch.distributed.algorithms.join._JoinConfig", "torch.Generator",
    "numpy.random._pickle.__randomstate_ctor", "numpy.str_", "numpy.ma.core._mareconstruct",
    "pandas.core.frame.DataFrame", "easydict.EasyDict", "omegaconf.dictconfig.DictConfig",
    "wandb.sdk.wandb_config.Config", "ruamel.yaml.comments.CommentedMap", "collections.Counter",
    "collections.deque", "decimal.Decimal", "fractions.Fraction", "uuid.UUID", "re._compile", "enum.Enum",
    "functools.partial", "operator.itemgetter", "operator.getitem", "logging.Logger", "logging.getLogger",
    "_io.BytesIO", "__main__.Config", "train.Trainer", "code.models.Block", "test.models.Block", "builtins.int",
    "builtins.ValueError", "builtins.type", "typing.Union", "types.SimpleNamespace", "threading.Lock",
    "dill._dill._create_function", "cloudpickle.cloudpickle._make_function", "mypkg.commands.Command",
    "mypkg.signal.Signal",
]  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_a_name_of_ordinary_training_code_is_no_attack(name: str) -> None:
    assert not is_attack(name)
    table = {"optimizer": forge.named(name), "model": forge.model()}
    assert read_checkpoint(forge.zip_bytes(forge.end(forge.table(table)))).task == "detect"


def stack_global(module: bytes, name: bytes) -> bytes:
    return module + name + b"\x93"


POSIX, SYSTEM = forge.text("posix"), forge.text("system")
SPELLINGS: dict[str, bytes] = {
    "GLOBAL": b"cposix\nsystem\n",
    "STACK_GLOBAL": stack_global(POSIX, SYSTEM),
    "STACK_GLOBAL of short texts": b"\x8c\x05posix\x8c\x06system\x93",
    "STACK_GLOBAL of long texts": stack_global(b"\x8d\x05" + bytes(7) + b"posix", b"\x8d\x06" + bytes(7) + b"system"),
    "STACK_GLOBAL of old strings": stack_global(b"S'posix'\n", b"U\x06system"),
    "STACK_GLOBAL of the memo": POSIX + b"\x940" + SYSTEM + b"\x940h\x00h\x01\x93",
    "STACK_GLOBAL after detours": POSIX + b"N0" + b"20" + SYSTEM + b"\x93",
    "STACK_GLOBAL of a text with escapes": stack_global(b"Vp\\u006fsix\n", b"Vsyst\\u0065m\n"),
    "a dotted name": stack_global(forge.text("mypkg"), forge.text("a.os.system")),
    "a dotted module": b"cmypkg.os\nsystem\n",
    "INST": b"(" + forge.text("id") + b"iposix\nsystem\n",
    "OBJ": b"(cposix\nsystem\n" + forge.text("id") + b"o",
    "REDUCE": forge.call("posix.system", forge.text("id")),
    "NEWOBJ": b"cposix\nsystem\n" + forge.row(forge.text("id")) + b"\x81",
    "NEWOBJ_EX": b"cposix\nsystem\n" + forge.row(forge.text("id")) + b"}\x92",
    "BUILD": forge.instance("mypkg.X", forge.named("posix.system")),
    "an argument of partial": forge.call("functools.partial", forge.named("posix.system"), forge.text("id")),
    "a factory": forge.call("collections.defaultdict", forge.named("posix.system")),
    "a persistent id": forge.row(forge.text("storage"), forge.named("posix.system"), b"NNN") + b"Q",
    "a key": b"}cposix\nsystem\nNs",
    "a member": b"\x8f(cposix\nsystem\n\x90",
    "what is thrown away": b"cposix\nsystem\n0N",
    "what is thrown away to its mark": b"(cposix\nsystem\n1N",
    "an item of an unknown list": forge.instance("mypkg.X") + b"cposix\nsystem\na",
    "an item of an unknown table": forge.instance("mypkg.X") + forge.text("k") + b"cposix\nsystem\ns",
    "an import as dill spells it": forge.call("dill._dill._import_module", forge.text("os")),
    "a nested import as dill spells it": forge.call("dill._dill._import_module", forge.text("torch.os")),
    "an attribute as dill spells it": forge.call("dill._dill._get_attr", forge.NONE, forge.text("system")),
    "a builtin as dill spells it": forge.call("dill._dill._get_attr", forge.NONE, forge.text("eval")),
    "a hidden attribute as dill spells it": forge.call("dill._dill._get_attr", forge.NONE, forge.text("__globals__")),
    "an import as cloudpickle spells it": forge.call("cloudpickle.cloudpickle.subimport", forge.text("subprocess")),
    "a registry": forge.call("copyreg.__newobj__", forge.named("posix.system"), forge.text("id")),
    "an old instance": forge.call(
        "copyreg._reconstructor", forge.named("posix.system"), forge.named("builtins.object"), forge.NONE
    ),
    "getattr": forge.call("builtins.getattr", forge.named("mypkg.x"), forge.text("__globals__")),
    "getattr of a value": forge.call("builtins.getattr", forge.text("x"), forge.text("format")),
}


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


UNKNOWN: dict[str, bytes] = {
    "a call": forge.call("mypkg.run", forge.text("id")),
    "an instance": forge.instance("mypkg.X", forge.table({"__class__": forge.text("y")})),
    "an old instance": b"(" + forge.text("id") + b"imypkg\nX\n",
    "an object": b"(cmypkg\nX\n" + forge.text("id") + b"o",
    "an instance of named arguments": b"cmypkg\nX\n)" + forge.table({"a": forge.NONE}) + b"\x92",
    "a call of what a call gave": forge.call("mypkg.make") + b")R",
    "an instance of what a call gave": forge.call("mypkg.make") + b")\x81",
    "a state that calls": forge.instance("mypkg.X", forge.call("mypkg.run")),
    "an extension": b"\x82\x01)R",
    "a class of a rule that is called": forge.call("models.yolo.Model", forge.text("x.yaml")),
    "a function of a rule that is called": forge.call("torch.nn.functional.relu", forge.NONE),
    "an admitted name that is called": forge.call("torch.float32"),
    "a list of its own kind": forge.instance("mypkg.X") + b"(NNe",
    "a table of its own kind": forge.instance("mypkg.X") + b"(NNu",
    "a name": forge.named("mypkg.x"),
    "a partial": forge.call("functools.partial", forge.named("mypkg.f")),
    "a key": b"}" + forge.instance("mypkg.X") + b"Ns",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_unknown_is_inert_beside_the_model_and_refused_in_it(name: str, container: forge.Container) -> None:
    code = UNKNOWN[name]
    beside = read_checkpoint(container(forge.checkpoint(optimizer=code, extra=code)))
    assert set(beside.ignored) == {"optimizer", "extra"}
    with pytest.raises(CheckpointError, match=r"^checkpoint: 'model\.x"):
        read_checkpoint(container(forge.end(forge.table({"model": forge.model({"x": code})}))))


PLACES: dict[str, bytes] = {
    "the model's attributes": forge.model({"x": b"j\xff\x00\x00\x00"}),
    "a list in them": forge.model({"x": forge.listed(forge.table({"y": b"j\xff\x00\x00\x00"}))}),
    "a layer's attributes": forge.model(extra={"1": forge.module("models.common.C3", {"x": b"j\xff\x00\x00\x00"})}),
    "a layer's weights": forge.model(extra={"1": forge.module("models.common.C3", {}, {"w": b"j\xff\x00\x00\x00"})}),
    "a layer's buffers": forge.model(
        extra={"1": forge.module("models.common.C3", {}, {}, {"b": b"j\xff\x00\x00\x00"})}
    ),
    "a layer": forge.model(extra={"1": b"j\xff\x00\x00\x00"}),
    "a hook": forge.model(
        extra={"1": forge.module("models.common.C3", {"_forward_hooks": b"}K\x01j\xff\x00\x00\x00s"})}
    ),
}


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
    with pytest.raises(CheckpointError, match=r"'copyreg\.__newobj__' of something else than an inert class"):
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
    script = Path(__file__).parents[2] / "_watched.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2 * count
    assert [line for line in lines if line["events"]] == []


HEARD = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
from _watched import Watch
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
