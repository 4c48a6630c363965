"""The allow-table: every name that a model may consist of, what we make of it, and why it is safe.

A name in the stream is only a string. It is looked up in this table and nowhere else: nothing is imported, no attribute
is fetched, and only our own constructors are called. A name that is not in the table is *foreign*. An object made from
it is inert, and is refused if the model's own tree reaches it (`yoloship.checkpoint.freeze`).

Names that only an attack contains are refused as soon as the stream mentions them. Safety does not depend on that list:
an attack that is not in it yields a string and nothing else. The list exists because a file that names ``os.system``
was made to harm whoever loads it with another program, and its owner should know that.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from yoloship.checkpoint import rebuild
from yoloship.checkpoint import rebuild as arrays
from yoloship.checkpoint.drafts import Context, Draft, Global, is_foreign
from yoloship.checkpoint.records import STORAGE_DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Make: TypeAlias = Callable[[Context, str, tuple[object, ...]], object]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ANYWHERE = _words(
    "os posix nt subprocess sys importlib runpy pickle cPickle marshal shelve ctypes _ctypes cffi socket "
    "_socket shutil webbrowser pty popen2 _posixsubprocess _winapi winreg _winreg _thread builtins"
)
"""Modules that may not occur anywhere in a class path: ``pathlib.os.system`` reaches the same function as
``os.system``."""

_ROOTS = _words(
    "_pickle codeop codecs platform pdb bdb cProfile timeit doctest pydoc imp zipimport pkgutil pip setuptools "
    "distutils ensurepip venv asyncio multiprocessing http httplib urllib urllib2 requests ftplib smtplib telnetlib "
    "nntplib poplib imaplib xmlrpc socketserver ssl paramiko fabric plumbum pexpect antigravity idlelib lib2to3 "
    "unittest signal gc io _io bz2 gzip lzma zipfile tarfile sqlite3 dbm mmap fileinput linecache tokenize getpass "
    "cloudpickle joblib dill jsonpickle yaml faulthandler atexit sched"
)
"""Top-level modules that have no place in a checkpoint, except for the names in `_HARMLESS`."""

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
"""Beginnings of names that run, load or fetch something, in modules that also hold harmless names."""

_FUNCTIONS = _words(
    "system popen Popen eval exec execfile check_output check_call getoutput getstatusoutput runstring run_module "
    "run_path _load_from_bytes import_module load_module load_library attrgetter methodcaller unsafe_load "
    "read_pickle urlopen urlretrieve download_url_to_file load_state_dict_from_url attempt_load"
)
"""Last parts of a name that are dangerous in any module."""

_EXACT = _words("torch.load torch.save torch.compile numpy.load numpy.save numpy.fromfile numpy.loadtxt")

_BUILTINS = frozenset({"builtins", "__builtin__"})
_BUILTIN_NAMES = _words(
    "bool bytearray bytes complex dict float frozenset int list long object range set slice str tuple unicode type "
    "property staticmethod classmethod NotImplemented Ellipsis NoneType ellipsis print sum min max abs len round "
    "sorted zip enumerate reversed any all repr hash id callable isinstance issubclass basestring xrange"
)
"""Builtin names that harmless objects mention. None of them calls, opens, compiles or fetches anything."""

_HARMLESS = (
    "dill._dill._", "cloudpickle.cloudpickle._", "cloudpickle.cloudpickle_fast._", "io.BytesIO", "_io.BytesIO",
    "io.StringIO", "_io.StringIO", "http.HTTPStatus", "platform.uname_result", "torch.serialization._get_layout",
)  # fmt: skip
"""Plain data of modules that also hold dangerous functions, buffers in memory, and the names that dill and cloudpickle
use for classes and functions of a script. Like all others, they remain names.
"""

IMPORTERS: Mapping[str, int] = MappingProxyType(
    {"dill._dill._import_module": 0, "dill._dill._get_attr": 1, "cloudpickle.cloudpickle.subimport": 0}
)
"""Functions that take a name as text, and which argument it is."""


def is_attack(class_path: str) -> bool:
    """Whether a dotted name is one that only an attack contains."""
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


class Entry(NamedTuple):
    """One admitted name: our own constructor that answers a call of it, and why the name is admitted."""

    make: Make | None
    reason: str


class Rule(NamedTuple):
    """All names below one package. Any such name becomes an inert draft."""

    prefix: str
    reason: str


def _make_dict(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``OrderedDict()`` or ``OrderedDict(pairs)``. It becomes a dict, which keeps its order anyway."""
    made: dict[object, object] = {}
    for pair in _items(context, class_path, arguments):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise context.refuse(f"{class_path!r} of something other than pairs")
        made[context.as_key(pair[0])] = pair[1]
    return made


def _make_default_dict(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``defaultdict(factory)``: the factory is dropped."""
    return _make_dict(context, class_path, arguments[1:])


def _make_list(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    return list(_items(context, class_path, arguments))


def _make_tuple(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    return tuple(_items(context, class_path, arguments))


def _make_set(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    return set(map(context.as_key, _items(context, class_path, arguments)))


def _items(context: Context, class_path: str, arguments: tuple[object, ...]) -> list[object] | tuple[object, ...]:
    if not arguments:
        return ()
    items = arguments[0]
    if len(arguments) > 1 or not isinstance(items, list | tuple):
        raise context.refuse(f"{class_path!r} of something other than a list")
    context.charge(len(items))
    return items


def _make_bytes(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_codecs.encode(text, "latin1")``: how protocol 2 writes bytes."""
    match arguments:
        case (str(text), "latin1" | "latin-1"):
            context.charge(len(text))
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError:
                raise context.refuse("text that is not Latin-1 where bytes belong") from None
    raise context.refuse(f"{class_path!r} of something other than Latin-1 text")


def _make_empty_bytes(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``bytes()``, as protocol 2 writes empty bytes, or ``bytearray(b"…")``."""
    match arguments:
        case ():
            return b""
        case (bytes(data),):
            return data
    raise context.refuse(f"{class_path!r} of something other than bytes")


def _make_attribute(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``getattr(module, "forward_fuse")``: a bound method that was saved with its module.

    Nothing is fetched. A record keeps the names only: the object is the module that holds this attribute, or the file
    is refused.
    """
    match arguments:
        case (Draft() | Global() as owner, str(name)) if not is_special(name):
            method = Draft(class_path, (owner.class_path, name))
            method.owner = owner if isinstance(owner, Draft) else None
            return method
    raise context.refuse(f"{class_path!r} of something other than a module and a name")


def _make_object(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_reconstructor(class, object, None)``: an instance as protocols 0 and 1 write it; later ones use NEWOBJ."""
    match arguments:
        case (Global() as kind, Global(class_path="builtins.object" | "__builtin__.object"), None) if (
            kind.instantiable or kind.make is _opaque
        ):
            return Draft(kind.class_path, foreign=kind.foreign)
        case (Global(instantiable=True) as kind, Global(), _):
            return Draft(kind.class_path, foreign=kind.foreign, odd="derives from a class of plain data")
    raise context.refuse(f"{class_path!r} of something other than an inert class")


def _make_new(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``__newobj__(class, …)``: NEWOBJ as a function."""
    match arguments:
        case (Global(instantiable=True) as kind, *rest):
            return Draft(kind.class_path, tuple(rest), foreign=kind.foreign)
        case (Global(make=make) as kind, *rest) if make is not None and make is not _make_new:
            return make(context, kind.class_path, tuple(rest))
    raise context.refuse(f"{class_path!r} of something other than an inert class")


def _make_type(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_load_type("set")`` as dill writes it: one of a closed set of builtin types, under its name in pickle."""
    match arguments:
        case (str(name),) if name in _DILL_TYPES:
            return find(f"builtins.{name}")
        case (str(name),) if name.isidentifier():
            return Global(f"{class_path}.{name}", instantiable=True, foreign=True)
    raise context.refuse(f"{class_path!r} of something other than the name of a type")


def _make_import(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """Modules and their attributes as dill and cloudpickle write them: a name as text, checked like any other name."""
    position = IMPORTERS[class_path]
    name = arguments[position] if len(arguments) > position else None
    if not isinstance(name, str) or len(name) > context.limits.name_chars:
        raise context.refuse(f"{class_path!r} without a name")
    if is_attack(name) or is_attack(f"builtins.{name}") or is_special(name):
        raise context.refuse(f"{class_path!r} of {name!r}")
    return Draft(class_path, arguments, foreign=True)


def _guarded(make: Make) -> Make:
    """The same constructor, but a call with a foreign argument gives a foreign draft."""

    def made(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
        if any(map(is_foreign, arguments)):
            return Draft(class_path, arguments, foreign=True)
        return make(context, class_path, arguments)

    return made


_DILL_TYPES = frozenset(
    {
        "set", "frozenset", "list", "tuple", "dict", "bytes", "bytearray", "object", "slice", "range", "complex",
        "bool", "int", "float", "str",
    }
)  # fmt: skip
_opaque = rebuild.make_opaque
_KEEP_FOREIGN = frozenset({_opaque, _make_default_dict, _make_attribute, _make_object, _make_new})
"""Constructors that know what to do with a foreign argument; the others are guarded."""


def _table() -> dict[str, Entry]:
    table = {
        "collections.OrderedDict": Entry(_make_dict, "torch's tables of submodules and state dicts; becomes a dict"),
        "collections.defaultdict": Entry(_make_default_dict, "optimizer states; becomes a dict"),
        "_codecs.encode": Entry(_make_bytes, "how protocol 2 writes bytes; Latin-1 only"),
        "copyreg.__newobj__": Entry(_make_new, "an instance as protocols 0 and 1 write it; inert"),
        "dill._dill._load_type": Entry(_make_type, "the name of a builtin type, as dill writes it"),
        "argparse.Namespace": Entry(_opaque, "training options; inert"),
        "torch._utils._rebuild_tensor": Entry(rebuild.make_tensor, "a tensor of torch 0.4"),
        "torch._utils._rebuild_tensor_v2": Entry(rebuild.make_tensor, "a tensor"),
        "torch._utils._rebuild_tensor_v3": Entry(rebuild.make_tensor_v3, "a tensor over an untyped storage"),
        "torch._utils._rebuild_parameter": Entry(rebuild.make_parameter, "a trained tensor"),
        "torch._utils._rebuild_parameter_with_state": Entry(rebuild.make_parameter, "a trained tensor with attributes"),
        "torch._tensor._rebuild_from_type_v2": Entry(rebuild.make_of_type, "a tensor with attributes"),
        "torch.Size": Entry(rebuild.make_size, "a shape; becomes a tuple"),
        "torch.device": Entry(_opaque, "where a tensor was; inert"),
        "numpy.ndarray": Entry(None, "argument of _reconstruct; mentioned only"),
        "numpy.dtype": Entry(arrays.make_dtype, "an element type; plain numbers only, others stay opaque"),
        "datetime.datetime": Entry(_opaque, "when training ended; inert"),
        "datetime.date": Entry(_opaque, "a day; inert"),
        "datetime.timedelta": Entry(_opaque, "a duration; inert"),
        "datetime.timezone": Entry(_opaque, "a time zone; inert"),
        "types.SimpleNamespace": Entry(_opaque, "options; inert"),
        "torch.torch_version.TorchVersion": Entry(_opaque, "what trained it; inert"),
        "decimal.Decimal": Entry(_opaque, "a number; inert"),
        "fractions.Fraction": Entry(_opaque, "a number; inert"),
    }
    for module in ("numpy.core", "numpy._core"):
        table[f"{module}.multiarray.scalar"] = Entry(arrays.make_scalar, "a number; becomes a Python one")
        table[f"{module}.multiarray._reconstruct"] = Entry(arrays.make_array, "an array; rebuilt from its bytes")
        table[f"{module}.numeric._frombuffer"] = Entry(arrays.make_from_buffer, "an array as protocol 5 writes it")
    for module in ("__builtin__", "builtins"):
        table[f"{module}.set"] = Entry(_make_set, "names of buffers; becomes a frozenset")
        table[f"{module}.frozenset"] = Entry(_make_set, "as set")
        table[f"{module}.list"] = Entry(_make_list, "a list")
        table[f"{module}.tuple"] = Entry(_make_tuple, "a tuple")
        table[f"{module}.dict"] = Entry(_make_dict, "a dict")
        table[f"{module}.bytes"] = Entry(_make_empty_bytes, "no bytes, as protocol 2 writes them")
        table[f"{module}.bytearray"] = Entry(_make_empty_bytes, "bytes")
        table[f"{module}.getattr"] = Entry(_make_attribute, "a bound method of a fused layer; its name, not fetched")
        table[f"{module}.object"] = Entry(None, "argument of _reconstructor; mentioned only")
        for name in ("bool", "int", "float", "str", "long", "unicode"):
            table[f"{module}.{name}"] = Entry(None, "a type among settings; mentioned only")
        table[f"{module}.slice"] = Entry(_opaque, "inert")
        for name in ("range", "xrange"):  # protocol 2 writes the first as the second
            table[f"{module}.{name}"] = Entry(_opaque, "the layers that a Sum adds; inert")
        table[f"{module}.complex"] = Entry(_opaque, "inert")
    for module in ("copyreg", "copy_reg"):
        table[f"{module}._reconstructor"] = Entry(_make_object, "an instance as protocols 0 and 1 write it; inert")
    for module in ("pathlib", "pathlib._local"):
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
            table[f"{module}.{name}"] = Entry(_opaque, "a path of the training machine; inert, never opened")
    table["torchvision.transforms.functional.InterpolationMode"] = Entry(_opaque, "how an image is resized; inert")
    for module in ("ultralytics.utils", "ultralytics.yolo.utils"):
        table[f"{module}.IterableSimpleNamespace"] = Entry(_opaque, "training options; inert")
    for name in STORAGE_DTYPES:
        table[name] = Entry(None, "element type of a storage; mentioned only")
    for name in (*rebuild.TORCH_DTYPES, "torch.uint16", "torch.uint32", "torch.uint64", "torch.complex64"):
        table[name] = Entry(None, "an element type; mentioned only")
    for name in ("torch.contiguous_format", "torch.channels_last", "torch.preserve_format", "torch.strided"):
        table[name] = Entry(None, "a memory layout; mentioned only")
    return {
        name: entry if entry.make is None or entry.make in _KEEP_FOREIGN else entry._replace(make=_guarded(entry.make))
        for name, entry in table.items()
    }


ALLOWED: Mapping[str, Entry] = MappingProxyType(_table())
"""By class path."""

RULES: tuple[Rule, ...] = (
    Rule("models.", "the training repository's modules, and blocks that people add to it"),
    Rule("utils.", "its helpers, some of which are modules"),
    Rule("yolov5.", "the same repository installed as a package"),
    Rule("ultralytics.", "models of Ultralytics' package: YOLOv8 and later, and YOLOv3u, 5u and 6u"),
    Rule("torch.nn.", "torch's own modules"),
    Rule("torchvision.", "classification models, their blocks, and the transforms that are saved with them"),
    Rule("timm.", "classification models and their blocks"),
)
"""Packages whose classes become inert drafts.

A rule is as safe as an entry, because a name under it is never resolved. A draft is a string with a state. It can only
be instantiated and filled. So the name of an unknown block reaches the graph builder, which says where in the network
the block is.
"""

_RULE_PREFIXES = tuple(rule.prefix for rule in RULES)


def find(class_path: str) -> Global | None:
    """The inert stand-in for a name; None if it is not a name, or is a name that only an attack contains."""
    entry = ALLOWED.get(class_path)
    if entry is not None:
        return Global(class_path, entry.make)
    if is_attack(class_path) or not all(part.isidentifier() for part in class_path.split(".")):
        return None
    if class_path in IMPORTERS:
        return Global(class_path, _make_import, foreign=True)
    return Global(class_path, instantiable=True, foreign=not class_path.startswith(_RULE_PREFIXES))
