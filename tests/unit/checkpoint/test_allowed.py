"""The allow-table: what it holds, and that it says why."""

from __future__ import annotations

import pytest

from yoloship.checkpoint.allowed import ALLOWED, RULES, find


def test_every_entry_and_rule_has_its_reason() -> None:
    assert all(entry.reason for entry in ALLOWED.values())
    assert all(rule.reason and rule.prefix.endswith(".") for rule in RULES)


def test_every_constructor_is_our_own() -> None:
    makers = {entry.make for entry in ALLOWED.values() if entry.make is not None}
    assert len(makers) > 10
    assert {make.__module__.rpartition(".")[0] for make in makers} == {"yoloship.checkpoint"}


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ALLOWED["posix.system"] = ALLOWED["torch.Size"]  # type: ignore[index]


@pytest.mark.parametrize(
    "name",
    [
        "posix.system",
        "builtins.eval",
        "__builtin__.apply",
        "torch.load",
        "torch.hub.load",
        "torch.storage._load_from_bytes",
        "torch.jit._pickle.build_intlist",
        "subprocess.Popen",
        "models.",
        "models.yolo.Model\x1b[31m",
        "models..Model",
        "",
    ],
)
def test_what_only_an_attack_brings_and_what_is_not_a_name_is_not_found(name: str) -> None:
    assert find(name) is None


def test_a_class_by_rule_can_be_instantiated_but_has_nothing_to_call() -> None:
    found = find("models.common.C3")
    assert found is not None
    assert found.instantiable
    assert found.make is None
    assert not found.foreign


@pytest.mark.parametrize("name", ["modelsx.yolo.Model", "torch.nnx.Module", "torch.optim.sgd.SGD", "__main__.Config"])
def test_what_is_not_in_the_table_is_foreign(name: str) -> None:
    found = find(name)
    assert found is not None
    assert found.foreign
    assert found.make is None
