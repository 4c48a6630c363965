from __future__ import annotations

import os
from pathlib import Path

import pytest

from yoloship._util import cores


def machine(folder: Path, limits: dict[str, str], membership: str = "0::/pods/one\n") -> tuple[Path, Path]:
    (folder / "membership").write_text(membership)
    for group, text in limits.items():
        (folder / "cgroup" / group).mkdir(parents=True, exist_ok=True)
        (folder / "cgroup" / group / "cpu.max").write_text(text)
    return folder / "membership", folder / "cgroup"


@pytest.mark.parametrize(
    ("limits", "quota"),
    [
        ({}, None),
        ({"pods/one": "max 100000\n"}, None),
        ({"pods/one": "150000 100000\n"}, 1.5),
        ({"pods/one": "max 100000\n", "pods": "200000 100000\n"}, 2.0),
        ({"pods/one": "400000 100000\n", "pods": "50000 100000\n", ".": "300000 100000\n"}, 0.5),
        ({"pods/one": "rubbish\n", "pods": "1 0\n"}, None),
    ],
)
def test_the_smallest_quota_on_the_way_up_counts(tmp_path: Path, limits: dict[str, str], quota: float | None) -> None:
    assert cores.cgroup_quota(*machine(tmp_path, limits)) == quota


@pytest.mark.parametrize("membership", ["", "7:cpu:/old\n", "0::/../outside\n"])
def test_other_memberships_have_no_quota(tmp_path: Path, membership: str) -> None:
    limits = {"old": "100000 100000\n", ".": "100000 100000\n"}
    assert cores.cgroup_quota(*machine(tmp_path, limits, membership)) is None
    assert cores.cgroup_quota(tmp_path / "none", tmp_path) is None


def test_a_quota_rounds_up_and_never_to_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(cores, "_MEMBERSHIP", tmp_path / "none")
    assert cores.usable_cores() == 8
    for text, count in (("150000 100000", 2), ("10000 100000", 1), ("9900000 100000", 8)):
        membership, groups = machine(tmp_path, {"pods/one": text})
        monkeypatch.setattr(cores, "_MEMBERSHIP", membership)
        monkeypatch.setattr(cores, "_CGROUPS", groups)
        assert cores.usable_cores() == count


def test_affinity_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cores, "_MEMBERSHIP", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert cores.usable_cores() == 1


def test_a_quota_counts_only_if_it_is_less_than_the_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    for quota, expected in (("max 100000\n", None), ("150000 100000\n", 2), ("300000 100000\n", None)):
        membership, groups = machine(tmp_path, {"pods/one": quota})
        monkeypatch.setattr(cores, "_MEMBERSHIP", membership)
        monkeypatch.setattr(cores, "_CGROUPS", groups)
        assert cores.quota_cores() == expected
