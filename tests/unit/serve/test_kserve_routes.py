"""Clients of KServe's protocol, Triton's own among them, get the numbers of the local session."""

from __future__ import annotations

import ast
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

import yoloship
from helpers.other_exports import detr_export
from helpers.serving import HW, cat_model, listening, segment_model, served, settings_of
from yoloship.kserve import (
    Client,
    InferAnswer,
    InferRequest,
    ProtocolError,
    RemoteError,
    Tensor,
    WantedOutput,
    decode_answer,
    encode_answer,
    encode_request,
)
from yoloship.serve.keys import ApiKeys
from yoloship.serve.settings import RequestLimits, ServedModel, ServeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

INFER = "/v2/models/cat/infer"
ONE = np.random.default_rng(3).random((1, 3, *HW)).astype(np.float32)
REQUEST = encode_request(InferRequest((Tensor.of("images", ONE),), parameters={"binary_data_output": True}))


class Place(NamedTuple):
    port: int
    files: dict[str, Path]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("models")
    files = {"cat": cat_model(folder), "seg": segment_model(folder), "detr": folder / "detr.onnx"}
    detr = detr_export()
    detr.metadata_props.add(key="names", value="{0: 'cat', 1: 'dog'}")
    onnx.save(detr, str(files["detr"]))
    models = tuple(ServedModel(name, str(path), {"tuned_for": "throughput"}) for name, path in files.items())
    with listening(ServeSettings(models, RequestLimits(max_images=4))) as port:
        yield Place(port, files)


@pytest.fixture
def official(place: Place) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(f"127.0.0.1:{place.port}", concurrency=4)
    yield client
    client.close()


@pytest.fixture
def ours(place: Place) -> Iterator[Client]:
    with Client(place.url) as client:
        yield client


def local(place: Place, name: str, images: npt.NDArray[np.float32]) -> dict[str, Any]:
    """The outputs of the session in this process."""
    with yoloship.load(place.files[name], tuned_for="throughput") as detector:
        session: Any = detector.session
        outputs = session.run({"images": images})
        return {spec.name: array for spec, array in zip(session.outputs, outputs, strict=True)}


def images_of(seed: int, count: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).random((count, 3, *HW)).astype(np.float32)


def triton_input(images: npt.NDArray[Any], *, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput("images", images.shape, "FP32")
    made.set_data_from_numpy(images, binary_data=binary)
    return made


def test_tritons_client_finds_the_server_and_its_models(official: triton.InferenceServerClient) -> None:
    assert official.is_server_live()
    assert official.is_server_ready()
    assert official.is_model_ready("cat")
    assert official.is_model_ready("cat", "1")
    assert not official.is_model_ready("dog")
    assert official.get_server_metadata()["name"] == "yoloship"
    assert [one["name"] for one in official.get_model_repository_index()] == ["cat", "seg", "detr"]
    metadata = official.get_model_metadata("seg", "1")
    assert [one["name"] for one in metadata["inputs"] + metadata["outputs"]] == ["images", "output0", "output1"]
    assert official.get_model_config("cat")["input"][0]["data_type"] == "TYPE_FP32"


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_tritons_client_gets_the_numbers_of_the_local_session(
    place: Place, official: triton.InferenceServerClient, binary: bool, count: int
) -> None:
    images = images_of(count, count)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("output1", "output0")]
    answer = official.infer("seg", [triton_input(images, binary=binary)], outputs=outputs, request_id="a-1")
    assert [one["name"] for one in answer.get_response()["outputs"]] == ["output1", "output0"]
    assert answer.get_response()["id"] == "a-1"
    for name, want in local(place, "seg", images).items():
        np.testing.assert_array_equal(answer.as_numpy(name), want)


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_sends_several_inputs_of_several_types(
    place: Place, official: triton.InferenceServerClient, binary: bool
) -> None:
    inputs = official.get_model_metadata("detr")["inputs"]
    assert [(one["name"], one["datatype"]) for one in inputs] == [("images", "FP32"), ("orig_target_sizes", "INT64")]
    arrays = {"images": np.zeros(inputs[0]["shape"], np.float32), "orig_target_sizes": np.array([[640, 480]])}
    given = []
    for one in reversed(inputs):
        given.append(triton.InferInput(one["name"], one["shape"], one["datatype"]))
        given[-1].set_data_from_numpy(arrays[one["name"]], binary_data=binary)
    answer = official.infer("detr", given)
    with yoloship.load(place.files["detr"], tuned_for="throughput") as detector:
        session: Any = detector.session
        want = session.run(arrays)
    for spec, array in zip(session.outputs, want, strict=True):
        found = answer.as_numpy(spec.name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_tritons_client_asks_for_all_outputs_if_it_names_none(
    place: Place, official: triton.InferenceServerClient
) -> None:
    answer = official.infer("seg", [triton_input(ONE)])
    for name, want in local(place, "seg", ONE).items():
        np.testing.assert_array_equal(answer.as_numpy(name), want)


def test_many_requests_at_once_each_get_their_own_numbers(place: Place, official: triton.InferenceServerClient) -> None:
    given = [images_of(seed, 1 + seed % 2) for seed in range(12)]
    waiting = [official.async_infer("seg", [triton_input(images)]) for images in given]
    for images, one in zip(given, waiting, strict=True):
        np.testing.assert_array_equal(one.get_result().as_numpy("output0"), local(place, "seg", images)["output0"])


def test_tritons_client_hears_what_is_wrong(official: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"\[404\] dog: there is no such model") as caught:
        official.get_model_metadata("dog")
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match=r"\[400\] images: wrong shape: expected \(1, 3, 64, 64\)"):
        official.infer("cat", [triton_input(np.zeros((2, 3, 64, 64), np.float32))])
    with pytest.raises(InferenceServerException, match="the model has no such output"):
        official.infer("cat", [triton_input(ONE)], outputs=[triton.InferRequestedOutput("boxes")])
    with pytest.raises(InferenceServerException, match="the parameter 'priority' is not supported"):
        official.infer("cat", [triton_input(ONE)], priority=3)
    with pytest.raises(InferenceServerException, match="the parameter 'classification' is not supported"):
        official.infer("cat", [triton_input(ONE)], outputs=[triton.InferRequestedOutput("output0", class_count=3)])


def test_the_statistics_count_what_was_asked(official: triton.InferenceServerClient) -> None:
    before = official.get_inference_statistics("seg")["model_stats"][0]
    official.infer("seg", [triton_input(images_of(1, 2))])
    after = official.get_inference_statistics("seg")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 2
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert {one["name"] for one in official.get_inference_statistics()["model_stats"]} == {"cat", "seg", "detr"}


class LikeUltralytics:
    """A client as Ultralytics' is described: it reads the configuration, and runs float images through it.

    The names of the outputs are sorted, and the metadata is a Python literal.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        assert scheme == "http"
        host, _, self.name = rest.partition("/")
        self._client = triton.InferenceServerClient(host)
        config = self._client.get_model_config(self.name)
        self.outputs = sorted(one["name"] for one in config["output"])
        (given,) = config["input"]
        self.input, self.datatype = given["name"], given["data_type"].removeprefix("TYPE_")
        self.metadata = ast.literal_eval(config["parameters"]["metadata"]["string_value"])

    def __call__(self, images: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        given = triton.InferInput(self.input, [*images.shape], self.datatype)
        given.set_data_from_numpy(images)
        wanted = [triton.InferRequestedOutput(name) for name in self.outputs]
        answer = self._client.infer(self.name, [given], outputs=wanted)
        self._client.close()
        return [answer.as_numpy(name) for name in self.outputs]


def test_a_client_like_ultralytics_finds_the_names_the_metadata_and_the_numbers(place: Place) -> None:
    client = LikeUltralytics(f"{place.url}/seg")
    assert (client.input, client.outputs, client.datatype) == ("images", ["output0", "output1"], "FP32")
    assert client.metadata["task"] == "segment"
    assert client.metadata["imgsz"] == list(HW)
    assert list(client.metadata["names"]) == [0, 1, 2]
    assert {"stride", "batch", "channels", "end2end"} <= client.metadata.keys()
    for found, want in zip(client(ONE), local(place, "seg", ONE).values(), strict=True):
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("binary", [True, False])
def test_our_client_gets_the_numbers_of_the_local_session(place: Place, ours: Client, binary: bool) -> None:
    assert ours.is_live()
    assert ours.is_ready()
    assert ours.is_ready("cat")
    assert ours.model_metadata("seg") == ours.model_metadata("seg", "1")
    images = images_of(9, 2)
    found = ours.infer("seg", {"images": images}, ["output0", "output1"], binary=binary)
    for name, want in local(place, "seg", images).items():
        np.testing.assert_array_equal(found[name], want)
    assert ours.statistics("seg")["model_stats"][0]["last_inference"] > 0


def test_one_output_may_come_as_json_and_another_as_bytes(place: Place, ours: Client) -> None:
    wanted = (WantedOutput("output0", {"binary_data": False}), WantedOutput("output1", {"binary_data": True}))
    answer = ours.ask("seg", InferRequest((Tensor.of("images", ONE),), wanted, "7"))
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "seg", "1")
    want = local(place, "seg", ONE)
    for one in answer.outputs:
        np.testing.assert_array_equal(one.array, want[one.name])


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (InferRequest(()), "the feeds are not the model's inputs: expected images, got none"),
        (InferRequest((Tensor.of("images", ONE), Tensor.of("x", [1]))), "expected images, got images, x"),
        (InferRequest((Tensor.of("images", ONE.astype(np.float64)),)), "images: wrong element type: expected float32"),
        (InferRequest((Tensor.of("images", np.concatenate([ONE] * 5)),)), "too many images: expected at most 4, got 5"),
        (
            InferRequest((Tensor.of("images", ONE),), parameters={"sequence_id": 5}),
            "the parameter 'sequence_id' is not",
        ),
        (InferRequest((Tensor.of("images", ONE),), parameters={"timeout": 0}), "timeout: wrong value: expected micro"),
        (
            InferRequest((Tensor.of("images", ONE),), parameters={"binary_data_output": 1}),
            "'binary_data_output' is not",
        ),
        (InferRequest((Tensor("images", "FP32", ONE, {"a": 1}),)), "images: the parameter 'a' is not supported"),
    ],
)
def test_what_the_model_does_not_take_is_refused_by_name(ours: Client, request_: InferRequest, words: str) -> None:
    with pytest.raises(RemoteError, match=words) as caught:
        ours.ask("seg", request_)
    assert caught.value.status == 400


def test_there_is_one_version(ours: Client) -> None:
    with pytest.raises(RemoteError, match="404: cat: there is no such version of the model: expected 1, got 2"):
        ours.model_config("cat", "2")


def test_a_timeout_of_a_request_is_a_deadline(ours: Client) -> None:
    request = InferRequest((Tensor.of("images", ONE),), parameters={"timeout": 1})
    with pytest.raises(RemoteError, match="deadline") as caught:
        ours.ask("cat", request)
    assert caught.value.status == 504


def test_numbers_that_json_cannot_say_are_asked_for_as_bytes(place: Place, ours: Client) -> None:
    bad = np.full_like(ONE, np.nan)
    found = ours.infer("seg", {"images": bad})
    assert any(np.isnan(array).any() for array in found.values())
    wanted = (WantedOutput("output1"),)
    with pytest.raises(
        RemoteError, match="400: output1: has NaN or infinity, which JSON cannot express; ask for it as b"
    ):
        ours.ask("seg", InferRequest((Tensor.of("images", bad),), wanted))


def test_a_request_needs_room_before_it_waits(tmp_path: Path) -> None:
    with served(settings_of(cat_model(tmp_path), RequestLimits(queue=1))) as server:
        with server.image_waiting("cat"):
            answer = server.ask("POST", INFER, content=REQUEST.body, headers=REQUEST.headers)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert "waiting or running" in answer.json()["error"]
        answer = server.ask("POST", INFER, content=REQUEST.body, headers={**REQUEST.headers, "X-Request-Id": "me"})
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == "me"
        assert "network;dur=" in answer.headers["server-timing"]
        text = server.ask("GET", "/metrics").text
        assert 'yoloship_rejected_total{model="cat",reason="BusyError"} 1.0' in text
        assert 'route="/v2/models/{name}/infer",status="200"' in text
        assert 'yoloship_batch_images_count{model="cat"} 1.0' in text
        assert server.app.state.server.bodies.held_bytes == 0
        assert server.app.state.server.models.host("cat").admission.held == 0


def test_long_json_has_room_before_it_waits_to_be_read_and_none_once_its_time_is_over(tmp_path: Path) -> None:
    given = encode_request(InferRequest((Tensor.of("images", ONE),)), binary=False)
    with served(settings_of(cat_model(tmp_path), RequestLimits(queue=1))) as server:
        host = server.app.state.server.models.host("cat")

        def ask(**headers: str) -> Any:
            return server.ask("POST", INFER, content=given.body, headers={**given.headers, **headers})

        assert ask().status_code == 200
        turn = host.loaded.network.json_turn
        server.do(turn.acquire())
        with ThreadPoolExecutor(1) as other:
            waiting = other.submit(ask)
            server.wait_until(lambda: host.admission.held == 1)
            assert ask().status_code == 429
            server.loop.call_soon_threadsafe(turn.release)
            assert waiting.result().status_code == 200
        server.do(turn.acquire())
        assert ask(**{"X-Deadline-Ms": "50"}).status_code == 504
        server.loop.call_soon_threadsafe(turn.release)
        assert ask().status_code == 200
        assert (host.admission.held, server.app.state.server.bodies.held_bytes) == (0, 0)


def test_a_request_needs_a_key_except_for_health(tmp_path: Path) -> None:
    key = "0123456789abcdef"
    with listening(settings_of(cat_model(tmp_path), keys=ApiKeys((key,)))) as port:
        with Client(f"http://127.0.0.1:{port}") as client:
            assert client.is_live()
            assert client.is_ready()
            with pytest.raises(RemoteError, match="401: the API key is missing"):
                client.infer("cat", {"images": ONE})
        with Client(f"http://127.0.0.1:{port}", api_key=key) as client:
            assert client.infer("cat", {"images": ONE})["output0"].shape == (1, 252, 7)


def test_a_body_is_no_longer_than_allowed_and_errors_have_the_form_of_the_protocol(tmp_path: Path) -> None:
    limits = RequestLimits(max_body_bytes=len(REQUEST.body) - 1)
    with served(settings_of(cat_model(tmp_path), limits)) as server:
        answer = server.ask("POST", INFER, content=REQUEST.body, headers=REQUEST.headers)
        assert (answer.status_code, set(answer.json())) == (413, {"error"})
        for method, path, status in (("GET", "/v2/nothing", 404), ("GET", INFER, 405), ("POST", "/v2", 405)):
            answer = server.ask(method, path)
            assert answer.status_code == status
            assert isinstance(answer.json()["error"], str)


def test_a_model_may_be_replaced_while_it_answers(tmp_path: Path) -> None:
    path = cat_model(tmp_path)
    with served(settings_of(path)) as server:
        stop, statuses = threading.Event(), set()

        def ask() -> None:
            while not stop.is_set():
                statuses.add(server.ask("POST", INFER, content=REQUEST.body, headers=REQUEST.headers).status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        before = server.app.state.server.models.host("cat").loaded
        (tmp_path / "new").mkdir()
        cat_model(tmp_path / "new").replace(path)
        server.wait_until(lambda: server.app.state.server.models.host("cat").loaded is not before)
        stop.set()
        thread.join()
        assert statuses == {200}
        server.wait_until(lambda: before.users == 0)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": true}'])
def test_the_index_lists_the_models(place: Place, body: bytes) -> None:
    import urllib.request

    asked = urllib.request.Request(f"{place.url}/v2/repository/index", body, method="POST")
    with urllib.request.urlopen(asked) as answer:
        assert json.load(answer)[0] == {"name": "cat", "version": "1", "state": "READY", "reason": ""}


def test_an_index_of_something_else_is_refused(tmp_path: Path) -> None:
    with served(settings_of(cat_model(tmp_path))) as server:
        for body in (b'{"all": 1}', b'{"ready": 1}', b"[]"):
            answer = server.ask("POST", "/v2/repository/index", content=body)
            assert answer.status_code == 400


def test_an_answer_with_too_few_bytes_would_be_seen() -> None:
    """What the comparisons above rest on."""
    whole = encode_answer(InferAnswer("m", (Tensor.of("y", ONE),)))
    assert decode_answer(whole.body, whole.head_bytes).outputs[0].array.shape == ONE.shape
    with pytest.raises(ProtocolError, match="y: binary_data_size is not a number of bytes that are left"):
        decode_answer(whole.body[:-1], whole.head_bytes)
