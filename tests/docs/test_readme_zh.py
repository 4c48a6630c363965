"""The Chinese README says what the English one says: the same commands, code, figures and pages."""

from __future__ import annotations

import re
from pathlib import Path

from helpers.doc_blocks import fenced

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"


def test_both_have_the_same_blocks() -> None:
    english, chinese = ([(language, code) for _, _, language, code in fenced(page)] for page in (ENGLISH, CHINESE))
    assert english == chinese


def test_both_have_the_same_figures_and_commands() -> None:
    texts = [page.read_text(encoding="utf-8") for page in (ENGLISH, CHINESE)]
    figures, code = ([set(re.findall(pattern, text)) for text in texts] for pattern in (r"\d[\d.]*\d", r"`([^`\n]+)`"))
    assert figures[0] == figures[1]
    assert code[0] == code[1]
