from __future__ import annotations

import pytest

from yoloship.cli.tracking import PRESET_NAMES, with_preset
from yoloship.tracking.presets import PRESETS


def test_the_names_are_those_of_the_presets() -> None:
    assert tuple(PRESETS) == PRESET_NAMES


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("best.pt a.mp4", "best.pt a.mp4"),
        ("best.pt a.mp4 --track", "best.pt a.mp4 --track=yoloship"),
        ("best.pt --track a.mp4", "best.pt --track=yoloship a.mp4"),
        ("best.pt --track paper a.mp4", "best.pt --track=paper a.mp4"),
        ("best.pt --track ./paper", "best.pt --track=yoloship ./paper"),
        ("best.pt --track=paper a.mp4", "best.pt --track=paper a.mp4"),
        ("best.pt --track --zones z.yaml a.mp4", "best.pt --track=yoloship --zones z.yaml a.mp4"),
        ("best.pt --track -- paper", "best.pt --track=yoloship -- paper"),
        ("best.pt -- --track paper", "best.pt -- --track paper"),
        ("best.pt -- a.mp4 --track", "best.pt -- a.mp4 --track"),
        ("--track trackers --track paper x", "--track=trackers --track=paper x"),
        ("", ""),
    ],
)
def test_a_preset_may_follow_and_anything_else_is_a_source(given: str, taken: str) -> None:
    assert with_preset(given.split()) == taken.split()
