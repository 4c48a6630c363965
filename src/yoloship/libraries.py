"""Importing a library that does more at its import than it should."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import ModuleType

_TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime, without the device id that it would leave in the home folder.

    Its Linux wheels (1.32.0) write ``~/.cache/Microsoft/DeveloperTools/.onnxruntime`` when a session is made, unless a
    variable is set while the library is imported; calling `disable_telemetry_events` afterwards comes too late
    (measured). The variable is taken back, so that nothing of this process changes; one that the user has set stays.
    """
    if _TELEMETRY in os.environ:
        import onnxruntime

        return onnxruntime  # type: ignore[no-any-return]  # the package has no types
    os.environ[_TELEMETRY] = "1"
    try:
        import onnxruntime
    finally:
        os.environ.pop(_TELEMETRY, None)
    return onnxruntime  # type: ignore[no-any-return]  # the package has no types
