"""Names that only an attack brings: a file that mentions one is refused wherever the name stands.

Safety does not rest on this list. No name is ever resolved, so an attack that the list does not know yields a string
and nothing else. The list exists because a file that names ``os.system`` was made to harm whoever loads it with
another program, and its owner should hear that.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ANYWHERE = _words(
    "os posix nt subprocess sys importlib runpy pickle cPickle marshal shelve ctypes _ctypes cffi socket "
    "_socket shutil webbrowser pty popen2 _posixsubprocess _winapi winreg _winreg _thread builtins"
)
"""Modules that no part of a class path may be: ``pathlib.os.system`` reaches the same function as ``os.system``."""

_ROOTS = _words(
    "_pickle codeop codecs platform pdb bdb cProfile timeit doctest pydoc imp zipimport pkgutil pip setuptools "
    "distutils ensurepip venv asyncio multiprocessing http httplib urllib urllib2 requests ftplib smtplib telnetlib "
    "nntplib poplib imaplib xmlrpc socketserver ssl paramiko fabric plumbum pexpect antigravity idlelib lib2to3 "
    "unittest signal gc io _io bz2 gzip lzma zipfile tarfile sqlite3 dbm mmap fileinput linecache tokenize getpass "
    "cloudpickle joblib dill jsonpickle yaml faulthandler atexit sched"
)
"""Top-level modules that have nothing to do in a checkpoint, except for the names in `_HARMLESS`."""

_PREFIXES = (
    "code.interact", "code.Interactive", "code.compile_command", "commands.get", "trace.Trace", "profile.run",
    "profile.Profile", "test.support", "cmd.Cmd", "site.main", "functools.reduce", "itertools.starmap",
    "operator.call", "_operator.call", "types.CodeType", "types.FunctionType", "types.LambdaType", "types.ModuleType",
    "logging.config.", "torch.hub.", "torch.jit.", "torch.package.", "torch.serialization.",
    "torch.utils.cpp_extension.", "torch.utils.model_zoo.", "torch.utils.collect_env.", "torch.utils.bottleneck.",
    "torch.distributed.run.", "torch.distributed.launch.", "torch.distributed.elastic.", "torch.distributed.rpc.",
    "torch.ops.", "torch.classes.", "torch.testing.", "torch.multiprocessing.", "torch._inductor.", "torch._C._jit",
    "numpy.testing.", "numpy.f2py.", "numpy.distutils.", "numpy.ctypeslib.", "pandas.io.",
)  # fmt: skip
"""Beginnings of names that run, load or fetch, in modules that hold harmless names as well."""

_FUNCTIONS = _words(
    "system popen Popen eval exec execfile check_output check_call getoutput getstatusoutput runstring run_module "
    "run_path _load_from_bytes import_module load_module load_library attrgetter methodcaller unsafe_load "
    "read_pickle urlopen urlretrieve download_url_to_file load_state_dict_from_url attempt_load"
)
"""Last parts of a name that say what it does, whatever module it is said to come from."""

_EXACT = _words("torch.load torch.save torch.compile numpy.load numpy.save numpy.fromfile numpy.loadtxt")

_BUILTINS = frozenset({"builtins", "__builtin__"})
_BUILTIN_NAMES = _words(
    "bool bytearray bytes complex dict float frozenset int list long object range set slice str tuple unicode type "
    "property staticmethod classmethod NotImplemented Ellipsis NoneType ellipsis print sum min max abs len round "
    "sorted zip enumerate reversed any all repr hash id callable isinstance issubclass basestring xrange"
)
"""Builtin names that harmless objects mention; what calls, opens, compiles or fetches is not among them."""

_HARMLESS = (
    "dill._dill._", "cloudpickle.cloudpickle._", "cloudpickle.cloudpickle_fast._", "io.BytesIO", "_io.BytesIO",
    "io.StringIO", "_io.StringIO", "http.HTTPStatus", "platform.uname_result", "torch.serialization._get_layout",
)  # fmt: skip
"""Plain data of modules that hold dangerous functions as well, buffers in memory, and how dill and cloudpickle spell
classes and functions of a script. They stay names like all others.
"""

IMPORTERS: Mapping[str, int] = MappingProxyType(
    {"dill._dill._import_module": 0, "dill._dill._get_attr": 1, "cloudpickle.cloudpickle.subimport": 0}
)
"""Functions that take a name as text, and which argument it is."""


def is_attack(class_path: str) -> bool:
    """Whether a dotted name is one that only an attack brings."""
    parts = class_path.split(".")
    root, last = parts[0], parts[-1]
    if root in _BUILTINS:
        return len(parts) != 2 or not (last in _BUILTIN_NAMES or last.endswith(("Error", "Exception", "Warning")))
    if class_path.startswith(_HARMLESS) or class_path in IMPORTERS:
        return False
    return (
        root in _ROOTS
        or last in _FUNCTIONS
        or last.endswith("_download")
        or class_path in _EXACT
        or class_path.startswith(_PREFIXES)
        or not _ANYWHERE.isdisjoint(parts)
        or any(map(is_special, parts[1:]))
    )


def is_special(part: str) -> bool:
    """Whether this is a name like ``__globals__``, through which one object leads to another."""
    return len(part) > 4 and part.startswith("__") and part.endswith("__")
