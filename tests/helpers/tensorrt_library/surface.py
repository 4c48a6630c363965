"""Prints, as JSON, what the bindings of this process have: every member of every class, with its docstring."""

from __future__ import annotations

import json
import sys
from typing import Any


def members(module: Any) -> dict[str, str]:
    """``Class.member`` with the docstring of each."""
    kinds = {name: kind for name, kind in vars(module).items() if isinstance(kind, type)}
    return {
        f"{name}.{member}": getattr(kind, member).__doc__ or ""
        for name, kind in kinds.items()
        for member in dir(kind)
        if not member.startswith("__")
    }


if __name__ == "__main__":
    import tensorrt

    json.dump(members(tensorrt), sys.stdout)
