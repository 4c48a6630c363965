"""Whether a release names one version everywhere: the tag, `_version.py` and the top entry of the changelog.

    python tools/release/versions.py v0.2.0

Exit code 1 and one line if they differ. It needs no installed package.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def package_version() -> str:
    """The version in `_version.py`."""
    text = (ROOT / "src" / "yoloship" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        sys.exit('_version.py has no line __version__ = "…"')
    return found[1]


def changelog_version() -> str:
    """The top entry of the changelog: a version with its date, or ``Unreleased``."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(r"^## (.+)$", text, re.MULTILINE)
    if found is None:
        sys.exit("CHANGELOG.md has no entry")
    released = re.fullmatch(r"(\S+) \(\d{4}-\d{2}-\d{2}\)", found[1])
    return released[1] if released else found[1]


def difference(tag: str) -> str | None:
    """What keeps this tag from being a release, or None."""
    version, entry = package_version(), changelog_version()
    if tag != f"v{version}":
        return f"the tag is {tag}, and _version.py says {version}"
    if entry != version:
        return f"_version.py says {version}, and the top entry of CHANGELOG.md is {entry!r}"
    return None


if __name__ == "__main__":
    sys.exit(difference(sys.argv[1]))
