"""The names of output forms, and what a row holds, are known where heads are written and where tasks read them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from helpers.source_code import FILES as ALL_FILES
from helpers.source_code import SOURCE, nodes
from yoloship.tasks import all_forms

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOMS = ("tasks/", "graph/heads/")
"""Where they live."""
FORMS = frozenset(all_forms())
ALLOWED = {
    ("graph/config.py", "nms"): "the field `GraphConfig.nms`, in a message",
    ("engine/file.py", "raw"): "what a record of ours says of an engine that another exporter wrote",
    ("model.py", "nms"): "a field of the record, `ModelInfo.nms`, not the form of that name",
    ("cuda/postprocess.py", "nms"): "the name of a kernel in nms.cu",
    ("cuda/compiler.py", "nms"): "the name of a kernel in nms.cu",
    ("graph/passes/suppression.py", "nms"): "how the nodes of suppression are named in a graph",
    ("checkpoint/traits.py", "5 +"): "what the head of a file itself says, told apart before any family is asked",
    ("serve/kserve_models.py", "end2end"): "a key of the metadata that Ultralytics' client reads",
}
"""A word in another file, and why it is not the name of a form there."""
FILES = sorted(
    path.relative_to(SOURCE).as_posix()
    for path in ALL_FILES
    if not path.relative_to(SOURCE).as_posix().startswith(ROOMS)
)


def words_in(tree: Iterable[ast.AST]) -> list[tuple[str, int]]:
    """Each use of a word, with its line: the name of a form, a task or a family compared, or columns counted."""
    found = []
    for node in tree:
        match node:
            case ast.Constant(value=str(word)) if word in FORMS:
                found.append((word, node.lineno))
            case ast.BinOp(ast.Constant(value=5), ast.Add() | ast.Sub(), other) | ast.BinOp(
                other, ast.Add() | ast.Sub(), ast.Constant(value=5)
            ) if any(word in ast.unparse(other) for word in ("class", "names", "raw.shape")):
                found.append(("5 +", node.lineno))
            case ast.Compare(left=left, comparators=[right, *_]):
                for side, other in ((left, right), (right, left)):
                    name = getattr(side, "attr", getattr(side, "id", None))
                    if name in {"output_form", "task", "family"} and isinstance(other, ast.Constant) and other.value:
                        found.append((f"{name} == {other.value!r}", node.lineno))
    return found


@pytest.mark.parametrize("file", FILES)
def test_nobody_else_names_an_output_form_or_counts_the_columns_of_a_row(file: str) -> None:
    used = words_in(nodes(SOURCE / file))
    assert [(word, line) for word, line in used if (file, word) not in ALLOWED] == []


def test_what_is_allowed_is_still_there() -> None:
    for file, word in ALLOWED:
        assert word in {used for used, _ in words_in(nodes(SOURCE / file))}, (file, word)


@pytest.mark.parametrize(
    "source",
    [
        "if info.output_form == 'final': pass",
        "form = 'heads'",
        "columns = 5 + len(names)",
        "classes = raw.shape[2] - 5",
        "if info.task != 'segment': pass",
        "if 'yolov8' == info.family: pass",
    ],
)
def test_a_use_is_found(source: str) -> None:
    assert words_in(ast.walk(ast.parse(source)))
