"""Compiles the stand-in library, once for all test processes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.kept import kept
from helpers.shared import IN_CI

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
CLASSES = (
    "VRuntime", "VCudaEngine", "VExecutionContext", "VHostMemory", "VEngineInspector", "VRuntimeConfig", "VBuilder",
    "VNetworkDefinition", "VBuilderConfig", "VOptimizationProfile", "VTensor", "VLayer", "VTimingCache", "IParser",
    "IParserError",
)  # fmt: skip
"""In the order of `enum Kind` in library.c."""
LAYOUTS = ("10", "10.8", "11")
"""In the order of the library's own list."""
_IN_THE_FACE = {"VNetworkDefinition": "face_INetworkDefinition_getBuilder",
                "VBuilderConfig": "face_IBuilderConfig_setAvgTimingIterations"}  # fmt: skip
"""Slot 2 of these public interfaces is virtual itself, and does not go through the implementation."""
_SPARE = 12
"""Slots behind the last one that is known, so that a newer binding's call is named as well."""
_FLAGS = ("-std=gnu11", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror")


def slots() -> Mapping[tuple[str, str], tuple[str, ...]]:
    """The names of the virtual functions from slot 0 on, by class and layout."""
    lines = (line.split() for line in (HERE / "slots.txt").read_text().splitlines())
    return {(words[0], words[1]): tuple(words[2:]) for words in lines if words and words[0] != "#"}


def stand_in_library() -> Path:
    """A folder with ``libnvinfer.so.M``, ``libnvinfer_plugin.so.M`` and ``libnvonnxparser.so.M`` for M 10 and 11.

    Skips if there is no C compiler; fails in CI.
    """
    compiler = shutil.which("gcc")
    if compiler is None:
        message = "the stand-in library needs gcc"
        if IN_CI:
            pytest.fail(f"{message}; CI must have it")
        pytest.skip(message)
    sources = {name: (HERE / name).read_text() for name in ("library.c", "building.h")}
    sources["tables.h"] = "\n".join(_tables("\n".join(sources.values())))

    def build(folder: Path) -> None:
        for name, text in sources.items():
            (folder / name).write_text(text)
        compiled = os.fspath(folder / "library.o")
        commands = [[compiler, *_FLAGS, "-c", os.fspath(folder / "library.c"), "-o", compiled]]
        for major in (10, 11):
            for stem, parts in (("nvinfer", [compiled]), ("nvinfer_plugin", []), ("nvonnxparser", [])):
                name = f"lib{stem}.so.{major}"
                target = os.fspath(folder / name)
                commands.append([compiler, "-shared", *parts, f"-Wl,-soname,{name}", "-o", target])
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256("\n".join([*sources.values(), version, *_FLAGS]).encode()).hexdigest()[:16]
    return kept("tensorrt-library", key, build)


def _tables(source: str) -> Iterator[str]:
    """C code of the virtual tables: for each slot the function of that name, or one that names the slot and ends."""
    written = set(re.findall(r"\b((?:V|IParser)\w*_\w+)\(void\* this", source))
    for member, setter, getter in re.findall(r"^HOLDS\([^,]+, (\w+), (\w+), (\w+)\)", source, re.MULTILINE):
        assert member
        written |= {f"VBuilderConfig_{setter}", f"VBuilderConfig_{getter}"}
    written |= {f"VCudaEngine_{getter}" for getter in re.findall(r"^INT_OF\(\w+, (\w+)\)", source, re.MULTILINE)}
    written |= {f"IParserError_{name}" for name in re.findall(r"^SAYS\([^,]+, (\w+),", source, re.MULTILINE)}
    known = slots()
    named = {f"{kind}_{name}" for (kind, _), names in known.items() for name in names}
    unknown = {name for name in written if name not in named and "##" not in name}
    assert not unknown, f"no slot has the name of {sorted(unknown)}"
    for layout in LAYOUTS:
        tag = layout.replace(".", "_")
        for kind in CLASSES:
            names = known.get((kind, layout)) or known[kind, layout.split(".")[0]]
            entries = []
            for slot, name in enumerate((*names, *["?"] * _SPARE)):
                if name == "~":
                    entries.append("destroy")
                elif f"{kind}_{name}" in written:
                    entries.append(f"{kind}_{name}")
                else:
                    entries.append(f"absent_{kind}_{tag}_{slot}")
                    told = f'"{kind} slot {slot} of layout {layout}", "{name}"'
                    yield f"static void {entries[-1]}(void) {{ absent({told}); }}"
            yield _array(f"table_{kind}_{tag}", entries)
    for kind in CLASSES:
        special = _IN_THE_FACE.get(kind, f"absent_{kind}_face")
        yield f'static void absent_{kind}_face(void) {{ absent("{kind}, its face", "a further function"); }}'
        yield _array(f"face_{kind}", ["destroy", "destroy", special, f"absent_{kind}_face"])
    for array, table in (("faces", "face_%s"), ("classes", "table_%s_%s")):
        tags = [layout.replace(".", "_") for layout in LAYOUTS]
        rows = [", ".join(table % (kind, tag)[: table.count("%")] for kind in CLASSES) for tag in tags]
        nested = ", ".join(f"{{{row}}}" for row in rows)
        yield f"static const void* const* const {array}[LAYOUTS][KINDS] = {{{nested}}};"
    quoted = ", ".join(f'"{kind}"' for kind in CLASSES)
    yield f"static const char* const kind_names[KINDS] = {{{quoted}}};"


def _array(name: str, entries: list[str]) -> str:
    """Two empty words stand before the first slot: the offset to the top, and no type information."""
    values = ", ".join(["0", "0", *(f"(const void*){entry}" for entry in entries)])
    return f"static const void* const {name}[] = {{{values}}};"
