"""The help of ``yoloship predict`` has each option once, under the heading of what it is about."""

from __future__ import annotations

import click

from yoloship.cli.predict import predict
from yoloship.cli.predict_help import OTHERS, OUTPUTS, SECTIONS, sections
from yoloship.sinks import SINKS


def shown() -> dict[str, list[str]]:
    options = [one for one in predict.params if isinstance(one, click.Option)]
    return {heading: [one.opts[-1] for one in placed] for heading, placed in sections(options)}


def test_every_option_has_its_place_in_the_table_or_is_of_a_sink() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert len(set(listed)) == len(listed)
    sinks = {SINKS.load(name).option[-1] for name in SINKS.own}
    assert {name for names in shown().values() for name in names} == set(listed) | sinks


def test_general_options_are_few_and_come_last() -> None:
    assert list(shown())[-1] == OTHERS
    assert shown()[OTHERS] == ["--quiet", "--help"]


def test_sinks_follow_the_folder_for_images_before_the_options_of_drawing() -> None:
    names = shown()[OUTPUTS]
    assert names[: len(SINKS.own)] == [SINKS.load(name).option[-1] for name in SINKS.own]
    assert names[len(SINKS.own)] == "--draw"


def test_an_option_of_another_package_is_among_the_outputs() -> None:
    other = click.Option(["--counts", "sink_counts"])
    assert dict(sections([*predict.params, other]))[OUTPUTS][len(SINKS.own)] is other
