"""What importing loads, which modules exist, and which way imports point."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import yoloship
from helpers.source_code import FILES, SOURCE, nodes

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(("yoloship", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for path in FILES
    if path.name != "__main__.py"
)
PUBLIC = (
    "CheckpointError",
    "ClassScore",
    "Classification",
    "CudaError",
    "CudaTuning",
    "DependencyError",
    "DetectOptions",
    "Detection",
    "Detections",
    "Detector",
    "DownloadError",
    "EngineError",
    "GraphError",
    "ImageError",
    "InputError",
    "Masks",
    "ModelInfo",
    "Outcome",
    "OutputError",
    "SessionError",
    "SlicedDetector",
    "Slicing",
    "TrackOptions",
    "TrackedOutcome",
    "Validation",
    "YoloshipError",
    "__version__",
    "atrack",
    "build",
    "export",
    "load",
    "read_checkpoint",
    "track",
    "val",
)
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
FORBIDDEN = ("torch", "pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib")


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_these_and_all_of_them_exist() -> None:
    assert tuple(sorted(yoloship.__all__)) == PUBLIC
    for name in PUBLIC:
        assert getattr(yoloship, name) is not None
    assert {name for name in dir(yoloship) if not name.startswith("__")} == set(PUBLIC) - {"__version__"}


def test_nothing_else_in_the_package_looks_public() -> None:
    shown = python(
        "import types, yoloship\n"
        "for name in yoloship.__all__: getattr(yoloship, name)\n"
        "names = [name for name, value in vars(yoloship).items() if type(value) is not types.ModuleType]\n"
        "print(*(name for name in names if not name.startswith('_')))"
    ).split()
    assert set(shown) <= set(PUBLIC)


def test_type_checkers_see_each_public_name_where_it_is() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == yoloship._PLACES


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'yoloship' has no attribute 'nothing'"):
        yoloship.nothing  # noqa: B018


def test_importing_yoloship_loads_the_standard_library_only() -> None:
    loaded = python(
        "import sys; before = set(sys.modules); import yoloship\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    ).split()
    others = {name for name in loaded if name not in sys.stdlib_module_names} - {"yoloship"}
    assert {name for name in others if not name.startswith("_")} == set()


@pytest.mark.parametrize("command", [[], ["detect"], ["verify"], ["doctor"], ["demo"], ["info"]])
def test_help_is_shown_without_loading_numpy(command: list[str]) -> None:
    loaded = python(
        "import sys\nfrom yoloship.cli import app\n"
        f"assert app.run([*{command!r}, '--help']) == 0\nprint('loaded', *sys.modules)"
    ).partition("loaded ")[2]
    assert "click" in loaded.split()
    assert "numpy" not in loaded.split()


@pytest.mark.parametrize("room", sorted({name.split(".")[1] for name in MODULES if "." in name}))
def test_every_room_imports_on_its_own_and_changes_nothing(room: str) -> None:
    """In a fresh process, innermost modules first; no heavy library is loaded until a function needs it."""
    names = [name for name in reversed(MODULES) if name.split(".")[1:2] == [room]]
    # The scenes' painters are nothing but OpenCV calls; it sets LD_LIBRARY_PATH as it loads.
    allowed = {"cv2"} if room == "demo" else set()
    program = f"""
import importlib, os, sys
environment = dict(os.environ)
for name in {names!r}:
    importlib.import_module(name)
if 'cv2' not in {allowed!r}:
    assert dict(os.environ) == environment, 'the environment was changed'
heavy = {{'cv2', 'onnxruntime', 'onnx', 'tensorrt', 'tensorrt_rtx', 'cuda', 'PIL', 'supervision', 'torch'}}
print(*sorted((heavy - {allowed!r}) & {{m.partition('.')[0] for m in sys.modules}}))
"""
    assert python(program).split() == []


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere in it."""
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@each_file
def test_no_module_imports_torch_or_anything_that_runs_pickles(path: Path) -> None:
    assert not imported(path) & set(FORBIDDEN)


@each_file
def test_no_module_evaluates_text_as_code(path: Path) -> None:
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}, f"{path.name}:{node.lineno}"


def test_imports_point_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
