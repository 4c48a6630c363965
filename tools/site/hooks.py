"""What the documentation site takes from elsewhere in the repository, put in place while MkDocs builds it.

- Files outside `docs/` that are pages too, such as the changelog and the reports of measurements.
- The reference of the command line, written from the parser, so that it cannot be out of date.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from html import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click
from mkdocs.structure.files import File, InclusionLevel

from yoloship.cli.app import ALIASES, PROGRAM
from yoloship.cli.command import Argument, Command

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "RELEASE.md": "releasing.md",
    "examples/README.md": "examples.md",
}
"""Files of the repository that are pages of the site as well."""

MEASUREMENTS = "bench/results"
"""The folder whose reports are pages under ``measurements/``: linked where they are quoted, not in the navigation."""

COMMANDS_HERE = "<!-- commands -->"
"""Where docs/command-line.md wants the reference."""

_LINK = re.compile(r"(?P<open>\]\()(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose files lie outside `docs/`."""
    for source, page in outside_pages().items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if page == "examples.md":
            text = with_programs(text)
        level = InclusionLevel.INCLUDED if source in PAGES else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, page, content=text, inclusion=level))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - as MkDocs calls it
    """Write the command reference into its page, and turn links between files into links between pages."""
    if COMMANDS_HERE in markdown:
        markdown = markdown.replace(COMMANDS_HERE, command_reference())
    return relinked(markdown, page.file.src_uri)


def with_programs(text: str) -> str:
    """The list of examples, with the programs themselves below it."""
    names = re.findall(r"\]\((\w+\.py)\)", text)
    text = re.sub(r"\]\((\w+)\.py\)", r"](#\1py)", text).replace("](extending)", "](../docs/extending/index.md)")
    programs = [(name, (ROOT / "examples" / name).read_text(encoding="utf-8")) for name in names]
    return text + "".join(f"\n## {name}\n\n```python\n{code}```\n" for name, code in programs)


def outside_pages() -> dict[str, str]:
    """The pages from outside `docs/`: path in the repository → path on the site."""
    reports = sorted(path.name for path in (ROOT / MEASUREMENTS).glob("*.md"))
    return PAGES | {f"{MEASUREMENTS}/{name}": f"measurements/{name}" for name in reports}


def relinked(markdown: str, page: str) -> str:
    """Turn links that are right in the repository into links that are right on the site.

    Args:
        markdown: A page's text.
        page: Its path on the site.

    Returns:
        The text. A link to a file that is not a page is left as it is, and the strict build refuses it.
    """
    sites = outside_pages()
    here = {site: source for source, site in sites.items()}.get(page, f"docs/{page}")

    def replace(link: re.Match[str]) -> str:
        if ":" in link["target"] or link["target"].startswith("/"):
            return link[0]
        target = posixpath.normpath(PurePosixPath(here).parent / link["target"])
        site = sites.get(target) or target.removeprefix("docs/")
        if site == target:  # neither a page from outside nor a file below docs/
            return link[0]
        return "](" + posixpath.relpath(site, PurePosixPath(page).parent) + (link["anchor"] or "") + ")"

    return _LINK.sub(replace, markdown)


def command_reference() -> str:
    """Every command with its arguments, options and examples, as Markdown."""
    root = PROGRAM
    context = click.Context(root, info_name="yoloship")
    names = [name for name in root.list_commands(context) if name not in ALIASES]
    return "\n".join(_section(name, root, context) for name in names)


def _section(name: str, root: click.Group, parent: click.Context) -> str:
    command = root.get_command(parent, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## yoloship {name}", "", _paragraphs(command.help or ""), "", "```text", usage, "```", ""]
    assert isinstance(command, Command)
    arguments = [one for one in command.get_params(context) if isinstance(one, Argument)]
    headings = [("Arguments", arguments), *command.sections(context)]
    lines += ['<div class="options" markdown>', "", "| option | effect |", "| --- | --- |"]
    for heading, parameters in headings:
        rows = [row for one in parameters if (row := _row(one, context))]
        lines += [f"| **{heading}** | |", *rows] if rows and len(headings) > 2 else rows
    lines += ["", "</div>", ""]
    examples = [line.strip() for line in (command.epilog or "").splitlines()[2:]]
    lines += ["```sh", *examples, "```", ""]
    return "\n".join(lines)


def _paragraphs(text: str) -> str:
    return escape(inspect.cleandoc(text), quote=False)


def _row(parameter: click.Parameter, context: click.Context) -> str | None:
    if isinstance(parameter, Argument):
        return _cells(str(parameter.metavar), parameter.explanation)
    record = parameter.get_help_record(context)
    return None if record is None or "--help" in parameter.opts else _cells(*record)


def _cells(name: str, text: str) -> str:
    effect = escape(text, quote=False).replace("|", "&#124;")
    return f"| `{name}` | {effect} |"  # a bar between backticks is not the end of a cell
