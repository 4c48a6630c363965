"""How many cores this process may keep busy, containers and affinity included."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """The least of the machine's cores, the process's affinity, and its cgroup's processor quota, rounded up."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = cgroup_quota(_MEMBERSHIP, _CGROUPS)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def quota_cores() -> int | None:
    """`usable_cores` if a quota makes them fewer than the process's affinity allows, else None."""
    quota = cgroup_quota(_MEMBERSHIP, _CGROUPS)
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return None if quota is None or quota > cores - 1 else max(1, math.ceil(quota))


def cgroup_quota(membership: Path, cgroups: Path) -> float | None:
    """The smallest processor quota of this process's control groups, in cores.

    Args:
        membership: The process's ``/proc/PID/cgroup``.
        cgroups: Where the hierarchy is mounted.

    Returns:
        None if there is no quota, or no control groups of version 2.

    Source:
        The Linux kernel's cgroup v2 document, "CPU Interface Files": ``cpu.max`` holds the quota, or ``max``, and the
        period, in microseconds; a group's own limit holds within those of its parents.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    path = next((line[3:] for line in lines if line.startswith("0::/")), None)
    if path is None or ".." in path:
        return None
    group = PurePosixPath(path.lstrip("/"))
    quotas = []
    for place in (group, *group.parents):
        with suppress(OSError, ValueError, ZeroDivisionError):  # ``max`` is not a number either
            quota, period = (cgroups / place / "cpu.max").read_text(encoding="ascii").split()
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)
