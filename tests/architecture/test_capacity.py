"""The simulations of docs/capacity.md use the server's own rules, agree with each other, and bear its rule out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from yoloship.serve.engine import ModelHost

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        yield import_module("_server_model")
    finally:
        sys.path.remove(str(ROOT / "bench"))


def small(model: ModuleType, **changes: Any) -> Any:
    return replace(model.Server(0.035, 0.0, (1,), runs=2, cores=2, decode_s=0.007), **changes)


def test_room_slots_and_batch_are_those_of_the_server(model: ModuleType) -> None:
    server = model.Server(0.0016, 0.002, (1, 4, 16, 32), runs=4, cores=16, decode_s=0.006)
    host: ModelHost = server.host()
    assert server.batch == host.batch == 16
    assert server.rate == pytest.approx(host.rate)
    assert server.room == host.admission.room == 4 * (4 * 16 + 16)
    assert server.slots == 4 * 16 + 16
    assert small(model).room == 32
    assert small(model, queue=100).room == 100


@pytest.mark.parametrize(
    ("kind", "load"),
    [("one image a run", 0.5), ("one image a run", 0.8), ("batches", 0.5), ("batches", 0.8)],
)
def test_the_simulation_in_arrays_agrees_with_the_one_by_events(model: ModuleType, kind: str, load: float) -> None:
    fleet = import_module("_fleet")
    batches = model.Server(0.0016, 0.002, (1, 4, 16, 32), runs=4, cores=16, decode_s=0.006)
    server = batches if kind == "batches" else small(model)
    rate = load * server.rate
    exact = model.simulate(server, 1, model.poisson(rate, 12_000 / rate, 1, seed=3))
    arrays = fleet.simulate_rows(server, fleet.Day.steady(rate, 150_000 / rate), 150_000 / rate, 1, rows=300)
    assert len(exact.latencies_s) > 11_500
    assert arrays.images == pytest.approx(150_000, rel=0.02)
    for share, tolerance in ((0.5, 0.08), (0.9, 0.12), (0.99, 0.2)):
        assert arrays.percentile(share) == pytest.approx(exact.percentile(share), rel=tolerance), share
    assert arrays.images / arrays.runs == pytest.approx(len(exact.latencies_s) / len(exact.runs), rel=0.12)
    assert (exact.refused, arrays.without_room) == (0, 0)


def test_more_than_the_server_can_answer_is_refused(model: ModuleType) -> None:
    server = small(model)
    found = model.simulate(server, 1, model.poisson(3 * server.rate, 60, 1, seed=1))
    answered = len(found.latencies_s)
    assert answered / 60 == pytest.approx(server.rate, rel=0.05)
    assert found.refused == pytest.approx(2 * answered, rel=0.1)
    assert found.percentile(1) < (server.room + 3) / server.rate + 0.05


def test_the_rule_is_enough_and_one_server_fewer_is_not(model: ModuleType) -> None:
    fleet = import_module("_fleet")
    server, wanted, rate = small(model, queue=128), model.Wanted(0.5), 1000.0
    number = model.servers_needed(server, rate, wanted)
    day = fleet.Day.steady(rate, 400)
    assert fleet.simulate_rows(server, day, 400, number, rows=2000).is_good(wanted)
    assert not fleet.simulate_rows(server, day, 400, number - 1, rows=2000).is_good(wanted)


def test_a_target_that_no_number_of_servers_meets_is_refused(model: ModuleType) -> None:
    with pytest.raises(ValueError, match="the target is too short"):
        model.most_load(small(model), model.Wanted(0.045))
    with pytest.raises(ValueError, match=r"the room .* is too small"):
        model.most_load(small(model, queue=4), model.Wanted(0.5))


def test_the_numbers_of_the_page_are_those_of_the_rule(model: ModuleType) -> None:
    text = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
    server = small(model, queue=128)
    share = model.most_load(server, model.Wanted(0.5))
    rows = re.findall(r"^\| ([\d,]+) a day \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", text, re.MULTILINE)
    assert len(rows) == 4
    gpu = model.Server(0.0016, 0.002, (1, 4, 16, 32), runs=4, cores=16, decode_s=0.006)
    for images, peak, servers, gpus in ((int(word.replace(",", "")) for word in found) for found in rows):
        assert peak == round(2 * images / 86400)
        assert servers == model.servers_needed(server, 2 * images / 86400, model.Wanted(0.5))
        assert gpus == model.servers_needed(gpu, 2 * images / 86400, model.Wanted(0.1))
    assert f"ρ = {share:.2f}" in text
    for cameras, fps, needed in re.findall(
        r"^\| (\d+) cameras at (\d+) a second \|[^|]*\| (\d+) \|", text, re.MULTILINE
    ):
        each = model.cameras_per_server(small(model), float(fps), model.Wanted(0.5))
        assert int(needed) == -(-int(cameras) // each)
