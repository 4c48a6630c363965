"""One suite over every family, each of its heads and each output form: what is written is what its task reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from helpers.samples import sample
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.graph.families import FAMILIES, family_of
from yoloship.model import FASTEST, STANDARD, WORD
from yoloship.results.detections import Detections
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.tasks import TASKS, form_of, task_of

if TYPE_CHECKING:
    from yoloship.checkpoint import Checkpoint
    from yoloship.graph.families.family import Family

HEADS = [(name, task) for name in FAMILIES.own for task in sorted(set(FAMILIES.load(name)().tasks().values()))]
FORMS = [
    (name, task, form)
    for name, task in HEADS
    if (head := FAMILIES.load(name)().head_for(task)) is not None
    for form in head.forms
]
HW = (64, 96)
IMAGE = np.random.default_rng(3).integers(0, 256, (*HW, 3), np.uint8)
OPTIONS = DetectOptions(score_threshold=0.3, iou_threshold=0.5)


@pytest.fixture(params=list(FAMILIES.own))
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES.load(request.param)()


def result(network: Checkpoint, config: GraphConfig, image: Any = IMAGE) -> Any:
    data = graph_bytes(build_graph(network, config))
    options = None if config.nms or not TASKS.load(network.task)().options else OPTIONS
    with Detector(OnnxRuntimeSession.open(data), options=options) as detector:
        return detector(image)


def test_a_family_says_who_it_is(family: Family) -> None:
    assert FAMILIES.own[family.name].endswith(f":{type(family).__name__}")
    assert WORD.fullmatch(family.name)
    assert family.title
    assert family.models
    assert family.heads


@pytest.mark.parametrize(("name", "task"), HEADS)
def test_a_network_belongs_to_its_family_and_to_no_other(name: str, task: str) -> None:
    network = sample(name, task)
    assert network.task == task
    assert [other for other in FAMILIES.own if FAMILIES.load(other)().owns(network.module)] == [name]
    assert family_of(network).name == name


@pytest.mark.parametrize(("name", "task"), HEADS)
def test_a_network_of_another_class_is_refused_by_name(name: str, task: str) -> None:
    network = sample(name, task)
    other = replace(network, module=replace(network.module, class_path="acme.nets.Net"))
    with pytest.raises(
        GraphError, match=r"acme\.nets\.Net.*is not the model of an official .* --alias acme\.nets\.Net="
    ):
        family_of(other)


@pytest.mark.parametrize(("name", "task"), HEADS)
def test_a_head_and_its_task_speak_of_the_same_forms(name: str, task: str) -> None:
    head = FAMILIES.load(name)().head_for(task)
    assert head is not None
    known = TASKS.load(task)()
    forms = {form.name: form for form in known.forms}
    assert set(head.forms) <= set(forms)
    assert head.forms[0] == known.standard.name
    assert head.fastest in head.forms
    assert {form for form in head.forms if forms[form].suppresses} == ({head.suppressed} - {None})


@pytest.mark.parametrize(("name", "task"), HEADS)
def test_the_record_names_the_family_the_task_and_a_real_form(name: str, task: str) -> None:
    network = sample(name, task)
    for wanted in (STANDARD, FASTEST):
        info = model_info(network, GraphConfig(HW, output_form=wanted))
        assert (info.family, info.task) == (name, task)
        assert form_of(info, "m") in task_of(info, "m").forms


@pytest.mark.parametrize(("name", "task", "form"), FORMS)
@pytest.mark.parametrize("hw", [HW, None], ids=["fixed", "dynamic"])
def test_a_graph_declares_what_the_record_promises(name: str, task: str, form: str, hw: tuple[int, int] | None) -> None:
    config = GraphConfig(hw, output_form=form, input_form="image")
    model = build_graph(sample(name, task), config)
    onnx.checker.check_model(model, full_check=True)
    with OnnxRuntimeSession.open(graph_bytes(model)) as session:
        info = model_info(sample(name, task), config)
        task_of(info, "m").check(session.outputs, info, "m")


@pytest.mark.parametrize(("name", "task", "form"), FORMS)
def test_every_form_gives_the_result_of_the_standard_form(name: str, task: str, form: str) -> None:
    """With everything that each form bakes in being what the others are told."""
    network = sample(name, task)
    plain = GraphConfig(HW, input_form="image")
    want = result(network, plain)
    assert len(want), "the sample finds nothing, so that nothing is compared"
    head = FAMILIES.load(name)().head_for(task)
    assert head is not None
    if form == head.suppressed:
        from yoloship.model import NmsConfig

        baked = NmsConfig(OPTIONS.score_threshold, OPTIONS.iou_threshold, OPTIONS.max_detections, 2000, 64)
        found = result(network, replace(plain, output_form=form, nms=baked))
    else:
        found = result(network, replace(plain, output_form=form))
    assert len(found) == len(want)
    if not isinstance(want, Detections):
        assert found == want
        return
    assert found.class_ids.tolist() == want.class_ids.tolist()
    np.testing.assert_allclose(found.boxes_xyxy, want.boxes_xyxy, atol=0.02)
    np.testing.assert_allclose(found.scores, want.scores, atol=1e-4)
