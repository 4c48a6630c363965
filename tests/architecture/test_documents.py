"""Documents: their links lead somewhere, and the commands and the names in them exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import click
import pytest

from helpers.doc_blocks import Block, check_names
from yoloship.cli.app import PROGRAM

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench" / "results").glob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, *languages: str) -> list[str]:
    """The fenced blocks of a document in one of these languages."""
    found = FENCE.finditer(path.read_text(encoding="utf-8"))
    return [block["text"] for block in found if block["language"] in languages]


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_each_link_between_documents_leads_to_a_file_and_a_heading(document: Path) -> None:
    text = prose(document)
    broken = []
    for link in LINK.finditer(text):
        target, _, anchor = link["target"].partition("#")
        if ":" in target:
            continue
        file = (document.parent / target).resolve() if target else document
        generated = name(document).startswith("docs/") and file == ROOT / "docs" / "command-line.md"
        if not file.exists() or (anchor and not generated and anchor not in anchors(file)):
            broken.append(link["target"])
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_each_path_in_a_document_is_that_of_a_file_or_a_folder(document: Path) -> None:
    if document.parent.name == "results":  # where things were on a day
        return
    paths = re.findall(r"`((?:src|tests|bench|tools|docs|examples)/[\w./-]+)`", prose(document))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def command_lines() -> list[tuple[str, str]]:
    """Each command in a document's shell blocks, and between backticks, that runs yoloship, and where it is."""
    lines = []
    for document in DOCUMENTS:
        if document.parent.name in {"results", "extending"}:  # what was run on a day; options of other packages
            continue
        for block in blocks(document, "sh", "bash"):
            whole = block.replace("\\\n", " ").splitlines()
            lines += [(name(document), line) for line in whole if line.startswith("yoloship ")]
        inline = re.findall(r"`(yoloship [a-z]+ [^`]+)`", prose(document))
        lines += [(name(document), line) for line in inline if "…" not in line]
    return lines


@pytest.mark.parametrize(("document", "line"), command_lines())
def test_each_command_line_in_a_document_is_one_that_the_program_takes(document: str, line: str) -> None:
    words = [word for word in shlex.split(line, comments=True) if not word.startswith(("<(", ">("))]
    for sign in ("|", ">", "&&"):
        if sign in words:
            words = words[: words.index(sign)]
    root = PROGRAM
    context = click.Context(root, info_name="yoloship")
    assert words[1] in root.list_commands(context), document
    command = root.get_command(context, words[1])
    assert command is not None
    if words[1:3] == ["triton", "check"]:  # a first word of the command, not one of the program
        command = command.make_context("triton", ["check"], resilient_parsing=True).command
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = {word.partition("=")[0] for word in words[2:] if word.startswith("-") and word != "-"}
    assert options <= known


def python_blocks() -> list[tuple[str, str]]:
    return [(name(document), block) for document in DOCUMENTS for block in blocks(document, "python")]


@pytest.mark.parametrize(("document", "block"), python_blocks())
def test_each_python_block_in_a_document_parses_and_names_what_exists(document: str, block: str) -> None:
    check_names(Block(document, "python", "check", block))


def test_the_architecture_page_has_the_order_of_the_import_contract_every_room_and_every_suite() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    order = re.search(r"## Imports point one way\n\n```text\n(.*?)```", page, re.DOTALL)
    contract = re.search(
        r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.DOTALL
    )
    assert order is not None
    assert contract is not None
    layers = re.findall(r'"(.+)"', contract[1].replace("yoloship.", ""))
    assert [layer.strip() for layer in order[1].split("→")] == [layer for layer in layers if layer != "__main__"]
    source = ROOT / "src" / "yoloship"
    rooms = {f"`{path.name}/`" for path in source.iterdir() if (path / "__init__.py").exists()}
    suites = {f"`tests/{path.relative_to(ROOT / 'tests').parts[0]}`" for path in (ROOT / "tests").glob("*/**/*.py")}
    assert {place for place in rooms | suites if place not in page} == set()
    for module, attribute in re.findall(r"`([a-z][a-z_.]+)\.([A-Z]\w+)`", page):
        assert hasattr(import_module(f"yoloship.{module}"), attribute), f"{module}.{attribute}"


@pytest.mark.parametrize(
    ("contract", "users"),
    [
        ("the onnx package in graph and precision only", {"graph", "precision"}),
        ("TensorRT in engine and runtime only", {"engine", "runtime"}),
    ],
)
def test_no_room_is_forgotten_where_a_library_is_kept_to_some_of_them(contract: str, users: set[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = project.partition(f'"{contract}"')[2].partition("]")[0]
    source = ROOT / "src" / "yoloship"
    rooms = {path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    kept = {room for room in rooms if not room.startswith("__")} - {"_version"} - users
    assert set(re.findall(r'"yoloship\.(\w+)"', listed)) == kept


def test_the_install_page_says_what_each_extra_adds() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", project, re.M | re.DOTALL)
    assert listed is not None
    extras = set(re.findall(r"^([a-z0-9]+) = \[", listed[1], re.M)) - {"docs", "dev"}
    assert (
        set(re.findall(r"^\| `([a-z0-9]+)` \|", page.partition("## Extras")[2].partition("\n## ")[0], re.M)) == extras
    )


def test_the_repository_names_no_host_of_a_package_registry() -> None:
    hosts = ["pypi" + ".org", "python" + "hosted", "npmjs" + ".com", "conda" + ".anaconda"]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    files = [ROOT / line for line in listed.stdout.splitlines()] or DOCUMENTS
    texts = [
        file for file in files if file.suffix in {".md", ".py", ".toml", ".yml", ".yaml", ".cfg"} and file.exists()
    ]
    assert [name(file) for file in texts if any(host in file.read_text(encoding="utf-8") for host in hosts)] == []
