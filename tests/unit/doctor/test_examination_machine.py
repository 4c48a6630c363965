from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship._util import cores
from yoloship.doctor import examination as machine

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_doctor_counts_cores_as_loading_a_model_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    membership, groups = tmp_path / "cgroup", tmp_path / "groups"
    groups.mkdir()
    membership.write_text("0::/\n")
    (groups / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(cores, "_MEMBERSHIP", membership)
    monkeypatch.setattr(cores, "_CGROUPS", groups)
    assert machine.look_at_machine().cores == cores.usable_cores() == 2
