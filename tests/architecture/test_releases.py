"""Releases: one version everywhere, and workflows that parse, have few rights and run what `.ci/run` runs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import yoloship
from helpers.shared import IN_CI

yaml: Any = import_module("yaml") if IN_CI else pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ROOT / "tools" / "release" / "versions.py"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SETTINGS = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"])


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_newest_released_entry_of_the_changelog_is_the_version_of_the_package() -> None:
    entries = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [entry for entry in entries if entry != "Unreleased"]
    assert re.fullmatch(rf"{re.escape(yoloship.__version__)} \(\d{{4}}-\d{{2}}-\d{{2}}\)", released[0])
    assert entries.count("Unreleased") <= 1
    assert "Unreleased" not in entries[1:]


def test_a_release_is_refused_if_the_tag_or_the_changelog_names_another_version() -> None:
    ran = subprocess.run([sys.executable, VERSIONS, "v9.9.9"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr == f"the tag is v9.9.9, and _version.py says {yoloship.__version__}\n"

    top = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    tag = f"v{yoloship.__version__}"
    ran = subprocess.run([sys.executable, VERSIONS, tag], capture_output=True, text=True, check=False)
    assert ran.returncode == (1 if top == "Unreleased" else 0)
    assert ("the top entry of CHANGELOG.md is 'Unreleased'" in ran.stderr) == (top == "Unreleased")


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SETTINGS, ids=name)
def test_each_settings_file_of_the_repository_is_yaml_with_something_in_it(path: Path) -> None:
    assert isinstance(loaded(path), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_each_workflow_has_few_rights_a_time_limit_and_actions_pinned_by_commit(path: Path) -> None:
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job, settings in workflow["jobs"].items():
        assert settings["timeout-minutes"] <= 60, job
        for step in settings["steps"]:
            assert ("uses" in step) != ("run" in step), step
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"]), step


def test_the_workflows_run_what_ci_runs_on_each_python_that_the_package_names() -> None:
    jobs = loaded(ROOT / ".github" / "workflows" / "check.yml")["jobs"]
    commands = "\n".join(step["run"] for job in jobs.values() for step in job["steps"] if "run" in step)
    for command in ("ruff check", "ruff format --check", "mypy", "lint-imports", "mkdocs build --strict", "pytest"):
        assert command in commands
        assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8") + (ROOT / "README.md").read_text("utf-8")
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert jobs["tests"]["strategy"]["matrix"]["python"] == classifiers
