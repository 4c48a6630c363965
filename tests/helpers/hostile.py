"""Pickle code that a hostile or merely strange checkpoint may hold, for the tests and the fuzzer."""

from __future__ import annotations

from helpers import forge

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
    "http.HTTPStatus", "platform.uname_result", "torch.serialization._get_layout",
    "dill._dill._create_function", "cloudpickle.cloudpickle._make_function", "mypkg.commands.Command",
    "mypkg.signal.Signal",
]  # fmt: skip
"""What ordinary training code leaves in its files."""


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
"""Ways to write a name that only an attack brings."""

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
"""Ways to write what is outside the allow-table."""

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
"""A model that refers to memo entry 255 at some place."""
