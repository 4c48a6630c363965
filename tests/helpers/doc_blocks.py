"""Code blocks of a Markdown page: each is marked with what a test does with it, and none is without a mark.

A mark is a comment on the line before the block. Readers of the page do not see it.

    <!-- run -->             the block runs, in the same folder as the blocks before it, and ends with exit code 0
    <!-- run: fails -->      it runs, and ends with exit code 1
    <!-- run: rtx -->        it runs if TensorRT-RTX is installed, which builds without a GPU; else it is only checked
    <!-- run: gpu -->        it runs on a GPU if ONNX Runtime can use one here; else with device="cpu"
    <!-- check: REASON -->   it does not run, for the reason given: its commands, options and names are checked
    <!-- foreign: REASON --> it is not ours, and cannot run here: it is only compiled
    <!-- output -->          a text block: each of its lines is a line that the block before it printed
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import shlex
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click
import onnxruntime

import yoloship
from helpers.cli import run
from helpers.networks import has_rtx_wheel
from helpers.shared import IN_CI
from yoloship.cli.app import PROGRAM
from yoloship.cuda.device import probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LANGUAGES = ("sh", "python")
_MARK = re.compile(r"<!-- (run|run: fails|run: rtx|run: gpu|check: .+|foreign: .+|output) -->")
_TYPES = {"detector": yoloship.Detector, "found": yoloship.Detections, "validation": yoloship.Validation}
"""What a variable of this name is in our pages, so that its methods can be checked."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code.

    Attributes:
        name: The page and the line, for messages.
        language: ``sh`` or ``python``.
        mark: What is done with it.
        code: Its text.
        output: Lines that it prints, as the page shows them; `…` stands for any text.
    """

    name: str
    language: str
    mark: str
    code: str
    output: tuple[str, ...] = ()

    @property
    def without_comments(self) -> str:
        """The code as two translations of a page have it in common."""
        if self.language == "python":
            return ast.dump(ast.parse(self.code))
        lines = [re.sub(r"\s+# .*$", "", line).rstrip() for line in self.code.splitlines()]
        return "\n".join(line for line in lines if line and not line.startswith("# "))


def blocks_of(page: Path) -> list[Block]:
    """All blocks of shell and Python code of a page, in order, each with the output that the page shows of it."""
    blocks: list[Block] = []
    for number, before, language, code in fenced(page):
        name = f"{page.name}:{number}"
        marked = _MARK.fullmatch(before)
        assert marked or not before.startswith("<!--"), f"{name}: an unknown mark: {before}"
        mark = marked[1] if marked else ""
        if mark == "output":
            assert language == "text", f"{name}: output is a block of the language text"
            last = blocks.pop()
            blocks.append(Block(last.name, last.language, last.mark, last.code, tuple(code.splitlines())))
        elif mark or language in LANGUAGES:
            assert language in LANGUAGES, f"{name}: a marked block of the language {language!r}"
            assert mark, f"{name}: a block of {language} without a mark"
            blocks.append(Block(name, language, mark, code))
    return blocks


def fenced(page: Path) -> Iterator[tuple[int, str, str, str]]:
    """Line number, the line before, language, and content of each fenced block of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = re.fullmatch(r"( *)```(\w*).*", lines[number])
        if opening is None:
            number += 1
            continue
        end = lines.index(f"{opening[1]}```", number + 1)
        content = [line.removeprefix(opening[1]) for line in lines[number + 1 : end]]
        before = lines[number - 1].strip() if number else ""
        yield number + 1, before, opening[2], "\n".join(content) + "\n"
        number = end + 1


def try_block(block: Block) -> None:
    """Do what the mark of a block says, in the current folder; if the page is wrong about it, the test fails."""
    kind = block.mark.partition(":")[0]
    if kind == "foreign":
        compile(block.code, block.name, "exec")
        assert not block.output, f"{block.name}: shows an output that nobody has seen"
        return
    check_names(block)
    if kind == "check":
        return
    if block.mark == "run: rtx" and find_spec("tensorrt_rtx") is None:
        assert not (IN_CI and has_rtx_wheel()), "tensorrt_rtx is not installed; CI must have it"
        return
    code, printed = _run_commands(block) if block.language == "sh" else _run_python(block)
    assert code == (block.mark == "run: fails"), f"{block.name}: exit code {code}\n{printed}"
    for line in block.output:
        pattern = ".*".join(map(re.escape, line.strip().split("…")))
        found = any(re.fullmatch(pattern, row.strip()) for row in printed.splitlines())
        assert found, f"{block.name}: did not print {line!r}, but\n{printed}"


def _run_commands(block: Block) -> tuple[int, str]:
    """Run commands of ours, one a line, up to the first that fails: its exit code, and what all of them printed."""
    code, printed = 0, ""
    for words in _commands(block):
        assert words[0] == "yoloship", f"{block.name}: only yoloship runs, not {words[0]}"
        ran = run(*words[1:])
        code, printed = ran.code, printed + ran.out + ran.err
        if code:
            break
    return code, printed


def _run_python(block: Block) -> tuple[int, str]:
    """Run a block in this process, with no names but its own: its exit code, and what it printed."""
    code = block.code
    if block.mark == "run: gpu" and not has_gpu():
        assert 'device="cuda"' in code, f"{block.name}: names no GPU"
        code = code.replace('device="cuda"', 'device="cpu"')
    printed, exit_code = io.StringIO(), 0
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            exec(compile(code, block.name, "exec"), {"__name__": "__main__"})
        except SystemExit as end:
            exit_code = 0 if end.code is None else end.code if isinstance(end.code, int) else 1
        except Exception:
            traceback.print_exc()
            exit_code = 1
    return exit_code, printed.getvalue()


def has_gpu() -> bool:
    """Whether checkpoints and ONNX files can run on a GPU here."""
    return probe().problem is None and "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def check_names(block: Block) -> None:
    """Hold the commands and options, or the functions and keywords, that a block names against the real ones."""
    if block.language == "python":
        _check_python(block)
    else:
        _check_shell(block)


def _commands(block: Block) -> list[list[str]]:
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def _check_shell(block: Block) -> None:
    for words in _commands(block):
        if words[0] == "yoloship":
            _parse(words[1:], block.name)
        elif words[:2] == ["pip", "install"]:
            _check_extras(words[2:], block.name)
        else:
            raise AssertionError(f"{block.name}: neither yoloship nor pip install: {' '.join(words)}")


def _parse(words: list[str], name: str) -> None:
    """Let the real parser read a command, without running it."""
    group = PROGRAM
    try:
        with click.Context(group, info_name="yoloship") as parent:
            command = group.get_command(parent, words[0])
            assert command is not None
            command.make_context(words[0], words[1:], parent)
    except click.ClickException as error:
        raise AssertionError(f"{name}: yoloship {' '.join(words)}: {error.format_message()}") from error


def _check_extras(words: list[str], name: str) -> None:
    extras = set(metadata("yoloship").get_all("Provides-Extra") or ())
    for word in words:
        for extra in re.findall(r"\[([\w,]+)\]", word):
            missing = set(extra.split(",")) - extras
            assert not missing, f"{name}: there is no extra {missing}"


def _check_python(block: Block) -> None:
    tree = ast.parse(block.code, block.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("yoloship"):
            module = __import__(str(node.module), fromlist=["*"])
            for alias in node.names:
                assert hasattr(module, alias.name), f"{block.name}: {node.module} has no {alias.name}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner: Any = yoloship if node.value.id == "yoloship" else _TYPES.get(node.value.id)
            if owner is not None:
                public = node.attr in yoloship.__all__ if owner is yoloship else hasattr(owner, node.attr)
                assert public, f"{block.name}: {node.value.id} has no public {node.attr!r}"
        elif isinstance(node, ast.Call):
            _check_keywords(node, block.name)


def _check_keywords(call: ast.Call, name: str) -> None:
    function: Any = None
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        owner = {"yoloship": yoloship, **_TYPES}.get(call.func.value.id)
        function = getattr(owner, call.func.attr, None)
    elif isinstance(call.func, ast.Name) and call.func.id in _TYPES:
        function = _TYPES[call.func.id].__call__
    if function is None or not callable(function):
        return
    taken = inspect.signature(function).parameters
    for keyword in call.keywords:
        if keyword.arg is not None and not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
            assert keyword.arg in taken, f"{name}: {ast.unparse(call.func)} has no argument {keyword.arg!r}"
