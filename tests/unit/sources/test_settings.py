from __future__ import annotations

import dataclasses

import pytest

from yoloship.sources import AddressRules, SourceOptions


def test_addresses_are_strict_unless_something_is_allowed() -> None:
    rules = SourceOptions().addresses
    assert rules == AddressRules()
    assert not rules.allow_http
    assert not rules.allow_private


def test_options_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SourceOptions().recursive = True  # type: ignore[misc]
