"""One suite over every task: what the rest of yoloship relies on, whatever a model answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers.cli import run as run_program
from helpers.plugins import install
from helpers.samples import sample
from yoloship.detect.detector import Defaults, Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError, SessionError, YoloshipError
from yoloship.evaluate.verification import verify
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.graph.families import FAMILIES
from yoloship.letterbox import Letterbox
from yoloship.model import METADATA_KEY, WORD, ModelInfo, TensorSpec
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks import TASKS, all_forms, task_of
from yoloship.tasks.task import Form, Task

HW = (64, 96)
EXAMPLE = Path(__file__).parents[2] / "examples" / "extending" / "task" / "yoloship_tags.py"


@pytest.fixture(params=list(TASKS.own))
def task(request: pytest.FixtureRequest) -> Task[Any, Any]:
    return TASKS.load(request.param)()


def run(task: Task[Any, Any], form: str) -> tuple[ModelInfo, tuple[TensorSpec, ...], list[Any]]:
    """A sample's record, the outputs that its graph declares, and what they are for two images of noise."""
    family = next(
        name
        for name in FAMILIES.own
        if (head := FAMILIES.load(name)().head_for(task.name)) is not None and form in head.forms
    )
    network, config = sample(family, task.name), GraphConfig(HW, batch=2, output_form=form)
    with OnnxRuntimeSession.open(graph_bytes(build_graph(network, config))) as session:
        feed = np.random.default_rng(5).random((2, 3, *HW), np.float32)
        outputs = list(session.run({session.inputs[0].name: feed}))
        return model_info(network, config), session.outputs, outputs


def read(form: Form[Any], arrays: list[Any], outputs: tuple[TensorSpec, ...], info: ModelInfo) -> list[Any]:
    """Those outputs that a form reads."""
    return [arrays[place] for place in form.places(outputs, info)]


def test_a_task_says_what_it_is(task: Task[Any, Any]) -> None:
    assert WORD.fullmatch(task.name)
    assert "model" in task.title.split()
    assert len(task.noun) == 2
    assert task.measure


def test_its_forms_have_names_of_their_own_and_the_first_is_the_standard(task: Task[Any, Any]) -> None:
    names = [form.name for form in task.forms]
    assert len(set(names)) == len(names)
    assert all(WORD.fullmatch(name) for name in names)
    assert all(form.description for form in task.forms)
    assert task.standard is task.forms[0]
    assert not task.standard.suppresses
    assert set(names) <= set(all_forms())


def test_some_family_has_a_head_for_it(task: Task[Any, Any]) -> None:
    assert any(FAMILIES.load(name)().head_for(task.name) for name in FAMILIES.own)


def test_an_unknown_form_is_refused_with_those_that_there_are(task: Task[Any, Any]) -> None:
    with pytest.raises(SessionError, match=f"no such output form: expected {task.standard.name}.*got nothing"):
        task.form("nothing", "m.onnx")


def test_every_form_decodes_each_image_of_a_batch(task: Task[Any, Any]) -> None:
    letterbox = Letterbox.fixed((128, 192), HW)
    options = DetectOptions(score_threshold=0.3)
    for form in task.forms:
        info, outputs, arrays = run(task, form.name)
        task.check(outputs, info, "m.onnx")
        before = [array.copy() for array in arrays]
        answers = form.decode(read(form, arrays, outputs, info), info, HW, options.score_threshold)
        assert len(answers) == 2
        for answer in answers:
            first = task.to_result(task.suppress(answer, options, None), letterbox, info.class_names)
            assert first == task.to_result(task.suppress(answer, options, None), letterbox, info.class_names)
        for array, kept in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, kept)  # nobody writes into what the session gave


def test_outputs_that_are_not_as_promised_are_an_error_of_ours(task: Task[Any, Any]) -> None:
    for form in task.forms:
        info, outputs, arrays = run(task, form.name)
        with pytest.raises(SessionError):
            form.decode([array.reshape(-1) for array in read(form, arrays, outputs, info)], info, HW, 0.25)
        with pytest.raises(YoloshipError):
            task.check((), info, "m.onnx")
        with pytest.raises(YoloshipError):
            task.check(outputs, replace(info, output_form="nothing"), "m.onnx")


def test_cells_are_every_cell_of_the_first_image_or_nothing(task: Task[Any, Any]) -> None:
    counts = set()
    for form in task.forms:
        info, outputs, arrays = run(task, form.name)
        cells = form.cells(read(form, arrays, outputs, info), info)
        if cells is not None:
            boxes, scores = cells
            assert boxes.shape == (len(scores), 4)
            counts.add(len(scores))
    assert len(counts) <= 1, "forms differ in how many cells they have"


def test_the_table_leads_to_tasks_of_the_names_that_it_has(task: Task[Any, Any]) -> None:
    assert isinstance(task, Task)
    assert all(isinstance(form, Form) for form in task.forms)
    info, _, _ = run(task, task.standard.name)
    assert type(task_of(info, "m.onnx")) is type(task)


def tagging_session() -> ScriptedSession:
    """Two tags for each image, of the task that the worked example adds."""
    record = ModelInfo("tag", "acme", ("bright", "dark"), (32,), (), "float", "scores", HW, 1)
    return ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW))],
        [TensorSpec("scores", "float32", (1, 2))],
        lambda _: [np.array([[0.75, 0.25]], np.float32)],
        metadata={METADATA_KEY: record.to_json()},
    )


def test_a_task_of_an_installed_package_runs_and_what_needs_boxes_refuses_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = EXAMPLE.read_text(encoding="utf-8")
    place = {"tag": f"{EXAMPLE.stem}:TagImages"}
    install(monkeypatch, tmp_path, TASKS.group, place, modules={EXAMPLE.stem: source})
    image = np.zeros((*HW, 3), np.uint8)
    with Detector(tagging_session(), model_name="tags.onnx") as detector:
        result: Any = detector(image, score_threshold=0.5)
        assert result.scores == {"bright": 0.75}
        with pytest.raises(InputError, match=r"is a tagging model: expected a detection model; 'yoloship predict'"):
            Detector.over(detector._pipeline, Defaults(task="detect"))
        with pytest.raises(
            InputError,
            match=r"a: gives tags, which cannot be compared yet: expected a detection model, "
            r"got a tagging model, which is judged by mAP",
        ):
            verify(("a", detector), ("b", detector), [image])


def test_the_command_line_runs_models_of_a_task_of_another_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = EXAMPLE.read_text(encoding="utf-8")
    place = {"tag": f"{EXAMPLE.stem}:TagImages"}
    install(monkeypatch, tmp_path / "installed", TASKS.group, place, modules={EXAMPLE.stem: source})
    monkeypatch.setattr("yoloship.models.loading.load", lambda *_, **__: Detector(tagging_session()))
    tags = tmp_path / "tags.onnx"
    tags.write_bytes(b"is not read")
    image = tmp_path / "grey.png"
    cv2.imwrite(str(image), np.full((*HW, 3), 128, np.uint8))
    csv, json = tmp_path / "tags.csv", tmp_path / "tags.json"
    ran = run_program("predict", tags, image, "-o", tmp_path / "drawn", "--csv", csv, "--json", json, "--conf", "0.5")
    assert ran.code == 0, ran.error
    assert "bright" in ran.out
    assert '"bright",0.75,"","","",""' in csv.read_text(encoding="utf-8")
    assert '"tags": {"bright": 0.75}' in json.read_text(encoding="utf-8")
    assert (tmp_path / "drawn" / "grey.png").is_file()
    ran = run_program("predict", tags, image, "--no-draw", "--txt", tmp_path / "labels")
    assert ran.code == 1
    assert "is a tagging model, which has no boxes for --txt" in ran.error
