"""The documentation site: it builds without a warning, loads nothing from elsewhere, and knows every option."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import click
import pytest

from helpers.shared import IN_CI
from yoloship.cli.app import ALIASES, PROGRAM

if IN_CI:
    import_module("mkdocs")
else:
    pytest.importorskip("mkdocs")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hooks() -> Any:
    spec = spec_from_file_location("site_hooks", ROOT / "tools" / "site" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_builds_without_a_warning_and_its_pages_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    pages = sorted(tmp_path.rglob("*.html"))
    assert {"index.html", "api.html", "command-line.html", "changelog.html", "examples.html"} <= {
        page.name for page in pages
    }
    loading = re.compile(r'<(?:script|img|iframe|link rel="stylesheet")[^>]*(?:src|href)="(?:https?:)?//')
    assert [page.name for page in pages if loading.search(page.read_text(encoding="utf-8"))] == []


def test_the_command_reference_has_every_argument_option_and_example(hooks: Any) -> None:
    reference = hooks.command_reference()
    root = PROGRAM
    context = click.Context(root, info_name="yoloship")
    for name in root.list_commands(context):
        if name in ALIASES:
            continue
        command = root.get_command(context, name)
        assert command is not None
        section = reference.partition(f"## yoloship {name}\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            if getattr(parameter, "hidden", False):
                continue
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("-") and option not in {"-h", "--help"}:
                    assert re.search(rf"^\| `[^`]*{re.escape(option)}\b", section, re.MULTILINE), (name, option)
        for example in (command.epilog or "").splitlines()[2:]:
            assert example.strip() in section


@pytest.mark.parametrize(
    ("page", "link", "on_the_site"),
    [
        ("install.md", "[a](../CONTRIBUTING.md)", "[a](contributing.md)"),
        ("extending/index.md", "[a](../../ARCHITECTURE.md#rooms)", "[a](../architecture.md#rooms)"),
        ("performance.md", "[a](../bench/results/cpu-2026-11-23.md)", "[a](measurements/cpu-2026-11-23.md)"),
        ("architecture.md", "[a](docs/gpu.md#how-fast)", "[a](gpu.md#how-fast)"),
        ("examples.md", "[a](../docs/extending/index.md)", "[a](extending/index.md)"),
        ("index.md", "[a](../examples/README.md)", "[a](examples.md)"),
        ("gpu.md", "![a](demo.jpg)", "![a](demo.jpg)"),
        ("gpu.md", "[a](https://semver.org/)", "[a](https://semver.org/)"),
        ("gpu.md", "[a](../src/yoloship/kinds.py)", "[a](../src/yoloship/kinds.py)"),
    ],
)
def test_a_link_between_files_becomes_a_link_between_pages(hooks: Any, page: str, link: str, on_the_site: str) -> None:
    assert hooks.relinked(link, page) == on_the_site
