"""Checks what works on this machine, by trying it, and finds the command that makes the rest work."""

from __future__ import annotations

from yoloship.doctor.examination import (
    CAPABILITIES,
    Capability,
    Machine,
    Report,
    TrialResult,
    examine,
    look_at_machine,
    run_trial,
)

__all__ = [
    "CAPABILITIES",
    "Capability",
    "Machine",
    "Report",
    "TrialResult",
    "examine",
    "look_at_machine",
    "run_trial",
]
