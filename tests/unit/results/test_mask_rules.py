"""Which version of the official tools makes masks by which rule."""

from __future__ import annotations

import pytest

from yoloship.results.mask_rules import MASK_RULES, NEWEST_RULE, rule_of


@pytest.mark.parametrize(
    ("version", "rule"),
    [
        ("8.0.43", "yolov5"),
        ("8.2.42", "yolov5"),
        ("8.2.43", "ultralytics-8.2.43"),
        ("8.3.63", "ultralytics-8.2.43"),
        ("8.3.84", "ultralytics-8.3.84"),
        ("8.4.60", "ultralytics-8.3.84"),
        ("8.4.61", "ultralytics-8.4.61"),
        ("8.4.190", "ultralytics-8.4.61"),
        ("9.0.0", "ultralytics-8.4.61"),
        ("8.0.43.dev1", "yolov5"),
    ],
)
def test_a_version_has_the_rule_that_began_with_it_or_before(version: str, rule: str) -> None:
    assert rule_of(version) == rule


@pytest.mark.parametrize("version", [None, "", "dev", 8, "8.4", "9" * 40])
def test_what_is_not_a_version_has_the_newest_rule(version: object) -> None:
    assert rule_of(version) == NEWEST_RULE == list(MASK_RULES)[-1]


def test_probabilities_are_compared_with_a_half_and_logits_with_zero() -> None:
    assert {rule.limit for rule in MASK_RULES.values() if rule.squashes} == {0.5}
    assert {rule.limit for rule in MASK_RULES.values() if not rule.squashes} == {0.0}
