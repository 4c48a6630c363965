"""What a server says about a model is believed only as far as it makes sense."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.canned_server import answer_of, canned
from helpers.serving import cat_model
from yoloship import load
from yoloship.errors import SessionError
from yoloship.kserve import Client, RemoteError
from yoloship.model import METADATA_KEY
from yoloship.triton.remote import RemoteSession, client_names, describe, open_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.detect.detector import Detector

META = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [
        {"name": "y", "datatype": "FP32", "shape": ["-1", 2]},
        {"name": "n", "datatype": "INT32", "shape": [-1, 1]},
    ],
}  # fmt: skip
CONFIG = {
    "output": [{"name": "y"}, {"name": "n", "reshape": {"shape": []}}],
    "parameters": {"a": {"string_value": "text"}, "b": {"number": 1}},
}
PATH = "/v2/models/m"
Y, N = np.array([[1, 2]], np.float32), np.array([[7]], np.int32)


def test_a_server_that_sends_garbage_is_named() -> None:
    broken = "its answer is broken: the JSON is not valid"
    with (
        canned({PATH: b"garbage"}) as url,
        Client(url) as client,
        pytest.raises(SessionError, match=f"{url}: {broken}"),
    ):
        describe(client, "m")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detector]:
    with load(cat_model(tmp_path_factory.mktemp("cat"))) as detector:
        yield detector


def test_a_model_is_described_by_its_metadata_and_its_configuration() -> None:
    with canned({PATH: META, f"{PATH}/config": CONFIG}) as url, Client(url) as client:
        served = describe(client, "m")
    assert [str(one) for one in served.inputs] == ["x float32(batch, 3)"]
    assert [str(one) for one in served.outputs] == ["y float32(batch, 2)", "n int32(batch, 1)"]
    assert dict(served.parameters) == {"a": "text"}
    assert served.flat == {"n"}
    assert not served.is_ours


@pytest.mark.parametrize("config", [[], {"parameters": []}, {"parameters": {"a": 1}}, {"output": 3}, {"output": [1]}])
def test_a_configuration_that_says_nothing_is_no_error(config: Any) -> None:
    with canned(
        {PATH: META, f"{PATH}/config": {"config": config, **(config if isinstance(config, dict) else {})}}
    ) as url:
        assert describe(Client(url), "m").parameters == {}
    with canned({PATH: META}) as url:
        assert describe(Client(url), "m").parameters == {}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "says no inputs of the model"),
        ({**META, "outputs": "y"}, "says no outputs of the model"),
        ({**META, "outputs": [7]}, "its outputs are not described: got 7"),
        ({**META, "inputs": [{"name": "x", "datatype": "FP8", "shape": [1]}]}, "its inputs are not described"),
        ({**META, "inputs": [{"name": "x", "datatype": [], "shape": [1]}]}, "its inputs are not described"),
        ({**META, "inputs": [{"name": "x", "datatype": "FP32", "shape": [1] * 9}]}, "its inputs are not described"),
        ({**META, "inputs": [{"name": "x", "datatype": "FP32", "shape": [-2]}]}, "a shape is not one: got -2"),
        ({**META, "inputs": [{"name": "x", "datatype": "FP32", "shape": [1.5]}]}, "a shape is not one: got 1.5"),
        ({**META, "inputs": [{"name": "x", "datatype": "FP32", "shape": [True]}]}, "a shape is not one: got True"),
        ({**META, "inputs": [{"name": "x", "datatype": "FP32", "shape": ["9" * 99]}]}, "a shape is not one"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(said: Any, message: str) -> None:
    with canned({PATH: said}) as url, Client(url) as client, pytest.raises(SessionError, match=message):
        describe(client, "m")


def session(url: str, client: Client) -> RemoteSession:
    return RemoteSession(client, describe(client, "m"), {})


def test_a_network_is_run_and_an_axis_that_only_the_server_has_is_left_out() -> None:
    answers = {PATH: META, f"{PATH}/config": CONFIG}
    with canned(answers, lambda _: answer_of({"y": Y, "n": N})) as url, Client(url) as client:
        y, n = session(url, client).run({"x": np.zeros((1, 3), np.float32)})
    assert y.tolist() == [[1, 2]]
    assert n.tolist() == [7]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full((1, 2), np.nan, np.float32), "its answer has a wrong y: expected numbers, got NaN"),
        (np.zeros((1, 3), np.float32), r"its answer has a wrong y: expected float32\(batch, 2\), got float32\(1, 3\)"),
        (np.zeros((1, 2), np.int32), r"its answer has a wrong y: expected float32"),
        (np.zeros(2, np.float32), r"its answer has a wrong y: expected float32"),
    ],
)
def test_a_wrong_answer_is_named(y: Any, message: str) -> None:
    answers = {PATH: META, f"{PATH}/config": CONFIG}
    with canned(answers, lambda _: answer_of({"y": y, "n": N})) as url, Client(url) as client:
        remote = session(url, client)
        with pytest.raises(SessionError, match=message):
            remote.run({"x": np.zeros((1, 3), np.float32)})


OURS = {
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, -1]}],
    "outputs": [{"name": "result", "datatype": "UINT8", "shape": [-1, -1]}],
}


def test_our_model_must_say_what_it_is(local: Detector) -> None:
    with (
        canned({PATH: OURS}) as url,
        Client(url) as client,
        pytest.raises(SessionError, match="does not say what model it is; the server must"),
    ):
        open_remote(client, "m", local)


def test_options_of_our_model_that_are_damaged_are_refused(local: Detector) -> None:
    parameters = {METADATA_KEY: {"string_value": local.info.to_json()}, "yoloship.options": {"string_value": "{"}}
    with (
        canned({PATH: OURS, f"{PATH}/config": {"parameters": parameters}}) as url,
        Client(url) as client,
        pytest.raises(SessionError, match=r"its parameter yoloship.options is damaged"),
    ):
        open_remote(client, "m", local)


def test_the_same_network_without_a_record_is_taken_for_the_local_one(local: Detector) -> None:
    meta = {
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [1, 3, 64, 64]}],
        "outputs": [{"name": "output0", "datatype": "FP32", "shape": list(local.session.outputs[0].shape)}],
    }
    with canned({PATH: meta}) as url, Client(url) as client:
        assert open_remote(client, "m", local).info == local.info
    said = {"parameters": {"metadata": {"string_value": repr({"names": {0: "cow", 1: "dog"}})}}}
    with canned({PATH: meta, f"{PATH}/config": said}) as url, Client(url) as client:
        assert open_remote(client, "m", local).info.class_names == ("cow", "dog")


@pytest.mark.parametrize("text", ["[1]", "{", "__import__('os')", "{" * 500, "{'a': " * 5000, "\0", "7"])
def test_metadata_that_is_no_dictionary_is_refused_and_never_run(text: str) -> None:
    with pytest.raises(SessionError, match="m: its parameter metadata is damaged: expected a Python dictionary"):
        client_names(text, "m")


@pytest.mark.parametrize("text", ["", "{}", "{'names': 3}", "{'names': {1: 'a'}}"])
def test_metadata_without_names_has_none(text: str) -> None:
    assert client_names(text, "m") == ()


def test_a_server_that_refuses_is_said_to(local: Detector) -> None:
    with (
        canned({PATH: (500, {}, json.dumps({"error": "broken\x1b"}).encode())}) as url,
        Client(url) as client,
        pytest.raises(RemoteError, match="500: broken"),
    ):
        open_remote(client, "m", local)
